"""Reductions over axes: sums, means, products, extremes and their relatives.

NumPy's `out=`, `where=` and `initial=` are not there; `dtype=` is where it is useful.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import primitive
from ._arguments import Array, Axis, answers, axes_of, count, kept, numpy_functions
from .shape import broadcast_to

if TYPE_CHECKING:
    from .._tensor import Tensor

_add: Any = np.add.reduce  # 0.8 µs, np.sum 2.0; NumPy's own types want a literal keepdims
_multiply: Any = np.multiply.reduce
_maximum: Any = np.maximum.reduce
_minimum: Any = np.minimum.reduce


def _sum(a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The sum over axes, by default over all. dtype: to add up in; float16 uses float32, where NumPy's stagnates.

    The adjoint of `broadcast_to`."""
    if dtype is None and getattr(a, "dtype", None) == np.float16:
        return _add(a, axis=axis, dtype=np.float32, keepdims=keepdims).astype(np.float16)
    return _add(a, axis=axis, dtype=dtype, keepdims=keepdims)


def _mean(a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The mean over axes, by default over all; NaN of no elements. dtype: to add up in; float16 uses float32."""
    a = np.asarray(a)
    if a.dtype.kind != "f" or a.dtype == np.float16 or dtype is not None:
        return np.mean(a, axis=axis, dtype=dtype, keepdims=keepdims)
    return _add(a, axis=axis, keepdims=keepdims) / count(a.shape, axis)


def _prod(a: Array, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Any:
    """The product over axes, by default over all. Its gradient is exact where factors are zero."""
    return _multiply(a, axis=axis, dtype=dtype, keepdims=keepdims)


def _max(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The largest element over axes, or NaN if there is one. Ties share the gradient equally."""
    return _maximum(a, axis=axis, keepdims=keepdims)


def _min(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """The smallest element over axes, or NaN if there is one. Ties share the gradient equally."""
    return _minimum(a, axis=axis, keepdims=keepdims)


def _logsumexp(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(a))) over axes, without overflow.

    -inf where every element is -inf (or there is none), with gradient NaN there, as PyTorch's. Integers give
    float64."""
    a = np.asarray(a)
    if a.dtype.kind != "f":
        a = a.astype(np.float64)
    peak = _maximum(a, axis=axis, keepdims=True, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, 0)
    with np.errstate(divide="ignore"):
        y = np.log(_add(np.exp(a - peak), axis=axis, keepdims=True)) + peak
    return y if keepdims else y.reshape(_add(np.empty(a.shape, bool), axis=axis).shape)


def _restore(g: Any, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Any:
    """Put back, with length 1, the axes that a reduction has taken away."""
    return g if keepdims else g.reshape(kept(shape, axis))


def _to_extreme(g: Any, y: Any, a: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    attained = np.equal(a, _restore(y, a.shape, axis, keepdims)) | np.isnan(a)
    ties = attained.sum(axis=axis, keepdims=True).astype(a.dtype)
    return np.where(attained, _restore(g, a.shape, axis, keepdims) / ties, 0)


def _to_factors(g: Any, _y: Any, a: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The product of the other factors, without a division: of those before times those behind."""
    axes = axes_of(axis if a.ndim else None, a.ndim)  # NumPy's reductions take axis 0 of a number, too
    front = np.moveaxis(a, axes, range(len(axes)))
    flat = front.reshape((count(a.shape, axes), *front.shape[len(axes) :]))
    one = np.ones_like(flat[:1])
    before = np.cumprod(np.concatenate([one, flat[:-1]]), 0)
    behind = np.cumprod(np.concatenate([one, flat[:0:-1]]), 0)[::-1]
    others = np.moveaxis((before * behind).reshape(front.shape), range(len(axes)), axes)
    return _restore(g, a.shape, axis, keepdims) * others


sum = primitive(
    _sum,
    lambda g, _y, _a, axis=None, dtype=None, keepdims=False: broadcast_to(
        _restore(g, _a.shape, axis, keepdims), shape=_a.shape
    ),
    name="sum",
    numpy=np.sum,
)
mean = primitive(
    _mean,
    lambda g, _y, _a, axis=None, dtype=None, keepdims=False: broadcast_to(
        _restore(g * (1 / (count(_a.shape, axis) or 1)), _a.shape, axis, keepdims), shape=_a.shape
    ),
    name="mean",
    numpy=np.mean,
)
prod = primitive(_prod, _to_factors, name="prod", numpy=np.prod)
max = primitive(_max, _to_extreme, name="max", numpy=numpy_functions("max", "amax"))
min = primitive(_min, _to_extreme, name="min", numpy=numpy_functions("min", "amin"))
logsumexp = primitive(
    _logsumexp,
    lambda g, y, a, axis=None, keepdims=False: (
        _restore(g, a.shape, axis, keepdims) * np.exp(a - _restore(y, a.shape, axis, keepdims))
    ),
    name="logsumexp",
)


@answers()
def ptp(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Peak to peak: the largest minus the smallest element over axes. Ties as in `max`."""
    return max(a, axis=axis, keepdims=keepdims) - min(a, axis=axis, keepdims=keepdims)
