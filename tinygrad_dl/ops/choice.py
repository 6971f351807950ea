"""Choosing between arrays, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import primitive
from ._arguments import Array, answers, asarray
from .creation import copy as copy_of
from .index import nonzero, take_along_axis
from .join import stack
from .logic import isnan, isneginf, isposinf
from .shape import broadcast_arrays, expand_dims, squeeze

if TYPE_CHECKING:
    from .._tensor import Tensor


def _within(a: Any, low: Any, high: Any) -> Any:
    above: Any = True if low is None else np.greater_equal(a, low)
    return above if high is None else above & np.less_equal(a, high)


def _below(a: Any, low: Any, high: Any) -> Any:
    return np.less(a, low) if high is None else np.less(a, low) & np.less(low, high)


def _above(a: Any, low: Any, high: Any) -> Any:
    return np.greater(a, high) if low is None else np.greater(a, high) | np.less(high, low)


_where = primitive(
    lambda condition, x, y: np.where(condition, x, y),
    None,
    lambda g, _y, c, _a, _b: np.where(c, g, 0),
    lambda g, _y, c, _a, _b: np.where(c, 0, g),
    name="where",
    elementwise=True,
)
_clip = primitive(
    lambda a, low, high: np.clip(a, low, high),
    lambda g, _y, a, low, high: np.where(_within(a, low, high), g, 0),
    lambda g, _y, a, low, high: np.where(_below(a, low, high), g, 0),
    lambda g, _y, a, low, high: np.where(_above(a, low, high), g, 0),
    name="clip",
    elementwise=True,
)


@answers()
def where(condition: Array, x: Array = None, y: Array = None) -> Tensor:
    """x where the condition holds, y elsewhere. With the condition alone, `nonzero` of it."""
    if x is None and y is None:
        return nonzero(condition)
    if x is None or y is None:
        raise ValueError("where: expected both x and y, or neither, got one")
    return _where(condition, x, y)


@answers()
def clip(a: Array, a_min: Array = None, a_max: Array = None, *, min: Array = None, max: Array = None) -> Tensor:
    """No less than `min` and no more than `max`; either may be None.

    An element at a bound keeps its gradient; beyond it, the bound gets it; neither does where min >= max."""
    return _clip(a, a_min if min is None else min, a_max if max is None else max)


@answers()
def select(condlist: Sequence[Array], choicelist: Sequence[Array], default: Array = 0) -> Tensor:
    """Of several choices, elementwise, the first whose condition holds, else the default."""
    if len(condlist) != len(choicelist):
        raise ValueError(f"select: expected a choice per condition, got {len(choicelist)} and {len(condlist)}")
    pairs = reversed(list(zip(condlist, choicelist, strict=True)))
    return reduce(lambda rest, pair: where(pair[0], pair[1], rest), pairs, default)


@answers()
def choose(a: Array, choices: Sequence[Array]) -> Tensor:
    """Of several choices, elementwise, the one with the number that `a` holds there."""
    index, *parts = broadcast_arrays(a, *choices)
    return squeeze(take_along_axis(stack(parts), expand_dims(index, 0), 0), axis=0)


@answers()
def nan_to_num(
    x: Array, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN, inf and -inf replaced by numbers, the infinities by default by the largest and smallest of the dtype.
    Integers and booleans stay as they are.

    Gradient 0 there. `copy` is without meaning: the result is always new."""
    x = asarray(x)
    if x.dtype.kind != "f":
        return copy_of(x)
    limits = np.finfo(x.dtype)
    x = where(isnan(x), nan, x)
    x = where(isposinf(x), float(limits.max) if posinf is None else posinf, x)
    return where(isneginf(x), float(limits.min) if neginf is None else neginf, x)
