"""Operations that move elements and compute nothing: each linear one is the rule of its adjoint.

The pairs: sum and broadcast, pad and slice, getitem and scatter-add; reshape, transpose and flip are
their own partners. What NumPy offers beyond these is composed of them in a line or three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..primitive import answer, primitive

if TYPE_CHECKING:
    from .._tensor import Tensor

Axis = int | Sequence[int] | None


def _broadcast(x: Any, shape: Any) -> Any:
    x = np.asarray(x)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if x.shape == shape:
        return x
    out = np.empty(shape, x.dtype)  # 0.4 µs with the fill; np.broadcast_to takes 2.4 and shares its elements
    if x.ndim > len(shape):
        np.broadcast_to(x, shape)  # raises: it would drop axes
    out[...] = x
    return out


def restore(g: Any, ndim: int, axis: Axis, keepdims: bool) -> Any:
    """Put back, with length 1, the axes that a reduction took away."""
    if keepdims or not ndim:
        return g
    if axis is None:
        return g.reshape((1,) * ndim)
    axes = (axis,) if isinstance(axis, int | np.integer) else axis
    axes = {a % ndim for a in axes}
    return g[tuple(None if i in axes else slice(None) for i in range(ndim))]


def _sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    return np.add.reduce(x, axis=axis, keepdims=keepdims)


broadcast_to = primitive(
    _broadcast, lambda g, _y, _x, shape: _undo_broadcast(g, _x.shape), name="broadcast_to", numpy=np.broadcast_to
)
sum = primitive(
    _sum,
    lambda g, _y, _x, axis=None, keepdims=False: broadcast_to(restore(g, _x.ndim, axis, keepdims), shape=_x.shape),
    name="sum",
    numpy=np.sum,
)


def _undo_broadcast(g: Any, shape: tuple[int, ...]) -> Any:
    lead = g.ndim - len(shape)
    axes = tuple(i for i in range(g.ndim) if i < lead or shape[i - lead] == 1 != g.shape[i])
    return g.sum(axis=axes, keepdims=True).reshape(shape) if axes else g


reshape = primitive(
    lambda x, shape: np.reshape(x, shape),
    lambda g, _y, _x, shape: g.reshape(_x.shape),
    name="reshape",
    numpy=np.reshape,
)
transpose = primitive(
    lambda x, axes=None: np.transpose(x, axes),
    lambda g, _y, _x, axes=None: g.transpose(
        None if axes is None else tuple(int(i) for i in np.argsort([a % _x.ndim for a in axes]))
    ),
    name="transpose",
    numpy=np.transpose,
)
flip = primitive(
    lambda m, axis=None: np.flip(m, axis), lambda g, _y, _x, axis=None: np.flip(g, axis), name="flip", numpy=np.flip
)


def _spans(shapes: Sequence[tuple[int, ...]], axis: int) -> list[int]:
    ends = [0]
    for shape in shapes:
        ends.append(ends[-1] + shape[axis])
    return ends


def _part(g: Any, _y: Any, *_xs: Any, argnum: int, axis: int = 0) -> Any:
    ends = _spans([x.shape for x in _xs], axis)
    return g[(slice(None),) * (axis % g.ndim) + (slice(ends[argnum], ends[argnum + 1]),)]


_join = primitive(lambda *arrays, axis=0: np.concatenate(arrays, axis), _part, name="concatenate")


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Tensor:
    """Join arrays along an existing axis; `axis=None` flattens them first."""
    if axis is None:
        return _join(*[ravel(a) for a in arrays], axis=0)
    return _join(*arrays, axis=axis)


def _cut(g: Any, _y: Any, _x: Any, pad_width: Any) -> Any:
    return g[tuple(slice(before, before + n) for (before, _), n in zip(pad_width, _x.shape, strict=True))]


_pad = primitive(lambda x, pad_width: np.pad(x, pad_width), _cut, name="pad")


def pad(array: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tensor:
    """NumPy's `pad` in the modes constant, edge, reflect, symmetric and wrap."""
    width = np.broadcast_to(np.asarray(pad_width), (array.ndim, 2)).tolist() if array.ndim else []
    width = tuple((int(a), int(b)) for a, b in width)
    if mode != "constant":
        for axis, pair in enumerate(width):
            index = np.pad(np.arange(array.shape[axis]), pair, mode=mode)
            array = array[(slice(None),) * axis + (index,)]
        return array
    padded = _pad(array, pad_width=width)
    if np.all(np.equal(constant_values, 0)):
        return padded
    border = np.pad(np.zeros(array.shape, array.dtype), width, constant_values=constant_values)
    return padded + border


