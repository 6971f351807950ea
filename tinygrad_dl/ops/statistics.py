"""Statistics: spread, order, correlation, and reductions that leave out NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._arguments import Array, Axis, answers, asarray, count, kept
from .choice import where
from .diagonals import diagonal
from .elementwise import root, sqrt, square
from .index import getitem
from .join import concatenate
from .logic import all, isnan
from .product import matmul
from .reduction import max, mean, min, prod, sum
from .scan import cumprod, cumsum
from .shape import atleast_2d, broadcast_to, flatten_axes, moveaxis, reshape, squeeze
from .sort import sort

if TYPE_CHECKING:
    from .._tensor import Tensor


@answers()
def var(a: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The mean of the squared deviations from the mean over axes; divides by n - ddof, or 0 where that is negative."""
    a = asarray(a)
    squares = square(a - mean(a, axis=axis, keepdims=True))
    return sum(squares, axis=axis, keepdims=keepdims) / _freedom(count(a.shape, axis) - ddof)


def _freedom(n: float) -> float:
    return n if n > 0 else 0


@answers()
def std(a: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The root of the variance; gradient 0 where that is 0."""
    return root(var(a, axis, ddof=ddof, keepdims=keepdims))


@answers()
def average(a: Array, axis: int | None = None, weights: Array = None, *, keepdims: bool = False) -> Tensor:
    """The mean over an axis or all, weighted by an array of a's shape or of the axis's length."""
    if weights is None:
        return mean(a, axis=axis, keepdims=keepdims)
    a, weights = asarray(a), asarray(weights)
    if weights.shape != a.shape:
        if axis is None or weights.shape != (a.shape[axis],):
            raise ValueError(f"average: weights of shape {weights.shape} fit neither {a.shape} nor its axis {axis}")
        weights = reshape(weights, shape=(-1,) + (1,) * (a.ndim - 1 - axis % a.ndim))
    if a.dtype.kind != "f":  # products of narrow integers wrap around
        a = a.astype(np.result_type(a.dtype, weights.dtype, np.float64))
    total = sum(broadcast_to(weights, shape=a.shape), axis=axis, keepdims=keepdims)
    return sum(a * weights, axis=axis, keepdims=keepdims) / total


@answers()
def median(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The middle element over axes, or the mean of the middle two; NaN if there is one, and of nothing.

    Of equal elements, those that a stable sort puts into the middle get the gradient."""
    a = asarray(a)
    ordered = sort(flatten_axes(a, axis))
    n = ordered.shape[-1]
    middle = mean(getitem(ordered, (..., slice((n - 1) // 2, n // 2 + 1))), axis=-1)
    if n:
        last = getitem(ordered, (..., -1))
        middle = where(isnan(last), last, middle)
    return reshape(middle, shape=kept(a.shape, axis)) if keepdims else middle


@answers()
def quantile(a: Array, q: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The value below which a fraction q of the elements lies, over axes, interpolated linearly; NaN if there is one.

    q: a number from 0 to 1, or an array of them, whose axes come first in the result; without gradient."""
    a, q = asarray(a), np.asarray(q)
    if not ((q >= 0) & (q <= 1)).all():
        raise ValueError(f"quantile: expected fractions from 0 to 1, got {q}")
    ordered = moveaxis(sort(flatten_axes(a, axis)), -1, 0)
    last = getitem(ordered, -1)
    place = q * (ordered.shape[0] - 1)
    low = np.floor(place).astype(np.intp)
    weight = (place - low).astype(a.dtype if a.dtype.kind == "f" else float).reshape(q.shape + (1,) * last.ndim)
    below, above = getitem(ordered, low), getitem(ordered, np.ceil(place).astype(np.intp))
    result = where(isnan(last), last, below + (above - below) * weight)
    return reshape(result, shape=q.shape + kept(a.shape, axis)) if keepdims else result


@answers()
def percentile(a: Array, q: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """`quantile` of q / 100."""
    return quantile(a, np.true_divide(q, 100), axis, keepdims=keepdims)


@answers()
def cov(m: Array, y: Array = None, rowvar: bool = True, bias: bool = False, ddof: float | None = None) -> Tensor:
    """The covariance matrix of variables in rows, or columns with rowvar=False; divides by n - 1, n, or n - ddof, or
    0 where that is negative.

    y: more variables, in the same form."""
    parts = [atleast_2d(x) if rowvar or np.ndim(x) < 2 else x.T for x in (m, y) if x is not None]
    x = concatenate(parts) if len(parts) > 1 else parts[0]
    x = x - mean(x, axis=1, keepdims=True)
    return squeeze(matmul(x, x.T) / _freedom(x.shape[1] - (1 - bias if ddof is None else ddof)))


@answers()
def corrcoef(x: Array, y: Array = None, rowvar: bool = True) -> Tensor:
    """The correlations of variables in rows, or columns with rowvar=False; NaN for one that is constant."""
    c = cov(x, y, rowvar)
    if not c.ndim:
        return c / c
    spread = sqrt(diagonal(c))
    return c / spread[:, None] / spread


def _without_nan(a: Any, value: float) -> Any:
    a = asarray(a)
    return where(isnan(a), value, a) if a.dtype.kind == "f" else a


def _present(a: Any, axis: Axis, keepdims: bool) -> Tensor:
    return sum(~isnan(a), axis=axis, keepdims=keepdims).astype(a.dtype if a.dtype.kind == "f" else float)


@answers()
def nansum(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The sum of the elements that are not NaN."""
    return sum(_without_nan(a, 0), axis=axis, keepdims=keepdims)


@answers()
def nanprod(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The product of the elements that are not NaN."""
    return prod(_without_nan(a, 1), axis=axis, keepdims=keepdims)


@answers()
def nancumsum(a: Array, axis: int | None = None) -> Tensor:
    """Running sums with NaN as 0."""
    return cumsum(_without_nan(a, 0), axis)


@answers()
def nancumprod(a: Array, axis: int | None = None) -> Tensor:
    """Running products with NaN as 1."""
    return cumprod(_without_nan(a, 1), axis)


@answers()
def nanmean(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The mean of the elements that are not NaN; NaN where there is none, with gradient 0."""
    return nansum(a, axis, keepdims=keepdims) / _present(asarray(a), axis, keepdims)


@answers()
def nanvar(a: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The variance of the elements that are not NaN; NaN where there are no more than ddof."""
    deviations = _without_nan(a - nanmean(a, axis, keepdims=True), 0)
    freedom = _present(a, axis, keepdims) - ddof
    return sum(square(deviations), axis=axis, keepdims=keepdims) / where(freedom > 0, freedom, np.nan)


@answers()
def nanstd(a: Array, axis: Axis = None, *, ddof: float = 0, keepdims: bool = False) -> Tensor:
    """The root of `nanvar`; gradient 0 where that is 0."""
    return root(nanvar(a, axis, ddof=ddof, keepdims=keepdims))


def _extreme(op: Any, a: Any, fill: float, axis: Axis, keepdims: bool) -> Any:
    a = asarray(a)
    found = op(_without_nan(a, fill), axis=axis, keepdims=keepdims)
    return where(all(isnan(a), axis=axis, keepdims=keepdims), np.nan, found) if a.dtype.kind == "f" else found


@answers()
def nanmax(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The largest of the elements that are not NaN, or NaN if there is none."""
    return _extreme(max, a, -np.inf, axis, keepdims)


@answers()
def nanmin(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The smallest of the elements that are not NaN, or NaN if there is none."""
    return _extreme(min, a, np.inf, axis, keepdims)
