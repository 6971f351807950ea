"""Reading and writing parts of arrays. Index arrays are arguments, so a recorded step may change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..autodiff import unbroadcast
from ..graph import Handle
from ..primitive import Primitive, answer, primitive

if TYPE_CHECKING:
    from .._tensor import Tensor


class _Array:
    """Stands in a static index for the array that is passed by position."""

    def __repr__(self) -> str:
        return "array"


ARRAY = _Array()


def _fill(index: tuple[Any, ...], arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    if not arrays:
        return index
    rest = iter(arrays)
    return tuple(next(rest) if i is ARRAY else i for i in index)


def _get(x: Any, *indices: Any, index: tuple[Any, ...]) -> Any:
    return x[_fill(index, indices)]


def _scatter_add(g: Any, *indices: Any, index: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    out = np.zeros(shape, g.dtype)
    where = _fill(index, indices)
    if all(i.dtype == bool for i in indices):  # no element is named twice
        out[where] = g
    else:
        np.add.at(out, where, g)
    return out


def _set(x: Any, v: Any, *indices: Any, index: tuple[Any, ...]) -> Any:
    out = np.array(x)
    out[_fill(index, indices)] = v
    return out


_getitem: Primitive = primitive(
    _get,
    lambda g, _y, _x, *indices, index: scatter_add(g, *indices, index=index, shape=_x.shape),
    name="getitem",
)
scatter_add: Primitive = primitive(
    _scatter_add, lambda g, _y, _x, *indices, index, shape: _getitem(g, *indices, index=index), name="scatter_add"
)
_setitem: Primitive = primitive(
    _set,
    lambda g, _y, _x, _v, *indices, index: _setitem(g, 0, *indices, index=index),
    lambda g, _y, _x, _v, *indices, index: unbroadcast(_getitem(g, *indices, index=index), np.shape(_v)),
    name="setitem",
)


def _parse(index: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """A subscript as a static template and its arrays."""
    template, arrays = [], []
    for i in index if isinstance(index, tuple) else (index,):
        if (
            i is None
            or i is ...
            or isinstance(i, slice)
            or (isinstance(i, int | np.integer) and not isinstance(i, bool))
        ):
            template.append(i)
            continue
        array: Any = i if isinstance(i, Handle | np.ndarray) else np.asarray(i, dtype=None if np.size(i) else np.intp)
        kind = array.data.dtype.kind if isinstance(array, Handle) else array.dtype.kind
        if kind not in "iub":
            raise IndexError(f"getitem: an index must be integers, booleans, slices, ... or None, got {array.dtype}")
        template.append(ARRAY)
        arrays.append(array)
    return tuple(template), arrays


def getitem(x: Any, index: Any) -> Tensor:
    """`x[index]`: basic, boolean and integer-array indexing. Repeated elements add up their gradients."""
    template, arrays = _parse(index)
    return _getitem(x, *arrays, index=template)


def setitem(x: Any, index: Any, value: Any) -> Tensor:
    """A copy of x with `copy[index] = value`. Where an index names an element twice, the last value stays,
    and the gradient goes to every value that was written there."""
    template, arrays = _parse(index)
    return _setitem(x, value, *arrays, index=template)


def take(a: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Elements or slices by integer index; of the flat array without an axis."""
    if axis is None:
        return getitem(a.reshape(-1), _integers(indices))
    return getitem(a, (slice(None),) * normalize_axis_index(axis, a.ndim) + (_integers(indices),))


def _integers(indices: Any) -> Any:
    return indices if isinstance(indices, Handle) else np.asarray(indices)


def take_along_axis(arr: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Elements picked by an index array of the same number of axes, as `argsort` and `argmax` give it."""
    if axis is None:
        return getitem(arr.reshape(-1), indices)
    axis = normalize_axis_index(axis, arr.ndim)
    if indices.ndim != arr.ndim:
        raise ValueError(f"take_along_axis: expected indices with {arr.ndim} axes, got shape {indices.shape}")
    grid: list[Any] = [
        np.arange(n).reshape((-1,) + (1,) * (arr.ndim - i - 1))
        if arr.shape[i] == indices.shape[i] or i == axis
        else np.zeros((1,) * arr.ndim, np.intp)
        for i, n in enumerate(arr.shape)
    ]
    grid[axis] = indices
    return getitem(arr, tuple(grid))


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal over two axes, as the last axis."""
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    if i == j:
        raise ValueError("diagonal: axis1 and axis2 are the same axis")
    rows, columns = max(-offset, 0), max(offset, 0)
    n = max(min(a.shape[i] - rows, a.shape[j] - columns), 0)
    last = np.moveaxis(a, (i, j), (-2, -1))
    return getitem(last, (..., np.arange(n) + rows, np.arange(n) + columns))


def diag(v: Any, k: int = 0) -> Tensor:
    """A 2-D array's diagonal, or the 2-D array with that diagonal."""
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag: expected 1 or 2 axes, got shape {v.shape}")
    n = v.size + abs(k)
    rows = np.arange(v.size) + max(-k, 0)
    return scatter_add(v, rows, rows + k, index=(ARRAY, ARRAY), shape=(n, n))


def diagflat(v: Any, k: int = 0) -> Tensor:
    """A 2-D array with the flat input as its diagonal."""
    return diag(v.reshape(-1), k)


def tril(m: Any, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes; zero above the k-th diagonal."""
    return np.where(np.tri(*m.shape[-2:], k=k, dtype=bool), m, 0)


def triu(m: Any, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes; zero below the k-th diagonal."""
    return np.where(np.tri(*m.shape[-2:], k=k - 1, dtype=bool), 0, m)


for _composite in (take, take_along_axis, diagonal, diag, diagflat, tril, triu):
    answer(_composite, getattr(np, _composite.__name__))