def ravel(a: Any) -> Tensor:
    """The elements in one axis, in C order."""
    return reshape(a, shape=(-1,))


def matrix_transpose(x: Any) -> Tensor:
    """The last two axes exchanged."""
    return swapaxes(x, -1, -2)


def swapaxes(a: Any, axis1: int, axis2: int) -> Tensor:
    """Two axes exchanged."""
    axes = list(range(a.ndim))
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    axes[i], axes[j] = axes[j], axes[i]
    return transpose(a, axes=tuple(axes))


def moveaxis(a: Any, source: Any, destination: Any) -> Tensor:
    """Axes moved to other places, the rest in their order."""
    src = normalize_axis_tuple(source, a.ndim, "source")
    dst = normalize_axis_tuple(destination, a.ndim, "destination")
    if len(src) != len(dst):
        raise ValueError(f"moveaxis: source {source} and destination {destination} must have as many axes")
    order = [i for i in range(a.ndim) if i not in src]
    for to, frm in sorted(zip(dst, src, strict=True)):
        order.insert(to, frm)
    return transpose(a, axes=tuple(order))


def rollaxis(a: Any, axis: int, start: int = 0) -> Tensor:
    """One axis moved back to before `start`."""
    axis = normalize_axis_index(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    return moveaxis(a, axis, start - 1 if axis < start else start)


def expand_dims(a: Any, axis: Any) -> Tensor:
    """New axes of length 1."""
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = a.ndim + len(axes)
    axes = normalize_axis_tuple(axes, ndim)
    old = iter(a.shape)
    return reshape(a, shape=tuple(1 if i in axes else next(old) for i in range(ndim)))


def squeeze(a: Any, axis: Axis = None) -> Tensor:
    """Without the axes of length 1, or without those named."""
    axes = [i for i, n in enumerate(a.shape) if n == 1] if axis is None else list(normalize_axis_tuple(axis, a.ndim))
    for i in axes:
        if a.shape[i] != 1:
            raise ValueError(f"squeeze: expected length 1 on axis {i}, got {a.shape[i]}")
    return reshape(a, shape=tuple(n for i, n in enumerate(a.shape) if i not in axes))


def atleast_1d(*arys: Any) -> Any:
    """Arrays of at least one axis."""
    return _each([reshape(a, shape=(1,)) if not np.ndim(a) else a for a in arys])


def atleast_2d(*arys: Any) -> Any:
    """Arrays of at least two axes; new ones come first."""
    return _each([a if np.ndim(a) >= 2 else reshape(a, shape=(1, -1)) for a in arys])


def atleast_3d(*arys: Any) -> Any:
    """Arrays of at least three axes, as NumPy places them."""

    def place(a: Any) -> Any:
        shape = a.shape
        return a if a.ndim >= 3 else reshape(a, shape={0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[a.ndim])

    return _each([place(a) for a in arys])


def _each(results: list[Any]) -> Any:
    return results[0] if len(results) == 1 else tuple(results)


def broadcast_arrays(*args: Any) -> tuple[Tensor, ...]:
    """All arguments broadcast to their common shape."""
    shape = np.broadcast_shapes(*[np.shape(a) for a in args])
    return tuple(broadcast_to(a, shape=shape) for a in args)


def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis."""
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


def vstack(tup: Sequence[Any]) -> Tensor:
    """Joined along the first axis; 1-D arrays become rows."""
    return concatenate([atleast_2d(a) for a in tup], 0)


def hstack(tup: Sequence[Any]) -> Tensor:
    """Joined along the second axis; 1-D arrays along their only one."""
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if parts[0].ndim == 1 else 1)


def dstack(tup: Sequence[Any]) -> Tensor:
    """Joined along the third axis."""
    return concatenate([atleast_3d(a) for a in tup], 2)


def column_stack(tup: Sequence[Any]) -> Tensor:
    """1-D arrays as columns, 2-D ones side by side."""
    return concatenate([reshape(a, shape=(-1, 1)) if np.ndim(a) < 2 else a for a in tup], 1)


def append(arr: Any, values: Any, axis: int | None = None) -> Tensor:
    """`values` joined behind `arr`."""
    return concatenate([arr, values], axis)


def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut into parts, as equal as can be, or at the given places."""
    n = ary.shape[axis]
    if isinstance(indices_or_sections, int):
        size, extra = divmod(n, indices_or_sections)
        cuts = np.cumsum([size + 1] * extra + [size] * (indices_or_sections - extra))[:-1].tolist()
    else:
        cuts = [int(i) for i in indices_or_sections]
    lead = (slice(None),) * normalize_axis_index(axis, ary.ndim)
    return [ary[(*lead, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut into equal parts, or at the given places."""
    if isinstance(indices_or_sections, int) and ary.shape[axis] % indices_or_sections:
        raise ValueError(
            f"split: axis {axis} of length {ary.shape[axis]} has no {indices_or_sections} equal parts; use array_split"
        )
    return array_split(ary, indices_or_sections, axis)


def hsplit(ary: Any, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the second axis, or the only one."""
    return split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1)


def vsplit(ary: Any, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the first axis."""
    return split(ary, indices_or_sections, 0)


def dsplit(ary: Any, indices_or_sections: Any) -> list[Tensor]:
    """`split` along the third axis."""
    return split(ary, indices_or_sections, 2)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis."""
    return tuple(moveaxis(x, axis, 0))


def tile(A: Any, reps: Any) -> Tensor:
    """The array repeated as a whole, along each axis."""
    reps = (reps,) if isinstance(reps, int) else tuple(reps)
    reps = (1,) * (A.ndim - len(reps)) + reps
    shape = (1,) * (len(reps) - A.ndim) + A.shape
    paired = reshape(A, shape=tuple(k for n in shape for k in (1, n)))
    wide = broadcast_to(paired, shape=tuple(k for r, n in zip(reps, shape, strict=True) for k in (r, n)))
    return reshape(wide, shape=tuple(r * n for r, n in zip(reps, shape, strict=True)))


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Each element repeated, along an axis or of the flat array."""
    if axis is None:
        return repeat(ravel(a), repeats, 0)
    axis = normalize_axis_index(axis, a.ndim)
    index = np.repeat(np.arange(a.shape[axis]), repeats)
    return a[(slice(None),) * axis + (index,)]


def roll(a: Any, shift: Any, axis: Any = None) -> Tensor:
    """Elements moved along axes; what leaves at one end comes in at the other."""
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), shape=a.shape)
    axes = normalize_axis_tuple(axis, a.ndim, allow_duplicate=True)
    for i, by in zip(axes, np.broadcast_to(shift, (len(axes),)).tolist(), strict=True):
        n = a.shape[i]
        by = by % n if n else 0
        lead = (slice(None),) * i
        a = concatenate([a[(*lead, slice(n - by, n))], a[(*lead, slice(0, n - by))]], i)
    return a


def rot90(m: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Tensor:
    """Turned by k quarter turns, from the first of the axes towards the second."""
    k %= 4
    if k == 0:
        return flip(flip(m, axis=axes[0]), axis=axes[0])
    if k == 2:
        return flip(m, axis=tuple(axes))
    return flip(swapaxes(m, *axes), axis=axes[0]) if k == 1 else swapaxes(flip(m, axis=axes[0]), *axes)


def fliplr(m: Any) -> Tensor:
    """The second axis reversed."""
    return flip(m, axis=1)


def flipud(m: Any) -> Tensor:
    """The first axis reversed."""
    return flip(m, axis=0)


def resize(a: Any, new_shape: Any) -> Tensor:
    """Repeated or cut to a new number of elements."""
    shape = (new_shape,) if isinstance(new_shape, int) else tuple(new_shape)
    return reshape(ravel(a)[np.arange(math.prod(shape)) % max(a.size, 1)], shape=shape)


_COMPOSITES = (
    concatenate, pad, ravel, matrix_transpose, swapaxes, moveaxis, rollaxis, expand_dims, squeeze, atleast_1d,
    atleast_2d, atleast_3d, broadcast_arrays, stack, vstack, hstack, dstack, column_stack, append, array_split, split,
    hsplit, vsplit, dsplit, unstack, tile, repeat, roll, rot90, fliplr, flipud, resize,
)  # fmt: skip
for _composite in _COMPOSITES:
    if hasattr(np, _composite.__name__):
        answer(_composite, getattr(np, _composite.__name__))
answer(matrix_transpose, np.linalg.matrix_transpose)
