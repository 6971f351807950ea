"""`History`: what a training run has measured, a row for each epoch, as plain data to be read, drawn and saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .advice import Advice, read

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class History:
    """The measurements and events of a run; `history["loss"]` is a column, `len(history)` the number of epochs.

    epochs: a dict for each epoch: `loss` and, if there is one, the metric under its name, both averaged over the
        training examples during the epoch; `dev_loss`, `dev_<metric>`; `first_loss`, of the epoch's first batch; `lr`,
        of the first group; `gradient` and `largest_gradient`, the mean and maximum norm of the whole gradient before
        clipping; `epoch` and `step`, counted from 1; `seconds`; `examples`, the size of the first batch, on which
        `layers` was measured: for every layer, in call order, its `kind`, the root mean square of its `activation`,
        the share of `dead` units (zero for every example of the batch), the norm of its `gradient`, and `update`, the
        norm of its weights' update over the norm of the weights.
    events: dicts of `epoch`, `step`, `kind` and `text`: why the run ended, and changes made during it.
    metric: the metric's name, or None.
    """

    def __init__(
        self,
        epochs: Iterable[Mapping[str, Any]] = (),
        events: Iterable[Mapping[str, Any]] = (),
        metric: str | None = None,
    ) -> None:
        self.epochs: list[dict[str, Any]] = [dict(row) for row in epochs]
        self.events: list[dict[str, Any]] = [dict(event) for event in events]
        self.metric = metric

    def __len__(self) -> int:
        return len(self.epochs)

    def __contains__(self, name: str) -> bool:
        return any(name in row for row in self.epochs)

    def __getitem__(self, name: str) -> list[Any]:
        """A column, in order of the epochs that have it. Raises KeyError for a name that none has."""
        if name not in self:
            there = ", ".join(dict.fromkeys(key for row in self.epochs for key in row))
            raise KeyError(f"History: no column {name!r}; there are {there or 'none: no epoch has ended yet'}")
        return [row[name] for row in self.epochs if name in row]

    def layers(self, measure: str) -> dict[str, list[tuple[int, float]]]:
        """`(epoch, value)` pairs for each layer that has the measure, in call order."""
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self.epochs:
            for name, layer in row.get("layers", {}).items():
                if measure in layer:
                    found.setdefault(name, []).append((row["epoch"], layer[measure]))
        return found

    def note(self, kind: str, text: str, epoch: int, step: int) -> None:
        """Record an event: what was changed or has happened, in which epoch, after how many steps."""
        self.events.append({"kind": kind, "text": text, "epoch": epoch, "step": step})

    def advice(self) -> list[Advice]:
        """Advice from the curves: each `Advice` has a verdict, the evidence for it, and what to try. The list is empty
        if no problem is found, or it is too early to tell."""
        return read(self)

    def plot(self) -> Figure:
        """Loss, metric, learning rate, and per layer activations, gradients and update-to-weight ratios, as a Figure.

        Raises ImportError without matplotlib, ValueError before the end of the first epoch."""
        from .plots import curves

        return curves(self)

    def state_dict(self) -> dict[str, Any]:
        """Everything as plain data, in a few strings: the checkpoint of each epoch contains the rows of all epochs
        before it."""
        return {name: json.dumps(value, default=lambda number: number.tolist()) for name, value in vars(self).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict()`. Raises KeyError for anything else."""
        if set(state) != set(self.__dict__):
            raise KeyError(f"History.load_state_dict: expected {sorted(self.__dict__)}, got {sorted(state)}")
        self.__dict__.update({name: json.loads(text) for name, text in state.items()})

    def __repr__(self) -> str:
        if not self.epochs:
            return "<History, no epoch yet>"
        return f"<History, {len(self)} epochs: {summary(self.epochs[-1], self.metric)}>"


class Running:
    """The row of an epoch under way: means over the examples so far."""

    def __init__(self) -> None:
        self.totals: dict[str, float] = {}  # of the measures, times the examples
        self.batches = self.examples = 0
        self.seconds = 0.0
        self.first: dict[str, Any] = {}  # what only the first batch tells
        self.largest_gradient = 0.0

    def add(self, measures: Mapping[str, float], examples: int, seconds: float = 0.0) -> None:
        """Take in the measures of a batch, each a mean over its examples."""
        for name, value in measures.items():
            self.totals[name] = self.totals.get(name, 0.0) + value * examples
        self.batches += 1
        self.examples += examples
        self.seconds += seconds
        self.largest_gradient = max(self.largest_gradient, measures.get("gradient", 0.0))

    def means(self) -> dict[str, float]:
        return {name: total / self.examples for name, total in self.totals.items()}

    def row(self) -> dict[str, Any]:
        return {
            **self.means(), "largest_gradient": self.largest_gradient, "seconds": self.seconds, **self.first
        }  # fmt: skip


def summary(row: Mapping[str, Any], metric: str | None) -> str:
    """`loss 0.1234  dev_loss 0.2345  lr 0.001`: a row in a line."""
    names = ["loss", "dev_loss", *([metric, f"dev_{metric}"] if metric else []), "lr"]
    return "  ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
