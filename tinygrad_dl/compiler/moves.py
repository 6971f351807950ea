"""`moves`: operations that only copy, as numbers: slices and their gradients, arrays joined or padded, axes in another
order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from .. import ops
from ..graph import Array
from ..ops import index as _index
from ..ops import join as _join
from .matrix_product import merged
from .program import Instruction

MOST = 4  # dimensions of a copy, those that lie as one counted once


@dataclass(frozen=True, slots=True)
class Move:
    """A copy. sizes: of its dimensions, from the outside in. source, target: how many elements lie between neighbours
    along each of them, and before the first one."""

    sizes: tuple[int, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]

    @property
    def number(self) -> int:
        """Of elements."""
        return math.prod(self.sizes)


def moves(step: Instruction) -> tuple[Move, ...]:
    """The copies that make the result, where what they leave out is zero; none if it takes more than copies."""
    y, places = step.outputs[0], _PLACES.get(step.op)
    shapes = tuple(x.shape for x in step.inputs)
    alike = len(shapes) == len(step.args) and all(x.dtype == y.dtype and x.size for x in step.inputs)
    pairs = places(y.shape, shapes, step.static) if places and y.size and alike else None
    found = tuple(_move(source, target) for source, target in pairs or ())
    return found if all(len(move.sizes) == MOST for move in found) else ()


# ---- where elements come from and go to, as views of arrays that nobody fills

Pairs = list[tuple[Array, Array]] | None
Places = Callable[[tuple[int, ...], tuple[tuple[int, ...], ...], dict[str, Any]], Pairs]


def _blank(shape: Sequence[int]) -> Array:
    """An array of a byte per element, at which nobody looks."""
    return np.empty(shape, np.uint8)


def _view(kernel: Callable[..., Array]) -> Places:
    """Of an operation whose result is a view of its argument."""
    return lambda made, shapes, static: [(kernel(_blank(shapes[0]), **static), _blank(made))]


def _repeated(made: Any, shapes: Any, static: Any) -> Pairs:
    return [(np.broadcast_to(_blank(shapes[0]), made), _blank(made))]


def _window(x: Array, index: tuple[Any, ...]) -> Array:
    """A part of an array, one element of it as well."""
    return x[index if any(i is ... for i in index) else (*index, ...)]


def _scattered(made: Any, shapes: Any, static: Any) -> Pairs:
    window = _window(_blank(made), static["index"]) if len(shapes) == 1 else None
    return [(_blank(shapes[0]), window)] if window is not None and window.shape == shapes[0] else None


def _taken(made: Any, shapes: Any, static: Any) -> Pairs:
    return [(_window(_blank(shapes[0]), static["index"]), _blank(made))] if len(shapes) == 1 else None


def _written(made: Any, shapes: Any, static: Any) -> Pairs:
    y = _blank(made)
    window = _window(y, static["index"]) if len(shapes) == 2 else None
    if window is None or len(shapes[1]) > window.ndim:
        return None
    return [(_blank(made), y), (np.broadcast_to(_blank(shapes[1]), window.shape), window)]


def _joined(made: Any, shapes: Any, static: Any) -> Pairs:
    axis = static.get("axis", 0)
    ends = accumulate((shape[axis] for shape in shapes), initial=0)
    along = np.moveaxis(_blank(made), axis, 0)
    return [
        (_blank(shape), np.moveaxis(along[start:end], 0, axis))
        for shape, (start, end) in zip(shapes, pairwise(ends), strict=True)
    ]


def _padded(made: Any, shapes: Any, static: Any) -> Pairs:
    return [(_blank(shapes[0]), _blank(made)[_join._core(shapes[0], static["pad_width"])])]


_PLACES: dict[Any, Places] = {op: _view(op.kernel) for op in (ops.reshape, ops.transpose, ops.flip)}
_PLACES |= {
    ops.broadcast_to: _repeated,
    _index._getitem: _taken,
    _index.scatter_add: _scattered,
    _index._setitem: _written,
}
_PLACES |= {_join._join: _joined, _join._pad_zeros: _padded}


def _move(source: Array, target: Array) -> Move:
    """From one view to another; of more than MOST dimensions if it takes so many."""
    steps = zip(source.shape, source.strides, target.strides, strict=True)
    found = merged((count, distances) for count, *distances in steps if count != 1)
    outer = len(found) > 1  # else there is an inner loop at most
    found[outer:outer] = [(1, (0, 0))] * (MOST - len(found))
    starts = [_start(view) for view in (source, target)]
    distances = zip(*(each for _, each in found), strict=True)
    return Move(tuple(count for count, _ in found), *((*d, n) for d, n in zip(distances, starts, strict=True)))


def _start(view: Array) -> int:
    """How many elements of the array lie before the view's first one."""
    owner = view
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return int(view.__array_interface__["data"][0] - owner.__array_interface__["data"][0])
