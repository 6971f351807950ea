"""Joining, cutting, padding and repeating arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..primitive import primitive
from ._arguments import ONE, Array, Shape, answers, asarray, part
from .index import getitem
from .shape import atleast_1d, atleast_2d, atleast_3d, broadcast_to, expand_dims, moveaxis, ravel, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor


def _cut(g: Any, _y: Any, *_xs: Any, argnum: int, axis: int = 0) -> Any:
    end = sum(x.shape[axis] for x in _xs[: argnum + 1])
    return g[part(axis % g.ndim, slice(end - _xs[argnum].shape[axis], end))]


_join = primitive(lambda *arrays, axis=0: np.concatenate(arrays, axis), _cut, name="concatenate")


@answers()
def concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Tensor:
    """Arrays joined along an axis that they have; `axis=None` flattens them first."""
    if axis is None:
        return _join(*[ravel(a) for a in arrays], axis=0)
    return _join(*arrays, axis=axis)


concat = concatenate  # NumPy has both names


@answers()
def stack(arrays: Sequence[Array], axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis."""
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


@answers()
def vstack(tup: Sequence[Array]) -> Tensor:
    """Joined along the first axis; 1-D arrays are rows."""
    return concatenate([atleast_2d(a) for a in tup], 0)


@answers()
def hstack(tup: Sequence[Array]) -> Tensor:
    """Joined along the second axis; 1-D arrays along their only one."""
    parts = [atleast_1d(a) for a in tup]
    return concatenate(parts, 0 if np.ndim(parts[0]) == 1 else 1)


@answers()
def dstack(tup: Sequence[Array]) -> Tensor:
    """Joined along the third axis."""
    return concatenate([atleast_3d(a) for a in tup], 2)


@answers()
def column_stack(tup: Sequence[Array]) -> Tensor:
    """1-D arrays as columns, 2-D ones as they are, side by side."""
    return concatenate([a if np.ndim(a) > 1 else reshape(a, shape=(-1, 1)) for a in tup], 1)


@answers()
def append(arr: Array, values: Array, axis: int | None = None) -> Tensor:
    """`values` joined behind `arr`; both flat without an axis."""
    return concatenate([arr, values], axis)


@answers()
def block(arrays: Any) -> Tensor:
    """One array from nested lists of blocks: the innermost lists are joined along the last axis, the lists around
    them along the last but one, and so on."""
    depth, level = 0, arrays
    while isinstance(level, list):
        depth, level = depth + 1, level[0]

    def leaves(nested: Any) -> list[Any]:
        return [x for item in nested for x in leaves(item)] if isinstance(nested, list) else [nested]

    ndim = max(depth, *[np.ndim(x) for x in leaves(arrays)])

    def join(nested: Any, axis: int) -> Any:
        if isinstance(nested, list):
            return concatenate([join(item, axis + 1) for item in nested], axis)
        return reshape(nested, shape=(1,) * (ndim - np.ndim(nested)) + np.shape(nested))

    return join(arrays, ndim - depth)


