"""Along an axis: running sums and products, differences, the trapezoid rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..primitive import primitive
from ._arguments import Array, answers, asarray, part
from .elementwise import subtract
from .index import getitem
from .join import concatenate
from .logic import not_equal
from .reduction import sum
from .shape import broadcast_to, ravel, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor


def _recurrence_kernel(b: Any, c: Any, axis: int) -> Any:
    """h where h[0] = b[0] and h[k] = b[k] + c[k]·h[k - 1]."""
    h = np.array(b)
    rows, factors = np.moveaxis(h, axis, 0), np.moveaxis(c, axis, 0)
    for k in range(1, len(rows)):
        rows[k] += factors[k] * rows[k - 1]
    return h


def _shifted(x: Any, first: int, axis: int) -> Any:
    """Every element in the place of the next, behind a constant."""
    return np.concatenate([np.full_like(x[part(axis, slice(1))], first), x[part(axis, slice(-1))]], axis)


def _backwards(g: Any, c: Any, axis: int) -> Any:
    """The gradient of a recurrence with factors c in its b: a recurrence that runs the other way."""
    return np.flip(_recurrence(np.flip(g, axis), _shifted(np.flip(c, axis), 0, axis), axis=axis), axis)


_recurrence = primitive(
    _recurrence_kernel,
    lambda g, _y, _b, c, axis: _backwards(g, c, axis),
    lambda g, y, _b, c, axis: _backwards(g, c, axis) * _shifted(y, 0, axis),
    name="recurrence",
)
_cumsum = primitive(
    lambda x, axis, dtype=None: np.add.accumulate(x, axis, dtype),
    lambda g, _y, _x, axis, dtype=None: np.flip(np.cumsum(np.flip(g, axis), axis), axis),
    name="cumsum",
)
_cumprod = primitive(  # y[k] = x[k]·y[k - 1] is a recurrence too; written so, zeros need no special case
    lambda x, axis, dtype=None: np.multiply.accumulate(x, axis, dtype),
    lambda g, y, x, axis, dtype=None: _backwards(g, x, axis) * _shifted(y, 1, axis),
    name="cumprod",
)


def _scan(op: Any, a: Any, axis: int | None, dtype: Any) -> Any:
    a = asarray(a)
    if axis is None or (not a.ndim and axis in (0, -1)):
        a, axis = ravel(a), 0
    keywords = {} if dtype is None else {"dtype": dtype}
    return op(a, axis=normalize_axis_index(axis, a.ndim), **keywords)


@answers()
def cumsum(a: Array, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running sums along an axis, or of the flat array."""
    return _scan(_cumsum, a, axis, dtype)


@answers()
def cumprod(a: Array, axis: int | None = None, dtype: Any = None) -> Tensor:
    """Running products along an axis, or of the flat array. The gradient is exact where factors are zero; it
    takes a step of Python per element of the axis."""
    return _scan(_cumprod, a, axis, dtype)


def _array_api(scan: Any, x: Any, axis: int | None, first: int | None) -> Any:
    if axis is None and x.ndim != 1:
        raise ValueError(f"cumulative_{scan.__name__[3:]}: expected an axis for an array of shape {x.shape}")
    axis = normalize_axis_index(axis or 0, x.ndim)
    y = scan(x, axis)
    return y if first is None else concatenate([np.full_like(y[part(axis, slice(1))], first), y], axis)


@answers()
def cumulative_sum(x: Array, *, axis: int | None = None, include_initial: bool = False) -> Tensor:
    """Running sums along an axis, which an array of one axis need not name. include_initial: begin with 0."""
    return _array_api(cumsum, x, axis, 0 if include_initial else None)


@answers()
def cumulative_prod(x: Array, *, axis: int | None = None, include_initial: bool = False) -> Tensor:
    """Running products along an axis, which an array of one axis need not name. include_initial: begin with 1."""
    return _array_api(cumprod, x, axis, 1 if include_initial else None)


@answers()
def diff(a: Array, n: int = 1, axis: int = -1, prepend: Array = None, append: Array = None) -> Tensor:
    """Differences of neighbours along an axis, taken n times; of booleans, whether they differ.

    prepend, append: joined to the axis first."""
    if n < 0:
        raise ValueError(f"diff: expected n >= 0, got {n}")
    a = asarray(a)
    axis = normalize_axis_index(axis, a.ndim)
    one = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    ends = [e if e is None or np.ndim(e) else broadcast_to(e, shape=one) for e in (prepend, append)]
    parts = [e for e in (ends[0], a, ends[1]) if e is not None]
    result = concatenate(parts, axis) if len(parts) > 1 else a
    between = not_equal if result.dtype == np.bool_ else subtract
    for _ in range(n):
        result = between(getitem(result, part(axis, slice(1, None))), getitem(result, part(axis, slice(-1))))
    return result


@answers()
def ediff1d(ary: Array, to_end: Array = None, to_begin: Array = None) -> Tensor:
    """Differences of neighbours in the flat array, with numbers put before and behind them."""
    parts = [x if x is None else ravel(x) for x in (to_begin, diff(ravel(ary)), to_end)]
    return concatenate([x for x in parts if x is not None])


@answers()
def trapezoid(y: Array, x: Array = None, dx: Array = 1.0, axis: int = -1) -> Tensor:
    """The integral along an axis by the trapezoid rule, over points x, of y's shape or one-dimensional, or dx apart."""
    axis = normalize_axis_index(axis, y.ndim)
    if x is not None:
        x = asarray(x)
        dx = diff(x, axis=axis) if x.ndim > 1 else reshape(diff(x), shape=(-1,) + (1,) * (y.ndim - axis - 1))
    pairs = getitem(y, part(axis, slice(1, None))) + getitem(y, part(axis, slice(-1)))
    return sum(dx * pairs / 2, axis=axis)
