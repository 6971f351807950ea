"""What a run's curves say: a table of rules, each a verdict, the figures that it stands on, and what to try.

A rule speaks only beyond a clear threshold, so that a healthy run is met with silence. Losses are compared with the
first batch's, `start`, before anything was learned; what an earlier rule explains, a later one does not repeat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..graph import Array
from ..insight.signals import ACTIVATIONS, DEAD, GRADIENTS, PROBE

if TYPE_CHECKING:
    from .history import History

Figures = dict[str, Any]

TREND = 4  # epochs before a curve's direction is read
ACCURATE = 0.75  # training accuracy that is not low


@dataclass(frozen=True)
class Advice:
    """A verdict on a run; `figures` holds the numbers in `evidence` by name."""

    verdict: str
    evidence: str
    remedy: str
    figures: Figures

    def __str__(self) -> str:
        return f"{self.verdict}: {self.evidence}. Try: {self.remedy}."


class Rule(NamedTuple):
    verdict: str
    figures: Callable[[Curves], Figures | None]  # None: nothing to say
    evidence: str  # with the figures' names in braces
    remedy: str
    explained_by: tuple[str, ...] = ()


class Curves:
    """The columns that the rules read."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.loss = _column(history, "loss")
        self.dev = _column(history, "dev_loss")
        self.start = float(history.epochs[0].get("first_loss", self.loss[0])) if len(self.loss) else np.nan
        self.fall = self.start - self.loss[-1] if len(self.loss) else np.nan
        self.quarter = max(len(self.loss) // 4, 1)
        self.accuracy, self.dev_accuracy = _column(history, "accuracy"), _column(history, "dev_accuracy")

    def moves(self, first: int = 0) -> tuple[float, float]:
        """How much the training loss rose and how much it fell from an epoch on, summed over the epochs."""
        steps = np.diff(self.loss[first:])
        return float(steps[steps > 0].sum()), float(-steps[steps < 0].sum())

    def per_layer(self, measure: str) -> dict[str, float]:
        """The median over the epochs of every layer's measure."""
        layers = self.history.layers(measure)
        return {name: float(np.median([value for _, value in pairs])) for name, pairs in layers.items()}


def _column(history: History, name: str) -> Array:
    return np.array([row[name] for row in history.epochs if name in row], np.float64)


def read(history: History) -> list[Advice]:
    """The rules' verdicts on a history, each at most once."""
    curves = Curves(history)
    found: dict[str, Advice] = {}
    for rule in RULES:
        if rule.verdict in found or any(name in found for name in rule.explained_by):
            continue
        with np.errstate(all="ignore"):
            figures = rule.figures(curves)
        if figures is not None:
            plain = {name: v.item() if isinstance(v, np.generic) else v for name, v in figures.items()}
            found[rule.verdict] = Advice(rule.verdict, rule.evidence.format(**plain), rule.remedy, plain)
    return list(found.values())


# what the rules look for


def _not_finite(c: Curves) -> Figures | None:
    for event in c.history.events:
        if event["kind"] == "not finite":
            return {"epoch": event["epoch"], "step": event["step"], "where": event["text"].splitlines()[0]}
    return None


def _rising(c: Curves) -> Figures | None:
    if len(c.loss) < 2:
        return None
    curve = np.concatenate([[c.start], c.loss])
    lowest = int(curve.argmin())
    up, down = c.moves(max(lowest - 1, 0))
    rise = curve[-1] - curve[lowest]
    if rise > 0.25 * abs(c.start) and curve[-1] > 1.5 * curve[lowest] and down < 0.3 * up:
        return {"lowest": curve[lowest], "at": lowest, "last": curve[-1], "epochs": len(c.loss)}
    return None


def _gradients_grow(c: Curves) -> Figures | None:
    return _ends(c.per_layer("gradient"), lambda first, last: first > GRADIENTS * last)


def _gradients_fade(c: Curves) -> Figures | None:
    return _ends(c.per_layer("gradient"), lambda first, last: first * GRADIENTS < last)


def _activations_grow(c: Curves) -> Figures | None:
    return _ends(c.per_layer("activation"), lambda first, last: first * ACTIVATIONS < last)


def _activations_fade(c: Curves) -> Figures | None:
    return _ends(c.per_layer("activation"), lambda first, last: first > ACTIVATIONS * last)


def _ends(layers: dict[str, float], wrong: Callable[[float, float], bool]) -> Figures | None:
    """The first and the last of at least three layers, if what they measure is wrong."""
    if len(layers) < 3:
        return None
    names, values = list(layers), list(layers.values())
    if not wrong(values[0], values[-1]):
        return None
    return {"first": names[0], "first_value": values[0], "last": names[-1], "last_value": values[-1]}


def _gradient_jumps(c: Curves) -> Figures | None:
    largest, mean = _column(c.history, "largest_gradient"), _column(c.history, "gradient")
    if not len(largest) or not largest.max() > 100 * mean[0]:
        return None
    return {"largest": float(largest.max()), "epoch": int(largest.argmax()) + 1, "mean": float(mean[0])}


def _dead(c: Curves) -> Figures | None:
    row = c.history.epochs[-1] if len(c.history) else {}
    if row.get("examples", 0) < PROBE:
        return None
    shares = {name: layer["dead"] for name, layer in row.get("layers", {}).items() if layer.get("dead", 0) >= DEAD}
    if not shares:
        return None
    listed = ", ".join(f"{share:.0%} of {name!r}" for name, share in shares.items())
    return {"listed": listed, "examples": row["examples"], **shares}


def _starts_by_rising(c: Curves) -> Figures | None:
    if not len(c.loss) or not c.loss[0] > 1.5 * c.start > 0:
        return None
    return {"start": c.start, "first": c.loss[0]}


def _swings(c: Curves) -> Figures | None:
    half = len(c.loss) // 2
    if len(c.loss) < TREND:
        return None
    up, down = c.moves(half - 1)
    if min(up, down) <= 0.15 * abs(c.start):
        return None
    return {"up": up, "down": down, "epochs": len(c.loss) - half, "start": c.start}


def _large_updates(c: Curves) -> Figures | None:
    half = len(c.history) // 2
    ratios = [layer["update"] for row in c.history.epochs[half:] for layer in row.get("layers", {}).values()
              if "update" in layer]  # fmt: skip
    if len(c.history) < TREND or not ratios or not np.median(ratios) > 0.1:
        return None
    return {"ratio": float(np.median(ratios))}


def _creeps(c: Curves) -> Figures | None:
    n = len(c.loss)
    if n < TREND or not c.loss[-1] > 0.5 * c.start:
        return None
    up, down = c.moves()
    early, late = c.loss[0] - c.loss[n // 2], c.loss[n // 2] - c.loss[-1]
    if not (down > 0 and up < 0.2 * down and late > 0.4 * early > 0):
        return None
    return {"fall": 1 - c.loss[-1] / c.start, "late": late, "early": early, "epochs": n}


def _dev_rises(c: Curves) -> Figures | None:
    if len(c.dev) < TREND or len(c.dev) != len(c.loss):
        return None
    best = int(c.dev.argmin())
    rise = c.dev[-1] - c.dev[best]
    if rise > 0.2 * c.dev[best] and rise > 0.05 * c.fall and c.loss[-1] < c.loss[best]:
        return {"best": c.dev[best], "epoch": best + 1, "last": c.dev[-1], "then": c.loss[best], "now": c.loss[-1]}
    return None


def _gap(c: Curves) -> Figures | None:
    if len(c.dev) < TREND or len(c.dev) != len(c.loss):
        return None
    gap = c.dev[-1] - c.loss[-1]
    if gap > 0.2 * c.fall and gap > 0.3 * c.dev[-1] and c.fall > 0.1 * abs(c.start):
        return {"train": c.loss[-1], "dev": c.dev[-1], "share": gap / c.fall}
    return None


def _accuracy_gap(c: Curves) -> Figures | None:
    if len(c.dev_accuracy) < TREND or c.accuracy[-1] - c.dev_accuracy[-1] <= 0.1:
        return None
    return {"train": c.accuracy[-1], "dev": c.dev_accuracy[-1]}


def _stuck(c: Curves) -> Figures | None:
    """Both losses high and no longer falling, without a gap."""
    if len(c.loss) < 2 * TREND:
        return None
    late = c.loss[-1] - c.loss[-1 - c.quarter]
    high = c.loss[-1] > 0.4 * c.start or (len(c.accuracy) and c.accuracy[-1] < ACCURATE)
    gap = c.dev[-1] - c.loss[-1] if len(c.dev) else 0.0
    if not (high and abs(late) < 0.02 * abs(c.start) and gap < 0.1 * abs(c.start)):
        return None
    dev = f", dev {c.dev[-1]:.3g}" if len(c.dev) else ""
    return {"train": c.loss[-1], "dev": dev, "share": c.loss[-1] / c.start, "late": late, "epochs": c.quarter}


_RATE = "a learning rate three to ten times smaller, or a warm-up"
_DEPTH = "initialisation that suits the activation (He for ReLU, Xavier for tanh), batch norm"
_REGULARISE = "more data, weight decay, dropout, early stopping, or a smaller model"

# thresholds: an update of about a thousandth of the weights is usual (Karpathy, CS231n notes: Ratio of
# weights:updates); the readings of gaps and levels are those of Ng, Machine Learning Yearning, on bias and variance
RULES = (
    Rule("diverging", _not_finite, "{where}", f"{_RATE}; clipping; normalised inputs"),
    Rule("diverging", _rising, "the training loss rose from {lowest:.3g} after epoch {at} to {last:.3g} after {epochs}",
         f"{_RATE}; clipping"),
    Rule("exploding", _gradients_grow,
         "the gradient's norm is {first_value:.2g} in layer {first!r} and {last_value:.2g} in layer {last!r}, the last",
         f"clipping; {_DEPTH}"),
    Rule("exploding", _activations_grow,
         "activations grow from {first_value:.2g} in layer {first!r} to {last_value:.2g} in layer {last!r}", _DEPTH),
    Rule("exploding", _gradient_jumps,
         "the gradient's norm reached {largest:.2g} in epoch {epoch}; its mean in the first epoch was {mean:.2g}",
         "clipping at a few times the usual norm; a smaller learning rate"),
    Rule("vanishing", _gradients_fade,
         "the gradient's norm is {first_value:.2g} in layer {first!r} and {last_value:.2g} in layer {last!r}, the last",
         f"{_DEPTH}; ReLU instead of sigmoid; fewer layers"),
    Rule("vanishing", _activations_fade,
         "activations shrink from {first_value:.2g} in layer {first!r} to {last_value:.2g} in layer {last!r}", _DEPTH),
    Rule("dead units", _dead, "zero for each of {examples} examples: {listed}",
         "a smaller learning rate, leaky ReLU, He initialisation, batch norm before the ReLU"),
    Rule("rate too high", _starts_by_rising,
         "the first batch's loss was {start:.3g}, the mean of the first epoch {first:.3g}", _RATE),
    Rule("rate too high", _swings,
         "in the last {epochs} epochs the training loss rose by {up:.3g} and fell by {down:.3g} in all; "
         "it began at {start:.3g}", f"{_RATE}; a schedule that lowers it", ("diverging",)),
    Rule("rate too high", _large_updates,
         "a step changes weights by {ratio:.1%} of their norm (median of the second half); 0.1% is usual", _RATE),
    Rule("rate too low", _creeps,
         "after {epochs} epochs the training loss has fallen by {fall:.1%}, {late:.2g} in the second half and "
         "{early:.2g} in the first: a straight line", "a learning rate three to ten times larger; `find_lr`",
         ("vanishing", "dead units")),
    Rule("overfitting", _dev_rises,
         "dev loss rose from {best:.3g} (epoch {epoch}) to {last:.3g} while training loss fell from {then:.3g} to "
         "{now:.3g}", _REGULARISE, ("diverging",)),
    Rule("overfitting", _gap,
         "dev loss {dev:.3g} against training loss {train:.3g}, a gap of {share:.0%} of what was learned", _REGULARISE,
         ("diverging",)),
    Rule("overfitting", _accuracy_gap, "accuracy {train:.1%} in training and {dev:.1%} on dev data", _REGULARISE,
         ("diverging",)),
    Rule("underfitting", _stuck,
         "training loss {train:.3g}{dev}, {share:.0%} of its first value, and changed by {late:+.2g} in the last "
         "{epochs} epochs", "a larger model, less regularisation, longer training, other features or architecture",
         ("diverging", "exploding", "vanishing", "dead units", "rate too high", "rate too low")),
)  # fmt: skip