@answers()
def array_split(ary: Array, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Parts along an axis, as equal as can be, or cut at the given places."""
    n = ary.shape[axis]
    if isinstance(indices_or_sections, ONE):
        if indices_or_sections < 1:
            raise ValueError(f"split: expected at least one part, got {indices_or_sections}")
        size, extra = divmod(n, indices_or_sections)
        cuts = list(accumulate(size + (i < extra) for i in range(indices_or_sections - 1)))
    else:
        cuts = [int(i) for i in indices_or_sections]
    axis = normalize_axis_index(axis, ary.ndim)
    return [getitem(ary, part(axis, slice(a, b))) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


@answers()
def split(ary: Array, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Equal parts along an axis, or cut at the given places."""
    sections = indices_or_sections if isinstance(indices_or_sections, ONE) else 1
    if sections > 0 and ary.shape[axis] % sections:
        raise ValueError(
            f"split: axis {axis} of shape {ary.shape} has no {indices_or_sections} equal parts; use array_split"
        )
    return array_split(ary, indices_or_sections, axis)


@answers()
def hsplit(ary: Array, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """`split` along the second axis, or the only one."""
    return split(ary, indices_or_sections, 0 if ary.ndim == 1 else 1)


@answers()
def vsplit(ary: Array, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """`split` along the first axis."""
    return split(ary, indices_or_sections, 0)


@answers()
def dsplit(ary: Array, indices_or_sections: int | Sequence[int]) -> list[Tensor]:
    """`split` along the third axis."""
    return split(ary, indices_or_sections, 2)


@answers()
def unstack(x: Array, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along an axis."""
    return tuple(moveaxis(x, axis, 0))


def _pad(x: Any, pad_width: Any) -> Any:
    out = np.zeros([before + n + after for n, (before, after) in zip(x.shape, pad_width, strict=True)], x.dtype)
    out[_core(x.shape, pad_width)] = x
    return out


def _core(shape: tuple[int, ...], pad_width: Any) -> Any:
    return tuple(slice(before, before + n) for n, (before, _) in zip(shape, pad_width, strict=True))


def _widths(pad_width: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    """(before, after) of each axis."""
    pairs = np.zeros((ndim, 2), int)
    for axis, width in pad_width.items() if isinstance(pad_width, dict) else [(..., pad_width)]:
        place, found = (axis if axis is ... else normalize_axis_index(axis, ndim)), np.asarray(width)
        if found.dtype.kind not in "iu":
            raise TypeError(f"pad: expected integers as pad_width, got {width!r}")
        try:
            pairs[place] = found
        except ValueError:
            raise ValueError(f"pad: expected a number, a pair, or one pair per axis of {ndim}, got {width!r}") from None
    if (pairs < 0).any():
        raise ValueError(f"pad: expected widths >= 0, got {pad_width!r}")
    return tuple((before, after) for before, after in pairs.tolist())


_pad_zeros = primitive(_pad, lambda g, _y, _x, pad_width: g[_core(_x.shape, pad_width)], name="pad")


@answers()
def pad(array: Array, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Tensor:
    """Longer at both ends of each axis.

    pad_width: a number, (before, after), or one such pair per axis; {axis: one of these} leaves other axes as they are.
    mode: "constant" with `constant_values` (numbers, in the same form), "edge", "reflect", "symmetric" or "wrap".
    """
    width = _widths(pad_width, array.ndim)
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"pad: expected mode constant, edge, reflect, symmetric or wrap, got {mode!r}")
    if mode != "constant":
        for axis, pair in enumerate(width):
            index = np.pad(np.arange(array.shape[axis]), pair, mode=mode)
            array = getitem(array, part(axis, index))
        return array
    padded = _pad_zeros(array, pad_width=width)
    if not np.any(constant_values):
        return padded
    return padded + np.pad(np.zeros(array.shape, array.dtype), width, constant_values=constant_values)


@answers()
def tile(A: Array, reps: Shape) -> Tensor:
    """The array as a whole repeated along each axis."""
    A = asarray(A)
    times = (reps,) if isinstance(reps, ONE) else tuple(reps)
    times = (1,) * (A.ndim - len(times)) + times
    shape = (1,) * (len(times) - A.ndim) + A.shape
    pairs = list(zip(times, shape, strict=True))
    apart = reshape(A, shape=tuple(k for n in shape for k in (1, n)))
    repeated = broadcast_to(apart, shape=tuple(k for pair in pairs for k in pair))
    return reshape(repeated, shape=tuple(r * n for r, n in pairs))


@answers()
def repeat(a: Array, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element repeated along an axis, or of the flat array."""
    a = asarray(a)
    if axis is None:
        a, axis = ravel(a), 0
    axis = normalize_axis_index(axis, a.ndim)
    return getitem(a, part(axis, np.repeat(np.arange(a.shape[axis]), np.asarray(repeats))))


@answers()
def roll(a: Array, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved along axes, or along the flat array; what leaves at one end comes in at the other."""
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), shape=a.shape)
    axes, shifts = np.broadcast_arrays(normalize_axis_tuple(axis, a.ndim, allow_duplicate=True), shift)
    for i, by in zip(axes.tolist(), shifts.tolist(), strict=True):
        cut = -by % max(a.shape[i], 1)
        a = concatenate([getitem(a, part(i, slice(cut, None))), getitem(a, part(i, slice(cut)))], i)
    return a


@answers()
def resize(a: Array, new_shape: Shape) -> Tensor:
    """The flat elements, repeated or cut off to fill another shape; of nothing, zeros."""
    a = ravel(a)
    shape = (new_shape,) if isinstance(new_shape, ONE) else tuple(new_shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"resize: expected lengths >= 0, got {shape}")
    if not a.size:
        a = concatenate([a, np.zeros(1, a.dtype)])
    return getitem(a, np.arange(int(np.prod(shape))).reshape(shape) % a.size)
