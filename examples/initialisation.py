"""How far signals come through 20 layers from four initialisations, and why zeros make one unit of many.

The first picture has the size of activations and gradients layer by layer; the second the lines at which the
hidden units of a small network switch, after training from zeros and from Xavier's draws.
Run: python examples/initialisation.py [--out out]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

DEPTH, WIDTH = 20, 100
INITS = {
    "zeros": ("zeros_", "#8a94a0"),
    "N(0, 1)": ("normal_", "#d1495b"),
    "Xavier": ("xavier_normal_", "#3a8f5c"),
    "He": ("he_normal_", "#2f6db5"),
}


def rms(tensor: tg.Tensor) -> float:
    """The root mean square of the elements."""
    return float(np.sqrt(np.square(tensor.numpy()).mean()))


def signals(init: str, activation: type[nn.Module]) -> tuple[list[float], list[float]]:
    """Of each of 20 layers, the size of its activations and of the gradients that arrive at them."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(256, WIDTH)), rng.integers(0, 10, 256)
    tg.seed(0)
    layers = [part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH, init=init), activation())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10, init=init)).astype(np.float64)
    h, hidden = tg.tensor(x), []
    for layer in model:
        h = layer(h)
        if isinstance(layer, activation):
            h.retain_grad()
            hidden.append(h)
    nn.functional.cross_entropy(h, labels).backward()
    return [rms(a.detach()) for a in hidden], [rms(a.grad) for a in hidden]


def plot_signals(path: Path) -> None:
    """Activations on the left, gradients on the right; tanh above, ReLU below."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex=True, layout="constrained")
    depth = np.arange(1, DEPTH + 1)
    for row, activation in zip(axes, (nn.Tanh, nn.ReLU), strict=True):
        found = {name: signals(init, activation) for name, (init, _) in INITS.items()}
        for side, (axis, what) in enumerate(zip(row, ("activations", "gradients"), strict=True)):
            positive = [v for values in found.values() for v in values[side] if v > 0]
            floor = min(positive) / 30  # a logarithmic axis has no zero: a line of its own, at the bottom
            for name, (_, color) in INITS.items():
                values = np.array(found[name][side])
                label = f"{name}: exactly 0" if not values.any() else name
                style = {"linestyle": "--"} if not values.any() else {"marker": "o", "markersize": 3}
                axis.semilogy(depth, np.maximum(values, floor), color=color, label=label, **style)
            axis.set_title(f"{activation.__name__}: {what}", fontsize=11)
            axis.set_ylabel("root mean square")
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        for name, (forward, backward) in found.items():
            print(f"{activation.__name__:5} {name:8} layer 20 / layer 1: activations {ratio(forward):9.1e}, ", end="")
            print(f"layer 1 / layer 20: gradients {ratio(backward[::-1]):9.1e}")
    for axis in axes[1]:
        axis.set(xlabel="layer", xticks=[1, 5, 10, 15, 20])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def ratio(values: list[float]) -> float:
    """The last by the first, 0 for nothing by nothing."""
    return values[-1] / values[0] if values[0] else 0.0


def train(init: str, x: np.ndarray, labels: np.ndarray) -> nn.Sequential:
    """A network of 8 hidden units, all of whose weights are drawn by `init`."""
    tg.seed(1)
    model = nn.Sequential(nn.Linear(2, 8, init=init), nn.Sigmoid(), nn.Linear(8, 2, init=init))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    return model


def plot_units(path: Path) -> None:
    """The classes that a trained network sees, and the line at which each hidden unit is ½."""
    rng = np.random.default_rng(0)
    radius = np.concatenate([rng.normal(0.6, 0.25, 120), rng.normal(2.2, 0.25, 120)])
    angle = rng.uniform(0, 2 * np.pi, 240)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    labels = np.repeat([0, 1], 120)
    grid = np.stack(np.meshgrid(np.linspace(-3.2, 3.2, 160), np.linspace(-3.2, 3.2, 160)), axis=-1)
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.5), layout="constrained")
    for axis, name in zip(axes, ("zeros", "Xavier"), strict=True):
        model = train(INITS[name][0], x, labels)
        with tg.no_grad():
            share = nn.functional.softmax(model(grid.reshape(-1, 2).astype(np.float32))).numpy()[:, 1]
            accuracy = float((model(x).argmax(axis=1) == labels).mean().item())
        axis.contourf(
            grid[..., 0], grid[..., 1], share.reshape(160, 160), levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.5
        )
        units = np.column_stack([model[0].weight.detach().numpy(), model[0].bias.detach().numpy()])
        for a, b, c in units:  # the line ax + by + c = 0, from its nearest point to the origin
            foot, along = -c * np.array([a, b]) / (a * a + b * b), np.array([-b, a]) / np.hypot(a, b)
            axis.plot(*(foot[:, None] + along[:, None] * [-9, 9]), color="#20262e", linewidth=1.4)
        for value, color in ((0, "#2f6db5"), (1, "#d1495b")):
            axis.scatter(*x[labels == value].T, s=12, color=color, edgecolor="white", linewidth=0.4, zorder=3)
        count = len(np.unique(units, axis=0))
        lines = "1 line" if count == 1 else f"{count} lines"
        axis.set(xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), aspect="equal", xticks=[], yticks=[])
        axis.set_title(f"{name}: 8 hidden units on {lines}, accuracy {accuracy:.0%}", fontsize=11)
        print(f"{name}: 8 hidden units on {lines}, accuracy {accuracy:.3f}")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    plot_signals(out / "signals.png")
    plot_units(out / "units.png")
    print("written:", out / "signals.png", out / "units.png")


if __name__ == "__main__":
    main()
