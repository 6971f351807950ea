"""`place`: where arrays that are needed for a part of a program's time lie in one block of memory."""

from __future__ import annotations

from collections.abc import Sequence

ALIGNMENT = 64  # a cache line, and a vector register


def aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT


def place(spans: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets of arrays, and the bytes that all of them need.

    spans: (bytes, first, last) of each: arrays share memory only if one's last time is before the other's first.
    The largest choose first, each the lowest free place."""
    offsets = [0] * len(spans)
    placed: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: -spans[i][0]):
        size, first, last = aligned(spans[i][0]), spans[i][1], spans[i][2]
        taken = sorted(
            (offsets[j], offsets[j] + aligned(spans[j][0]))
            for j in placed
            if spans[j][1] <= last and first <= spans[j][2]
        )
        for start, end in taken:
            if offsets[i] + size <= start:
                break
            offsets[i] = max(offsets[i], end)
        placed.append(i)
    total = max((offsets[i] + aligned(spans[i][0]) for i in placed), default=0)
    return offsets, total
