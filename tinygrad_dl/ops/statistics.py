"""Statistics composed of reductions, and reductions that pass over NaN.

`std` has gradient 0 where the variance is 0, as PyTorch's; `median` shares the gradient of the two middle
elements of an even number, as NumPy's definition has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..primitive import answer
from .reduction import _count, max, mean, min, prod
from .shape import broadcast_to, sum
from .sorting import sort

if TYPE_CHECKING:
    from .._tensor import Tensor

Axis = int | Sequence[int] | None


def var(a: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
    """The mean of the squared deviations from the mean; divides by n - ddof."""
    deviation = a - mean(a, axis=axis, keepdims=True)
    return sum(deviation * deviation, axis=axis, keepdims=keepdims) / (_count(a.shape, axis) - ddof)


def safe_sqrt(x: Any) -> Any:
    """The root, with gradient 0 at 0."""
    zero = np.equal(x, 0)
    return np.where(zero, 0, np.sqrt(np.where(zero, 1, x)))


def std(a: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
    """The root of the variance; gradient 0 where the variance is 0."""
    return safe_sqrt(var(a, axis, keepdims, ddof))


def ptp(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Peak to peak: the largest minus the smallest element."""
    return max(a, axis=axis, keepdims=keepdims) - min(a, axis=axis, keepdims=keepdims)


def average(a: Any, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Tensor:
    """The mean, or the mean weighted by an array of a's shape, or of its length along one axis."""
    if weights is None:
        return mean(a, axis=axis, keepdims=keepdims)
    if np.shape(weights) != a.shape:
        if not isinstance(axis, int) or np.shape(weights) != (a.shape[axis],):
            raise TypeError(f"average: weights of shape {np.shape(weights)} fit neither {a.shape} nor its axis {axis}")
        weights = np.reshape(weights, tuple(n if i == axis % a.ndim else 1 for i, n in enumerate(a.shape)))
    total = sum(broadcast_to(weights, shape=a.shape), axis=axis, keepdims=keepdims)
    return sum(a * weights, axis=axis, keepdims=keepdims) / total


def median(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The middle of the sorted elements, or the mean of the two middle ones; NaN if one is NaN."""
    axes = tuple(range(a.ndim)) if axis is None else normalize_axis_tuple(axis, a.ndim)
    kept = [i for i in range(a.ndim) if i not in axes]
    n = _count(a.shape, axes)
    flat = np.reshape(np.transpose(a, (*kept, *axes)), (*[a.shape[i] for i in kept], n))
    ordered = sort(flat, -1)
    middle = mean(ordered[..., (n - 1) // 2 : n // 2 + 1], axis=-1)
    middle = np.where(np.isnan(ordered[..., -1]), np.nan, middle)
    return np.expand_dims(middle, axes) if keepdims else middle


def nansum(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum of what is not NaN."""
    return sum(np.where(np.isnan(a), 0, a), axis=axis, keepdims=keepdims)


def nanprod(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product of what is not NaN."""
    return prod(np.where(np.isnan(a), 1, a), axis=axis, keepdims=keepdims)


def nanmean(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean of what is not NaN."""
    n = sum(np.logical_not(np.isnan(a)).astype(a.dtype), axis=axis, keepdims=keepdims)
    return nansum(a, axis, keepdims) / n


def nanvar(a: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
    """The variance of what is not NaN."""
    n = sum(np.logical_not(np.isnan(a)).astype(a.dtype), axis=axis, keepdims=keepdims)
    deviation = a - nanmean(a, axis, True)
    return nansum(deviation * deviation, axis, keepdims) / (n - ddof)


def nanstd(a: Any, axis: Axis = None, keepdims: bool = False, ddof: float = 0) -> Tensor:
    """The standard deviation of what is not NaN."""
    return safe_sqrt(nanvar(a, axis, keepdims, ddof))


def nanmax(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element that is not NaN."""
    return max(np.where(np.isnan(a), -np.inf, a), axis=axis, keepdims=keepdims)


def nanmin(a: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element that is not NaN."""
    return min(np.where(np.isnan(a), np.inf, a), axis=axis, keepdims=keepdims)


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) without overflow; -inf where every element is -inf."""
    peak = max(x.detach() if hasattr(x, "detach") else x, axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)
    total = sum(np.exp(x - peak), axis=axis, keepdims=True)
    empty = np.equal(total, 0)
    result = np.where(empty, -np.inf, np.log(np.where(empty, 1, total)) + peak)
    return result if keepdims else sum(result, axis=axis)


def cov(m: Any, rowvar: bool = True, ddof: int = 1) -> Tensor:
    """The covariance matrix of variables in rows (or columns), divided by n - ddof."""
    x = np.atleast_2d(m)
    x = x if rowvar else x.T
    centred = x - mean(x, axis=1, keepdims=True)
    return centred @ centred.T / (x.shape[1] - ddof)


def corrcoef(x: Any, rowvar: bool = True) -> Tensor:
    """The correlation matrix of variables in rows (or columns)."""
    c = cov(x, rowvar)
    deviation = np.sqrt(np.diagonal(c))
    return c / deviation[:, None] / deviation


def trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral by the trapezoidal rule along an axis."""
    y = np.moveaxis(y, axis, -1)
    widths = dx if x is None else np.diff(x) if x.ndim == 1 else np.diff(np.moveaxis(x, axis, -1), axis=-1)
    return sum((y[..., 1:] + y[..., :-1]) * widths / 2, axis=-1)


for _composite in (
    var, std, ptp, average, median, nansum, nanprod, nanmean, nanvar, nanstd, nanmax, nanmin, cov, corrcoef, trapezoid,
):  # fmt: skip
    answer(_composite, getattr(np, _composite.__name__))
