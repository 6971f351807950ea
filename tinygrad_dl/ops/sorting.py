"""Order and search. Sorting is differentiable: the gradient goes back to where each element came from.

The sort is stable, so among equal elements the gradient keeps their order, as PyTorch's `stable=True`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import Primitive, answer, primitive
from .index import take_along_axis
from .shape import ravel

if TYPE_CHECKING:
    from .._tensor import Tensor


def _indices(fn: Any, kernel: Any) -> Primitive:
    """An operation without gradient."""
    return primitive(kernel, name=fn.__name__, numpy=fn)


argsort = _indices(np.argsort, lambda a, axis=-1: np.argsort(a, axis, kind="stable"))
argpartition = _indices(np.argpartition, lambda a, kth, axis=-1: np.argpartition(a, kth, axis))
searchsorted = primitive(
    lambda a, v, side="left": np.searchsorted(a, v, side), None, None, name="searchsorted", numpy=np.searchsorted
)
digitize = primitive(
    lambda x, bins, right=False: np.digitize(x, bins, right), None, None, name="digitize", numpy=np.digitize
)
bincount = _indices(np.bincount, lambda x, minlength=0: np.bincount(x, minlength=minlength))
argwhere = _indices(np.argwhere, lambda a: np.argwhere(a))
flatnonzero = _indices(np.flatnonzero, lambda a: np.flatnonzero(a))
nonzero = _indices(np.nonzero, lambda a: np.nonzero(a))
isin = primitive(lambda element, test_elements: np.isin(element, test_elements), None, None, name="isin", numpy=np.isin)
isclose = primitive(
    lambda a, b, rtol=1e-5, atol=1e-8, equal_nan=False: np.isclose(a, b, rtol, atol, equal_nan),
    None,
    None,
    name="isclose",
    numpy=np.isclose,
)
nanargmax = _indices(np.nanargmax, lambda a, axis=None: np.nanargmax(a, axis))
nanargmin = _indices(np.nanargmin, lambda a, axis=None: np.nanargmin(a, axis))


def sort(a: Any, axis: int | None = -1) -> Tensor:
    """Sorted along an axis, or of the flat array."""
    if axis is None:
        return sort(ravel(a), 0)
    return take_along_axis(a, argsort(a, axis=axis), axis)


def partition(a: Any, kth: int, axis: int = -1) -> Tensor:
    """The kth element in its sorted place, no larger ones before it and no smaller ones behind."""
    return take_along_axis(a, argpartition(a, kth=kth, axis=axis), axis)


def unique(ar: Any) -> Tensor:
    """The sorted distinct elements; the gradient goes to the first of each."""
    flat = ravel(ar)
    plain = flat.detach().numpy() if hasattr(flat, "detach") else flat
    return flat[np.unique(plain, return_index=True)[1]]


def compress(condition: Any, a: Any, axis: int | None = None) -> Tensor:
    """The slices along an axis, or the elements, where the condition holds."""
    return np.take(a, np.flatnonzero(condition), axis)


def extract(condition: Any, arr: Any) -> Tensor:
    """The elements where the condition holds, flat."""
    return ravel(arr)[np.flatnonzero(condition)]


def select(condlist: Any, choicelist: Any, default: Any = 0) -> Tensor:
    """Elements of the first choice whose condition holds."""
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(condition, choice, result)
    return result


for _composite in (sort, partition, unique, compress, extract, select):
    answer(_composite, getattr(np, _composite.__name__))
