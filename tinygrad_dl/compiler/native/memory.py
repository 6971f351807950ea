"""`place`: where arrays that are needed for a part of a program's time lie in one block of memory. `Arena`: the block
itself, which several programs may share."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from ...graph import Array

ALIGNMENT = 64  # a cache line, and a vector register


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


class _Block:
    """A block of memory that grows at its end. gaps: what is free in it, in order, no two side by side."""

    def __init__(self) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.size = 0

    def take(self, size: int) -> int:
        """The start of the smallest gap that holds so many bytes, or of new memory."""
        wide = [(end - start, start) for start, end in self.gaps if end - start >= size]
        if wide:
            length, start = min(wide)
            self.gaps.remove((start, start + length))
            if length > size:
                insort(self.gaps, (start + size, start + length))
            return start
        start = self.gaps.pop()[0] if self.gaps and self.gaps[-1][1] == self.size else self.size
        self.size = start + size
        return start

    def give(self, start: int, end: int) -> None:
        """Memory is free again."""
        i = bisect_left(self.gaps, (start, end))
        if i < len(self.gaps) and self.gaps[i][0] == end:
            end = self.gaps.pop(i)[1]
        if i and self.gaps[i - 1][1] == start:
            start = self.gaps.pop(i - 1)[0]
        insort(self.gaps, (start, end))


def place(spans: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets of arrays, and the bytes that all of them need.

    spans: (bytes, first, last) of each: arrays share memory only if one's last time is before the other's first. In
    order of time, of one time the largest first; up to 4 % more than if the largest of all chose first, but in a time
    that does not grow with the square of their number."""
    offsets = [0] * len(spans)
    block = _Block()
    events = [(first, 0, -size, i) for i, (size, first, _) in enumerate(spans)]
    events += [(last, 1, 0, i) for i, (_, _, last) in enumerate(spans)]
    for _, ends, _, i in sorted(events):
        size = aligned(spans[i][0])
        if ends:
            block.give(offsets[i], offsets[i] + size)
        else:
            offsets[i] = block.take(size)
    return offsets, block.size


class Arena:
    """Memory of programs of which one runs at a time; nothing in it stays from one run to the next.

    A block is the next power of two: so those that were too small are together as much as the last one, and what nobody
    writes to is no memory yet."""

    def __init__(self) -> None:
        self._block: Array = np.empty(0, np.uint8)

    def take(self, size: int) -> Array:
        """So many bytes, from a cache line on, for a program."""
        if size + ALIGNMENT > len(self._block):
            self._block = np.empty(1 << (size + ALIGNMENT - 1).bit_length(), np.uint8)
        start = -self._block.ctypes.data % ALIGNMENT
        return self._block[start : start + size]
