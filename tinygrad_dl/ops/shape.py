"""Shapes: broadcasting, and operations that rearrange axes. They move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..autodiff import unbroadcast
from ..primitive import primitive
from ._arguments import ONE, Array, Axis, Shape, answers, asarray, axes_of, numpy_functions

if TYPE_CHECKING:
    from .._tensor import Tensor


def _broadcast_to(array: Array, shape: Shape) -> Any:
    """Repeated along new axes in front and along axes of length 1. The adjoint of a sum."""
    x = np.asarray(array)
    shape = (shape,) if isinstance(shape, ONE) else tuple(shape)
    if x.shape == shape:
        return x
    if x.ndim > len(shape):
        np.broadcast_to(x, shape)  # raises: it would drop axes
    out = np.empty(shape, x.dtype)  # 0.4 µs with the fill; np.broadcast_to takes 2.4 and its elements share memory
    out[...] = x
    return out


def _reshape(a: Array, shape: Shape) -> Any:
    """The same elements in C order under another shape; one entry may be -1."""
    return np.asarray(a).reshape(shape)


def _transpose(a: Array, axes: Sequence[int] | None = None) -> Any:
    """Axes in another order; all reversed by default."""
    return np.asarray(a).transpose(axes)


def _transpose_back(g: Any, _y: Any, _a: Any, axes: Sequence[int] | None = None) -> Any:
    if axes is None:
        return g.transpose()
    inverse = [0] * len(axes)
    for i, axis in enumerate(axes):
        inverse[axis] = i
    return g.transpose(inverse)


def _flip(m: Array, axis: Axis = None) -> Any:
    """The elements in reverse order along axes, by default along all."""
    return np.flip(m, axis if axis is None or isinstance(axis, int | np.integer) else tuple(axis))


broadcast_to = primitive(
    _broadcast_to, lambda g, _y, _x, shape: unbroadcast(g, _x.shape), name="broadcast_to", numpy=np.broadcast_to
)
reshape = primitive(_reshape, lambda g, _y, _a, shape: g.reshape(_a.shape), name="reshape", numpy=np.reshape)
transpose = primitive(_transpose, _transpose_back, name="transpose", numpy=numpy_functions("transpose", "permute_dims"))
flip = primitive(_flip, lambda g, _y, _m, axis=None: np.flip(g, axis), name="flip", numpy=np.flip)


@answers()
def ravel(a: Array) -> Tensor:
    """The elements in one axis, in C order."""
    return reshape(a, shape=(-1,))


@answers()
def swapaxes(a: Array, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    return transpose(a, axes=tuple(j if k == i else i if k == j else k for k in range(a.ndim)))


@answers("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(x: Array) -> Tensor:
    """The last two axes exchanged."""
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose: expected at least 2 axes, got shape {x.shape}")
    return swapaxes(x, -1, -2)


@answers()
def moveaxis(a: Array, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """Axes moved to other places, the rest in their order."""
    src = normalize_axis_tuple(source, a.ndim, "source")
    dst = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(src) != len(dst):
        raise ValueError(f"moveaxis: expected as many source as destination axes, got {source} and {destination}")
    order = [i for i in range(a.ndim) if i not in src]
    for to, origin in sorted(zip(dst, src, strict=True)):
        order.insert(to, origin)
    return transpose(a, axes=tuple(order))


@answers()
def rollaxis(a: Array, axis: int, start: int = 0) -> Tensor:
    """One axis moved back to before `start`."""
    axis = normalize_axis_index(axis, a.ndim)
    start = normalize_axis_index(start, a.ndim + 1) if start >= 0 else start + a.ndim
    return moveaxis(a, axis, start - 1 if axis < start else start)


@answers()
def expand_dims(a: Array, axis: int | Sequence[int]) -> Tensor:
    """New axes of length 1 at these places of the result."""
    a = asarray(a)
    new = normalize_axis_tuple(axis, a.ndim + (1 if isinstance(axis, ONE) else len(axis)))
    lengths = iter(a.shape)
    return reshape(a, shape=tuple(1 if i in new else next(lengths) for i in range(a.ndim + len(new))))


@answers()
def squeeze(a: Array, axis: Axis = None) -> Tensor:
    """Without the axes of length 1, or without those named."""
    axes = [i for i, n in enumerate(a.shape) if n == 1] if axis is None else axes_of(axis, a.ndim)
    for i in axes:
        if a.shape[i] != 1:
            raise ValueError(f"squeeze: expected length 1 on axis {i}, got shape {a.shape}")
    return reshape(a, shape=tuple(n for i, n in enumerate(a.shape) if i not in axes))


def _each(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


@answers()
def atleast_1d(*arys: Array) -> Any:
    """Arrays of at least one axis; one argument gives an array, several a tuple."""
    return _each([a if np.ndim(a) else reshape(a, shape=(1,)) for a in arys])


@answers()
def atleast_2d(*arys: Array) -> Any:
    """Arrays of at least two axes, new ones in front; one argument gives an array, several a tuple."""
    return _each([a if np.ndim(a) > 1 else reshape(a, shape=(1, -1)) for a in arys])


@answers()
def atleast_3d(*arys: Array) -> Any:
    """Arrays of at least three axes: (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    return _each([a if np.ndim(a) > 2 else expand_dims(atleast_2d(a), -1) for a in arys])


@answers()
def broadcast_arrays(*args: Array) -> tuple[Tensor, ...]:
    """All arguments broadcast to their common shape."""
    shape = np.broadcast_shapes(*[np.shape(a) for a in args])
    return tuple(broadcast_to(a, shape=shape) for a in args)


@answers()
def meshgrid(*xi: Array, sparse: bool = False, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate arrays of a grid from coordinates along its axes.

    sparse: leave axes of length 1 instead of repeating. indexing: "xy", first two axes exchanged, or "ij"."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: expected indexing 'xy' or 'ij', got {indexing!r}")
    n, swap = len(xi), indexing == "xy" and len(xi) > 1
    places = [1 - i if swap and i < 2 else i for i in range(n)]
    shapes = [(1,) * place + (-1,) + (1,) * (n - 1 - place) for place in places]
    grids = tuple(reshape(x, shape=shape) for x, shape in zip(xi, shapes, strict=True))
    return grids if sparse else broadcast_arrays(*grids)


@answers()
def rot90(m: Array, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned by k quarter turns, from the first of the axes towards the second."""
    i, j = normalize_axis_tuple(axes, m.ndim)
    if k % 4 == 2:
        return flip(m, axis=(i, j))
    if k % 2:
        return swapaxes(flip(m, axis=j if k % 4 == 1 else i), i, j)
    return reshape(m, shape=m.shape)


@answers()
def fliplr(m: Array) -> Tensor:
    """The second axis reversed."""
    return flip(m, axis=1)


@answers()
def flipud(m: Array) -> Tensor:
    """The first axis reversed."""
    return flip(m, axis=0)


def flatten_axes(a: Array, axis: Axis) -> Tensor:
    """The named axes as one, behind all others."""
    axes = axes_of(axis, a.ndim)
    rest = [i for i in range(a.ndim) if i not in axes]
    moved = transpose(a, axes=(*rest, *axes))
    return reshape(moved, shape=(*[a.shape[i] for i in rest], math.prod(a.shape[i] for i in axes)))
