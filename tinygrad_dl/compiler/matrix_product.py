"""`Product`: what a matrix product computes, and where in memory its factors and its result lie.

Attention splits the features of its inputs among heads and exchanges axes before and after each product. To read and
write with distances between rows and between matrices takes no longer, so nothing is copied for that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Distances = tuple[int, int, int]  # in elements: in the first factor, the second, the result


@dataclass(frozen=True, slots=True)
class Product:
    """shape: (rows, inner size, columns). transposed: does a factor lie column by column? apart: the distances between
    rows, or columns of a transposed factor. batch: from the outside in, how many matrices there are, and their
    distances; 0 for one that is read again."""

    shape: tuple[int, int, int]
    transposed: tuple[bool, bool]
    apart: Distances
    batch: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @property
    def number(self) -> int:
        """Of matrices."""
        return math.prod(count for count, _ in self.batch)


def contiguous(shape: tuple[int, int, int], transposed: tuple[bool, bool] = (False, False)) -> Product:
    """A product of whole matrices."""
    m, k, n = shape
    first, second = transposed
    return Product(shape, transposed, (m if first else k, k if second else n, n))


def lies(sizes: Sequence[int], strides: Sequence[int]) -> tuple[bool, int] | None:
    """Does a matrix, the last two dimensions of an array, lie transposed, and how far apart are what then are its rows?
    None if neither its rows nor its columns are contiguous."""
    rows, columns = sizes[-2:]
    down, across = 1 if rows == 1 else strides[-2], 1 if columns == 1 else strides[-1]
    if columns == 1 < rows and down == 1:  # a vector lies both ways: as a row it is read, and written, at once
        return True, rows
    if across == 1 and down:
        return False, max(down, columns)
    return (True, max(across, rows)) if down == 1 and across else None


def located(
    sizes: Sequence[int], inner: int, a: Sequence[int], b: Sequence[int], y: Sequence[int]
) -> tuple[Product, bool]:
    """The product whose result has these sizes, from the strides of factors and result; and whether it is that of the
    exchanged factors, since the result lies transposed."""
    *batch, m, n = sizes
    places = lies((m, inner), a), lies((inner, n), b), lies((m, n), y)
    (first, far_a), (second, far_b), (flips, far_y) = (place for place in places if place)
    steps = [(count, distances) for count, *distances in zip(batch, a, b, y, strict=False) if count > 1]
    if flips:
        shape, transposed, apart = (n, inner, m), (not second, not first), (far_b, far_a, far_y)
        steps = [(count, [at_b, at_a, at_y]) for count, (at_a, at_b, at_y) in steps]
    else:
        shape, transposed, apart = (m, inner, n), (first, second), (far_a, far_b, far_y)
    return Product(shape, transposed, apart, tuple(merged(steps))), flips


def merged(batch: Iterable[tuple[int, Sequence[int]]]) -> list[tuple[int, tuple[int, ...]]]:
    """Dimensions, from the outside in, with how far apart their elements lie in some arrays: two that follow each other
    in all of these are one."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for count, distances in batch:
        if found and found[-1][1] == tuple(count * n for n in distances):
            count *= found.pop()[0]
        found.append((count, tuple(distances)))
    return found
