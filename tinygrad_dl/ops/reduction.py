"""Reductions and scans over axes, and the statistics composed of them.

Ties: `max` and `min` share the gradient equally among the elements that attain the extreme, as PyTorch's
`amax`. `std` has gradient 0 where the variance is 0; `norm` has gradient 0 at the zero vector; `prod` and
`cumprod` are exact in the presence of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..primitive import answer, primitive
from .shape import broadcast_to, restore

if TYPE_CHECKING:
    from .._tensor import Tensor

Axis = int | Sequence[int] | None


def _count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements fall into one result."""
    axes = range(len(shape)) if axis is None else normalize_axis_tuple(axis, len(shape))
    n = 1
    for i in axes:
        n *= shape[i]
    return n


def _mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    if x.dtype.kind != "f":
        return np.mean(x, axis=axis, keepdims=keepdims)
    if x.dtype == np.float16:
        return np.mean(x, axis=axis, keepdims=keepdims)
    return np.add.reduce(x, axis=axis, keepdims=keepdims) / _count(x.shape, axis)


mean = primitive(
    _mean,
    lambda g, _y, _x, axis=None, keepdims=False: broadcast_to(
        restore(g / _count(_x.shape, axis), _x.ndim, axis, keepdims), shape=_x.shape
    ),
    name="mean",
    numpy=np.mean,
)


def _to_extreme(g: Any, y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    attained = np.equal(x, restore(y, x.ndim, axis, keepdims))
    ties = np.sum(attained, axis=axis, keepdims=True).astype(x.dtype)
    return np.where(attained, restore(g, x.ndim, axis, keepdims) / ties, 0)


max = primitive(
    lambda x, axis=None, keepdims=False: np.maximum.reduce(x, axis=axis, keepdims=keepdims),
    _to_extreme,
    name="max",
    numpy=(np.max, np.amax) if np.max is not np.amax else np.max,
)
min = primitive(
    lambda x, axis=None, keepdims=False: np.minimum.reduce(x, axis=axis, keepdims=keepdims),
    _to_extreme,
    name="min",
    numpy=(np.min, np.amin) if np.min is not np.amin else np.min,
)


def _reverse_cumsum(x: Any, axis: int) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis)


_cumsum = primitive(lambda x, axis: np.cumsum(x, axis), lambda g, _y, _x, axis: _reverse_cumsum(g, axis), name="cumsum")


def _through_products(g: Any, y: Any, x: Any, axis: int) -> Any:
    """dy_i/dx_k is the product of the other factors. Before the first zero that is y_i / x_k; at it, the
    products with a one in its place; behind it every product holds the zero itself."""
    zero = np.equal(x, 0)
    first = zero & np.equal(np.cumsum(zero, axis), 1)
    behind = np.greater(np.cumsum(zero, axis), 0) & ~first
    without = np.cumprod(np.where(first, 1, x), axis)
    at_zero = _reverse_cumsum(g * without, axis)
    divisor = np.where(zero, 1, x)
    value_there = np.sum(np.where(first, x, 0), axis=axis, keepdims=True)
    beyond = np.where(zero, 0, value_there * at_zero / divisor)
    return np.where(behind, beyond, np.where(first, at_zero, _reverse_cumsum(g * y, axis) / divisor))


_cumprod = primitive(lambda x, axis: np.cumprod(x, axis), _through_products, name="cumprod")


def _scan(op: Any, a: Any, axis: int | None) -> Any:
    return op(a.reshape(-1), axis=0) if axis is None else op(a, axis=normalize_axis_index(axis, a.ndim))


def cumsum(a: Any, axis: int | None = None) -> Tensor:
    """Running sums along an axis, or of the flat array."""
    return _scan(_cumsum, a, axis)


def cumprod(a: Any, axis: int | None = None) -> Tensor:
    """Running products along an axis, or of the flat array."""
    return _scan(_cumprod, a, axis)


def _others(g: Any, _y: Any, x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product of the other factors, without a division: those before times those behind."""
    axes = tuple(range(x.ndim)) if axis is None else normalize_axis_tuple(axis, x.ndim)
    if not axes:
        return g
    front = np.moveaxis(x, axes, range(len(axes)))
    flat = front.reshape((-1, *front.shape[len(axes) :]))
    one = np.ones_like(flat[:1])
    before = np.cumprod(np.concatenate([one, flat[:-1]]), 0)
    behind = np.flip(np.cumprod(np.concatenate([one, np.flip(flat, 0)[:-1]]), 0), 0)
    rest = np.moveaxis((before * behind).reshape(front.shape), range(len(axes)), axes)
    return restore(g, x.ndim, axis, keepdims) * rest


prod = primitive(
    lambda x, axis=None, keepdims=False: np.multiply.reduce(x, axis=axis, keepdims=keepdims),
    _others,
    name="prod",
    numpy=np.prod,
)
argmax = primitive(
    lambda a, axis=None, keepdims=False: np.argmax(a, axis, keepdims=keepdims), name="argmax", numpy=np.argmax
)
argmin = primitive(
    lambda a, axis=None, keepdims=False: np.argmin(a, axis, keepdims=keepdims), name="argmin", numpy=np.argmin
)
any = primitive(lambda a, axis=None, keepdims=False: np.any(a, axis, keepdims=keepdims), name="any", numpy=np.any)
all = primitive(lambda a, axis=None, keepdims=False: np.all(a, axis, keepdims=keepdims), name="all", numpy=np.all)
count_nonzero = primitive(
    lambda a, axis=None, keepdims=False: np.count_nonzero(a, axis, keepdims=keepdims),
    name="count_nonzero",
    numpy=np.count_nonzero,
)
for _composite in (cumsum, cumprod):
    answer(_composite, getattr(np, _composite.__name__))
