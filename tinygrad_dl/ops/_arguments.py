"""How operations read NumPy's arguments: arrays, axes, and the names of the functions that they answer to."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from .._spelling import spelled
from ..graph import Handle
from ..primitive import Primitive, answer, primitive

Array = Any  # a Tensor, an ndarray, or what np.asarray takes
Axis = int | Sequence[int] | None
Shape = int | Sequence[int]
ONE = int | np.integer  # a single axis, length or number, Python's or NumPy's
F = TypeVar("F", bound=Callable[..., Any])


def numpy_functions(*names: str) -> tuple[Callable[..., Any], ...]:
    """NumPy's functions of these names ("exp", "linalg.norm"), without those that this version of NumPy lacks."""
    top: Any = np
    found = [reduce(lambda place, part: getattr(place, part, None), name.split("."), top) for name in names]
    return tuple(dict.fromkeys(f for f in found if callable(f)))  # np.amax may be np.max


def answers(*names: str) -> Callable[[F], F]:
    """Decorate a composite: it answers to these functions of NumPy, by default to the one of its own name."""

    def register(function: F) -> F:
        if "axis" in inspect.signature(function).parameters:
            function = spelled(function)
        answer(function, numpy_functions(*(names or [function.__name__])))
        return function

    return register


def without_gradient(*names: str, arrays: int = 1) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorate a kernel whose result does not change with small changes of its `arrays` array arguments."""

    def make(kernel: Callable[..., Any]) -> Primitive:
        name = kernel.__name__
        return primitive(kernel, *[None] * arrays, name=name.strip("_"), numpy=numpy_functions(*(names or [name])))

    return make


def asarray(x: Any) -> Any:
    """x itself if it has a shape already, else an ndarray of it."""
    return x if isinstance(x, Handle | np.ndarray) else np.asarray(x)


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes that `axis` names, counted from the front; None names them all."""
    return tuple(range(ndim)) if axis is None else normalize_axis_tuple(axis, ndim)


def part(axis: int, index: Any) -> tuple[Any, ...]:
    """The subscript that applies `index` to one axis, counted from the front, and leaves the others alone."""
    return (slice(None),) * axis + (index,)


def kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape that a reduction over `axis` leaves with keepdims=True."""
    n = len(shape)
    if axis is None or not n:
        return (1,) * n
    if isinstance(axis, int):
        axis %= n
        return (*shape[:axis], 1, *shape[axis + 1 :])
    axes = {a % n for a in (axis if isinstance(axis, Sequence) else (int(axis),))}
    return tuple(1 if i in axes else k for i, k in enumerate(shape))


def count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements fall into one result of a reduction over `axis`."""
    if isinstance(axis, int) and shape:
        return shape[axis]
    return math.prod(shape[a] for a in axes_of(axis, len(shape))) if shape else 1
