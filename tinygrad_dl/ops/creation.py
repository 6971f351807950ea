"""Conversions, copies, and arrays shaped like another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import unbroadcast
from ..primitive import primitive
from ._arguments import Array, Shape, answers, asarray, numpy_functions, without_gradient
from .elementwise import subtract

if TYPE_CHECKING:
    from .._tensor import Tensor


def _astype(x: Array, dtype: Any) -> Any:
    """A copy in another dtype. The gradient comes back in x's own; integers and booleans have none."""
    return np.asarray(x).astype(dtype)


def _copy(a: Array) -> Any:
    """The same values in memory of their own."""
    return np.array(a)


def _full_like(a: Array, fill_value: Array, dtype: Any = None, *, shape: Shape | None = None) -> Any:
    """An array of a's shape and dtype with every element `fill_value`, which may have a gradient."""
    return np.full_like(a, fill_value, dtype, shape=shape)


astype = primitive(_astype, lambda g, _y, _x, dtype: g.astype(_x.dtype), name="astype", numpy=numpy_functions("astype"))
copy = primitive(_copy, lambda g, *_: g, name="copy", numpy=np.copy)
full_like = primitive(
    _full_like,
    None,
    lambda g, _y, _a, fill_value, dtype=None, shape=None: unbroadcast(g, np.shape(fill_value)),
    name="full_like",
    numpy=np.full_like,
)


@without_gradient()
def zeros_like(a: Array, dtype: Any = None, *, shape: Shape | None = None) -> Any:
    """Zeros of a's shape and dtype."""
    return np.zeros_like(a, dtype, shape=shape)


@without_gradient()
def ones_like(a: Array, dtype: Any = None, *, shape: Shape | None = None) -> Any:
    """Ones of a's shape and dtype."""
    return np.ones_like(a, dtype, shape=shape)


@without_gradient()
def empty_like(a: Array, dtype: Any = None, *, shape: Shape | None = None) -> Any:
    """An array of a's shape and dtype with arbitrary values."""
    return np.empty_like(a, dtype, shape=shape)


@answers()
def linspace(start: Array, stop: Array, num: int = 50, endpoint: bool = True) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, along a new first axis."""
    start, stop = (x if isinstance(x, int | float) else asarray(x) for x in (start, stop))
    span = subtract(stop, start)
    weight = np.arange(num, dtype=span.dtype if span.dtype.kind == "f" else float)
    weight = (weight / max(num - endpoint, 1)).reshape((num,) + (1,) * span.ndim)
    return start * (1 - weight) + stop * weight
