"""Order: sorting, searching, counting. Ties are sorted stably: equal elements keep their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arguments import Array, answers, asarray, without_gradient
from .creation import astype
from .index import ARRAY, getitem, scatter_add, take_along_axis
from .shape import ravel

if TYPE_CHECKING:
    from .._tensor import Tensor


@without_gradient()
def argsort(a: Array, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None) -> Any:
    """The indices that sort along an axis, or the flat array with `axis=None`; always stable."""
    return np.argsort(a, axis, kind="stable")


@without_gradient()
def argpartition(a: Array, kth: int | Sequence[int], axis: int | None = -1) -> Any:
    """Indices that put the element of rank `kth` in its place, no larger ones before and no smaller ones behind it."""
    return np.argpartition(a, kth, axis)


@without_gradient()
def argmax(a: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the largest element along an axis, or in the flat array; the first of several."""
    return np.argmax(a, axis, keepdims=keepdims)


@without_gradient()
def argmin(a: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the smallest element along an axis, or in the flat array; the first of several."""
    return np.argmin(a, axis, keepdims=keepdims)


@without_gradient()
def nanargmax(a: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the largest element that is not NaN."""
    return np.nanargmax(a, axis, keepdims=keepdims)


@without_gradient()
def nanargmin(a: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    """The index of the smallest element that is not NaN."""
    return np.nanargmin(a, axis, keepdims=keepdims)


@without_gradient(arrays=2)
def searchsorted(a: Array, v: Array, side: str = "left", sorter: Any = None) -> Any:
    """Where to insert v into the sorted a, before ("left") or behind ("right") equal elements."""
    return np.searchsorted(a, v, side, sorter)


@without_gradient(arrays=2)
def digitize(x: Array, bins: Array, right: bool = False) -> Any:
    """The number of the bin, between sorted edges, that each element falls into."""
    return np.digitize(x, bins, right)


@without_gradient()
def _bincount(x: Array, minlength: int = 0) -> Any:
    return np.bincount(x, minlength=minlength)


@answers()
def bincount(x: Array, weights: Array = None, minlength: int = 0) -> Tensor:
    """How often each integer from 0 occurs in x, or the sum of the weights where it does."""
    if weights is None:
        return _bincount(x, minlength)
    x, weights = asarray(x), asarray(weights)
    n = np.bincount(np.asarray(x), np.zeros(weights.shape), minlength).size  # which checks both
    return scatter_add(astype(weights, dtype=np.float64), x, index=(ARRAY,), shape=(n,))


@answers()
def sort(a: Array, axis: int | None = -1, kind: Any = None, *, stable: bool | None = None) -> Tensor:
    """Sorted along an axis, or the flat array with `axis=None`; always stable, NaN last."""
    if axis is None:
        a, axis = ravel(a), -1
    return take_along_axis(a, argsort(a, axis), axis)


@answers()
def partition(a: Array, kth: int | Sequence[int], axis: int | None = -1) -> Tensor:
    """The element of rank `kth` in its place, no larger ones before and no smaller ones behind it."""
    if axis is None:
        a, axis = ravel(a), -1
    return take_along_axis(a, argpartition(a, kth, axis), axis)


@without_gradient()
def _unique(ar: Array) -> Any:
    return np.unique(ar, return_index=True, return_inverse=True, return_counts=True)[1:]


@answers()
def unique(ar: Array, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False) -> Any:
    """The sorted distinct elements of the flat array; on request with the index of each one's first occurrence,
    which gets its gradient, the array's elements as indices into them, and how often each occurs."""
    ar = asarray(ar)
    index, inverse, counts = _unique(ar)
    extra = [(return_index, index), (return_inverse, inverse), (return_counts, counts)]
    results = (getitem(ravel(ar), index), *[found for wanted, found in extra if wanted])
    return results if len(results) > 1 else results[0]


@answers()
def unique_values(x: Array) -> Tensor:
    """The sorted distinct elements of the flat array."""
    return unique(x)
