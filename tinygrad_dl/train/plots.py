"""A history's curves as one matplotlib Figure: loss, metric, learning rate, and what the layers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .history import History

TRAIN, DEV, USUAL = "#2f6db5", "#d1495b", "#8a8f98"
MOST = 24  # layers in a legend
STYLE: Any = {"font.size": 9.0, "axes.titlesize": 10.0, "axes.titlelocation": "left", "svg.fonttype": "path"}


def curves(history: History) -> Figure:
    """Six panels; a metric or layers that were not measured leave theirs out.

    Raises ImportError without matplotlib, ValueError for a history without epochs."""
    if not history.epochs:
        raise ValueError("History.plot: there is nothing to draw before the end of the first epoch")
    with _matplotlib().rc_context(STYLE):
        figure = new_figure(11.0, 6.0)
        panels = [_loss, _rate, *([_metric] if history.metric and history.metric in history else [])]
        panels += [_layers(measure) for measure in LAYERS if history.layers(measure)]
        axes = figure.subplots(2, 3).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            panel(axis, history)
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            finish(axis)
        for axis in axes[len(panels) :]:
            axis.remove()
        _legend(figure, history)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty Figure, in inches; no window, and nothing that is kept."""
    figure: Figure = _matplotlib().figure.Figure(figsize=(width, height), layout="constrained")
    return figure


def finish(axis: Any) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _matplotlib() -> Any:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "tinygrad-dl[train]"') from error
    return matplotlib


def _pair(axis: Any, history: History, name: str) -> None:
    for column, label, color in ((name, "train", TRAIN), (f"dev_{name}", "dev", DEV)):
        if column in history:
            points = [(row["epoch"], row[column]) for row in history.epochs if column in row]
            axis.plot(*zip(*points, strict=True), color=color, label=label, marker=_marker(points))
    axis.legend(frameon=False)


def _loss(axis: Any, history: History) -> None:
    _pair(axis, history, "loss")
    axis.set_title("loss")
    losses = [value for name in ("loss", "dev_loss") if name in history for value in history[name]]
    if min(losses) > 0 and max(losses) > 10 * min(losses):
        axis.set_yscale("log")


def _metric(axis: Any, history: History) -> None:
    assert history.metric is not None
    _pair(axis, history, history.metric)
    axis.set_title(history.metric)


def _rate(axis: Any, history: History) -> None:
    points = [(row["epoch"], row["lr"]) for row in history.epochs if "lr" in row]
    axis.plot(*zip(*points, strict=True), color=TRAIN, marker=_marker(points))
    axis.set_title("learning rate")
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axis.set_ylim(bottom=0)


LAYERS = {
    "activation": "activations: root mean square",
    "gradient": "gradients: norm",
    "update": "size of updates to weights (usual: 0.001)",
}


def _layers(measure: str) -> Any:
    """One line for each layer, from the first (dark) to the last (light)."""

    def draw(axis: Any, history: History) -> None:
        colors = _colors(history)
        for name, points in history.layers(measure).items():
            if any(value > 0 for _, value in points):
                shown = [(epoch, value if value > 0 else np.nan) for epoch, value in points]
                label, color = colors[name]
                style: Any = {"color": color, "label": label, "marker": _marker(points), "linewidth": 1.2}
                axis.plot(*zip(*shown, strict=True), **style)
        axis.set_yscale("log")
        axis.set_title(LAYERS[measure])
        if measure == "update":
            axis.axhline(1e-3, color=USUAL, linestyle="--", linewidth=1)

    return draw


def _colors(history: History) -> dict[str, tuple[str, Any]]:
    """Of every layer its label, and a colour, the same in every panel."""
    from matplotlib import colormaps

    kinds: dict[str, str] = {}
    for row in history.epochs:
        for name, layer in row.get("layers", {}).items():
            kinds[name] = layer.get("kind") or kinds.get(name, "")
    colors = colormaps["viridis"](np.linspace(0, 0.9, len(kinds)))
    return {name: (f"{name} {kind}".strip(), color) for (name, kind), color in zip(kinds.items(), colors, strict=True)}


def _legend(figure: Figure, history: History) -> None:
    """The layers, once for all panels; of very many the first and the last."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, label=label) for label, color in _colors(history).values()]
    if handles:
        handles = handles if len(handles) <= MOST else [handles[0], handles[-1]]
        columns = max(1, min(8, 150 // max(len(str(handle.get_label())) + 4 for handle in handles)))
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _marker(points: Any) -> str | None:
    """One point makes no line."""
    return "o" if len(points) == 1 else None
