"""What the wrong elements of a gradient have in common: a table of properties, each true of some elements.

A property is named where exactly the wrong elements have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..graph import Array


@dataclass(frozen=True)
class Elements:
    """The checked elements of an argument: their values, positions (an array per axis) and gradients by backward."""

    name: str
    values: Array
    positions: tuple[Array, ...]
    shape: tuple[int, ...]
    analytic: Array


Property = Callable[[Elements], Iterator[tuple[str, Array]]]


def _by_value(e: Elements) -> Iterator[tuple[str, Array]]:
    yield f"where {e.name} < 0", e.values < 0
    yield f"where {e.name} > 0", e.values > 0
    yield f"where {e.name} == 0", e.values == 0
    yield f"where |{e.name}| < 1", abs(e.values) < 1
    yield f"where |{e.name}| > 1", abs(e.values) > 1


def _by_axis(e: Elements) -> Iterator[tuple[str, Array]]:
    """One position along an axis, or all but one."""
    for axis, (at, n) in enumerate(zip(e.positions, e.shape, strict=True)):
        for k in range(n) if n > 1 else ():
            yield f"in {_position(e.shape, axis, k)}", at == k
            if n > 2:
                yield f"outside of {_position(e.shape, axis, k)}", at != k


def _position(shape: tuple[int, ...], axis: int, k: int) -> str:
    one = "element" if len(shape) == 1 else {2: "row", 1: "column"}.get(len(shape) - axis, f"part of axis {axis}")
    if 0 < k == shape[axis] - 1:
        return f"the last {one}"
    return f"{one} {k}" if len(shape) - axis <= 2 else f"part {k} of axis {axis}"


def _by_diagonal(e: Elements) -> Iterator[tuple[str, Array]]:
    if len(e.shape) > 1:
        row, column = e.positions[-2:]
        yield "on the diagonal", row == column
        yield "off the diagonal", row != column
        yield "above the diagonal", row < column
        yield "below the diagonal", row > column


def _by_gradient(e: Elements) -> Iterator[tuple[str, Array]]:
    yield "where the gradient by backward is 0", e.analytic == 0
    yield "where the gradient by backward is not 0", e.analytic != 0


PROPERTIES: tuple[Property, ...] = (_by_value, _by_axis, _by_diagonal, _by_gradient)


def in_common(elements: Elements, wrong: Array) -> str:
    """`wrong only where x < 0`, or nothing where no property fits, or all elements are wrong."""
    if wrong.all() or not wrong.any():
        return ""
    found = (text for some in PROPERTIES for text, true in some(elements) if np.array_equal(true, wrong))
    return next((f"wrong only {text}" for text in found), "")
