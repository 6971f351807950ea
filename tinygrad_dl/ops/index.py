"""Reading and writing parts of arrays.

Index arrays are arguments by position, like any array, so that a recorded step may be given others; only
integers, slices, `...` and None are static.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..autodiff import unbroadcast
from ..graph import Handle
from ..primitive import Primitive, primitive
from ._arguments import Array, Shape, answers, asarray, part, without_gradient
from .shape import ravel

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
    """Zeros with g added at an index. The adjoint of `getitem`."""
    out = np.zeros(shape, g.dtype)
    where = _fill(index, indices)
    if all(i.dtype == bool for i in indices):  # no element is named twice
        out[where] = g
    elif index == (ARRAY,) and out.ndim > 1:
        # A table's rows, as of an embedding: to name each number takes NumPy a half to a sixth of the time.
        (rows,), size = indices, math.prod(shape[1:])
        numbers = rows.astype(np.intp).reshape(-1, 1) * size + np.arange(size)
        np.add.at(out.reshape(-1), numbers.reshape(-1), np.broadcast_to(g, rows.shape + out.shape[1:]).reshape(-1))
    else:
        np.add.at(out, where, g)
    return out


def _set(x: Any, v: Any, *indices: Any, index: tuple[Any, ...]) -> Any:
    out = np.array(x)
    out[_fill(index, indices)] = v
    return out


def _to_value(g: Any, _y: Any, _x: Any, _v: Any, *indices: Any, index: tuple[Any, ...]) -> Any:
    g, shape = _getitem(g, *indices, index=index), np.shape(_v)
    return unbroadcast(g, shape[max(len(shape) - g.ndim, 0) :]).reshape(shape)  # v may have more axes, of length 1


_getitem = primitive(
    _get,
    lambda g, _y, _x, *indices, index: scatter_add(g, *indices, index=index, shape=_x.shape),
    name="getitem",
)
scatter_add: Primitive = primitive(
    _scatter_add, lambda g, _y, _x, *indices, index, shape: _getitem(g, *indices, index=index), name="scatter_add"
)
_setitem: Primitive = primitive(
    _set, lambda g, _y, _x, _v, *indices, index: _setitem(g, 0, *indices, index=index), _to_value, name="setitem"
)


def _parse(index: Any) -> tuple[tuple[Any, ...], list[Any]]:
    """A subscript as a static template and its arrays."""
    template: list[Any] = []
    arrays = []
    for i in index if isinstance(index, tuple) else (index,):
        if i is None or i is ... or isinstance(i, slice) or (isinstance(i, int | np.integer) and type(i) is not bool):
            template.append(i)
            continue
        array = i if isinstance(i, Handle | np.ndarray) else np.asarray(i, dtype=None if np.size(i) else np.intp)
        dtype = array.data.dtype if isinstance(array, Handle) else array.dtype
        if dtype.kind not in "iub":
            raise IndexError(f"getitem: expected an index of integers, booleans, slices, ... or None, got {dtype}")
        template.append(ARRAY)
        arrays.append(array)
    return tuple(template), arrays


def replaced(
    index: tuple[Any, ...], arrays: Iterable[Any], by: Callable[[Any], Sequence[Any]]
) -> tuple[tuple[Any, ...], list[Any]]:
    """A template and its arrays, each of them replaced by some."""
    template: list[Any] = []
    found: list[Any] = []
    rest = iter(arrays)
    for i in index:
        given = by(next(rest)) if i is ARRAY else ()
        template += [ARRAY] * len(given) if i is ARRAY else [i]
        found += given
    return tuple(template), found


def getitem(x: Array, index: Any) -> Tensor:
    """`x[index]`: basic, boolean and integer-array indexing. Elements named twice add up their gradients."""
    template, arrays = _parse(index)
    return _getitem(x, *arrays, index=template)


def setitem(x: Array, index: Any, value: Array) -> Tensor:
    """A copy of x with `copy[index] = value`.

    Where an index names an element twice, the last value stays, and every value that was written there gets
    the element's gradient, as PyTorch's."""
    template, arrays = _parse(index)
    return _setitem(x, value, *arrays, index=template)


@answers()
def take(a: Array, indices: Array, axis: int | None = None) -> Tensor:
    """Elements or slices by integer index; of the flat array without an axis."""
    indices = asarray(indices)
    if indices.dtype == np.bool_ or not indices.size:  # numbers here, no mask; [] has no dtype of its own
        indices = indices.astype(np.intp)
    if axis is None:
        return getitem(ravel(a), indices)
    return getitem(a, part(normalize_axis_index(axis, a.ndim), indices))


@answers()
def take_along_axis(arr: Array, indices: Array, axis: int | None = -1) -> Tensor:
    """Elements picked along one axis by an index array of as many axes, as `argsort` gives it."""
    if axis is None:
        return getitem(ravel(arr), indices)
    axis = normalize_axis_index(axis, arr.ndim)
    if indices.ndim != arr.ndim:
        raise ValueError(f"take_along_axis: expected indices of {arr.ndim} axes, got shape {indices.shape}")
    grid: list[Any] = [np.arange(n).reshape((n,) + (1,) * (arr.ndim - i - 1)) for i, n in enumerate(arr.shape)]
    grid[axis] = indices
    return getitem(arr, tuple(grid))


@answers()
def compress(condition: Array, a: Array, axis: int | None = None) -> Tensor:
    """The elements or slices along an axis (of the flat array without one) where a 1-D condition holds."""
    return take(a, flatnonzero(condition), axis)


@answers()
def extract(condition: Array, arr: Array) -> Tensor:
    """The elements of the flat array where the flat condition holds."""
    return take(arr, flatnonzero(condition))


@answers()
def delete(arr: Array, obj: Any, axis: int | None = None) -> Tensor:
    """Without some elements or slices along an axis, or of the flat array. obj: integers, booleans or a slice."""
    n = arr.size if axis is None else arr.shape[axis]
    return take(arr, np.delete(np.arange(n), obj if isinstance(obj, slice | list) else np.asarray(obj)), axis)


@without_gradient()
def _nonzero(a: Array) -> Any:
    return np.nonzero(a)


@answers()
def nonzero(a: Array) -> tuple[Tensor, ...]:
    """The indices of the elements that are not zero, an array per axis. No gradient."""
    indices: Any = _nonzero(a)
    return indices


@without_gradient()
def flatnonzero(a: Array) -> Any:
    """The indices in the flat array of the elements that are not zero."""
    return np.flatnonzero(a)


@without_gradient()
def argwhere(a: Array) -> Any:
    """The indices of the elements that are not zero, a row per element."""
    return np.argwhere(a)


@without_gradient()
def _unravel_index(indices: Array, shape: Shape) -> Any:
    return np.unravel_index(indices, shape)


@answers()
def unravel_index(indices: Array, shape: Shape) -> tuple[Tensor, ...]:
    """Flat indices as indices per axis. No gradient."""
    found: Any = _unravel_index(indices, shape)
    return found
