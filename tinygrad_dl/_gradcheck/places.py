"""Causes that are a place: a gradient that is not summed, transposed, shifted, or at the wrong argument or element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array
from .suspect import Repair, Suspect, Trial

COLUMNS = 6  # of a Jacobian that are looked at
RESOLVED = 1e-5  # relative: their differences are as sharp as this


def unsummed(s: Suspect) -> str | None:
    """Summed over the broadcast axes, it is right."""
    got, shape = s.trials[0].got.shape, s.trials[0].x.shape
    if math.prod(got) > math.prod(shape):
        lead = len(got) - len(shape)
        axes = tuple(k for k, n in enumerate(got) if k < lead or (shape[k - lead] == 1 and n > 1))
        if s.holds(lambda t: np.sum(t.got, axis=axes).reshape(shape)):
            return f"the gradient has shape {got}: sum it over the broadcast axes {axes}"
        if s.holds(lambda t: np.mean(t.got, axis=axes).reshape(shape)):
            return f"the gradient has shape {got}: average it over the broadcast axes {axes}"
    for axis in _copied_along(s):
        if s.holds(_over_rolls(axis)):
            return f"the gradient takes one part of the broadcast axis {axis}: sum over it"
    return None


def _copied_along(s: Suspect) -> list[int]:
    """The axes of the output along which the argument was broadcast."""
    x, y = s.shapes
    lead = len(y) - len(x)
    return [k for k, n in enumerate(y) if n > 1 and (k < lead or x[k - lead] == 1)]


def _over_rolls(axis: int) -> Repair:
    """The sum of the rule's answers while everything is rolled along an axis of the output."""

    def repair(t: Trial) -> Array:
        n, back = t.y.shape[axis], axis - t.y.ndim

        def rolled(a: Any, k: int) -> Any:
            long = isinstance(a, np.ndarray) and a.ndim >= -back and a.shape[back] == n
            return np.roll(a, k, axis=back) if long else a

        answers = [t.rule(rolled(t.g, k), rolled(t.y, k), [rolled(a, k) for a in t.args]) for k in range(n)]
        return np.asarray(np.sum(answers, axis=0))

    return repair


def reshaped(s: Suspect) -> str | None:
    got, shape = s.trials[0].got.shape, s.trials[0].x.shape
    right = got != shape and s.holds(lambda t: t.got.reshape(t.x.shape))
    return f"the gradient has shape {got}, its argument {shape}: reshape it" if right else None


def transposed(s: Suspect) -> str | None:
    repairs: dict[str, Repair] = {
        "the rule's answer": lambda t: _turned(t.got),
        "the incoming gradient": lambda t: t.rule(g=_turned(t.g)),
        "the output": lambda t: t.rule(y=_turned(t.y)),
    }
    repairs |= {f"argument {k}": with_other(k, _turned) for k in s.arrays("f")}
    return next((f"{what} is to be transposed" for what, repair in repairs.items() if s.holds(repair)), None)


def _turned(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)  # fails for vectors: then the repair does not apply


def with_other(k: int, change: Callable[[Array], Array]) -> Repair:
    """What the rule answers to a changed argument k."""
    return lambda t: t.rule(args=[*t.args[:k], change(t.args[k]), *t.args[k + 1 :]])


def swapped(s: Suspect) -> str | None:
    for k in s.operation.live:
        first, second = sorted((s.i, k))
        if k != s.i and s.holds(_rule_of(k)):
            return f"the rules for arguments {first} and {second} are exchanged"
        if k != s.i and s.holds(_exchanged(first, second)):
            return f"the rule takes arguments {first} and {second} for each other"
    return None


def _rule_of(k: int) -> Repair:
    return lambda t: t.rule(i=k)


def _exchanged(i: int, k: int) -> Repair:
    return lambda t: t.rule(args=[t.args[{i: k, k: i}.get(n, n)] for n in range(len(t.args))])


def shifted(s: Suspect) -> str | None:
    """Moved along an axis it is right, with zeros or with the other end coming in."""
    for axis, n in enumerate(s.trials[0].x.shape):
        for k in (1, -1, 2, -2):
            if abs(k) < n and (s.holds(_moved(k, axis)) or s.holds(_rolled(k, axis))):
                return f"the gradient belongs {abs(k)} further {'on' if k > 0 else 'back'} along axis {axis}"
    return None


def _rolled(k: int, axis: int) -> Repair:
    return lambda t: np.roll(t.got, k, axis)


def _moved(k: int, axis: int) -> Repair:
    def repair(t: Trial) -> Array:
        moved = np.moveaxis(np.roll(t.got, k, axis), axis, 0).copy()
        moved[slice(0, k) if k > 0 else slice(k, None)] = 0
        return np.moveaxis(moved, 0, axis)

    return repair


def overwritten(s: Suspect) -> str | None:
    """Where an index occurs twice, both add up: the sum over the indices, each by itself, is right."""
    for k in s.arrays("iu"):
        indices = s.operation.args[k]
        if indices.ndim == 1 and len(np.unique(indices)) < indices.size and s.holds(_one_by_one(k)):
            text = f"where an index of argument {k} occurs twice the gradients overwrite each other"
            return f"{text}: add them up, as tg.scatter_add does"
    return None


def _one_by_one(k: int) -> Repair:
    def repair(t: Trial) -> Array:
        parts = (slice(m, m + 1) for m in range(t.args[k].size))
        answers = [t.rule(t.g[m], t.y[m], [*t.args[:k], t.args[k][m], *t.args[k + 1 :]]) for m in parts]
        return np.asarray(np.sum(answers, axis=0))

    return repair


def inverted(s: Suspect) -> str | None:
    """A mask lets through what it should stop."""
    for k in s.arrays("b"):
        if s.holds(with_other(k, np.logical_not)):
            return f"the mask, argument {k}, is inverted"
    if s.holds(lambda t: t.rule(y=-t.y, args=[*t.args[: t.i], -t.x, *t.args[t.i + 1 :]])):
        return "the sign that the mask asks for is inverted"
    if any(map(s.holds, (_rest(axis) for axis in (None, *range(s.trials[0].x.ndim))))):
        return "the gradient goes where it should not, and not where it should"
    return None


def _rest(axis: int | None) -> Repair:
    """What of the incoming gradient the rule does not pass on; axis: that a reduction took away."""
    return lambda t: (t.g if axis is None else np.expand_dims(t.g, axis)) - t.got


def mistaken(s: Suspect) -> str | None:
    """One value read for another."""
    if s.holds(lambda t: t.rule(y=t.x)):
        return "the rule reads the output where it should read the argument"
    if s.holds(lambda t: t.rule(args=[*t.args[: t.i], t.y, *t.args[t.i + 1 :]])):
        return "the rule reads the argument where it should read the output"
    return None


def diagonal(s: Suspect) -> str | None:
    """With what differences give beside the diagonal of the Jacobian, it is right."""
    beside = False
    for t in s.trials:
        if t.x.shape != t.y.shape or t.got.shape != t.x.shape:
            return None
        for k in np.linspace(0, t.x.size - 1, COLUMNS).astype(int):
            terms = t.g.reshape(-1) * t.column(int(k)).reshape(-1)
            size = float(np.abs(terms).sum())
            if abs(t.got.flat[k] - terms[k]) > RESOLVED * size:
                return None
            beside = beside or size - abs(terms[k]) > 100 * RESOLVED * size
    text = "the gradient is that of the diagonal: elements of the output depend on more than their own"
    return text if beside else None
