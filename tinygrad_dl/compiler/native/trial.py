"""`Trial`: of several ways to do the same, the one that is quickest here and now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

TRIES = 15  # of each way
USES = 1_000  # calls until all ways are tried again: whoever else computes here may have come or gone
SLOW = 1.5  # times what the best way took, from which on a call is slow
TIMED = 8  # of so many calls one is timed, which takes 0.5 µs
AGED = 100  # calls that a slow one of these counts as


class Trial:
    """A function, several ways: all have the same results.

    While `calm` is not 0, whoever calls it may count that down and call `best` in its place."""

    def __init__(self, ways: Sequence[Callable[[Any], Any]]) -> None:
        self.ways = ways
        self.best = ways[0]  # for so many calls that are left
        self.left, self.slow, self.calm = 0, 0.0, 0
        self.times: list[list[float]] = [[] for _ in ways]

    def __call__(self, argument: Any) -> Any:
        if self.left <= 0:
            return self._try(argument)
        start = perf_counter()
        result = self.best(argument)
        self.left -= AGED if perf_counter() - start > self.slow else TIMED
        self.calm = TIMED - 1 if self.left > 0 else 0
        return result

    def _try(self, argument: Any) -> Any:
        # one way after the other: a call finds in the caches what the one before has left there
        times, way = next(pair for pair in zip(self.times, self.ways, strict=True) if len(pair[0]) < TRIES)
        start = perf_counter()
        result = way(argument)
        times.append(perf_counter() - start)
        if len(self.times[-1]) == TRIES:
            medians = [*map(median, self.times)]
            least = min(medians)
            self.best, self.left, self.slow = self.ways[medians.index(least)], USES, SLOW * least
            self.times = [[] for _ in self.ways]
        return result
