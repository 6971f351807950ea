"""`Trial`: of several ways to do the same, the one that is quickest here and now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

TRIES = 15  # of each way
USES = 1_000  # calls until all ways are tried again: whoever else computes here may have come or gone
SLOW = 1.5  # times what the best way took, from which on a call is slow
AGED = 100  # calls that a slow one counts as


class Trial:
    """A function of a way and whatever else it is called with; all ways have the same results."""

    def __init__(self, function: Callable[..., Any], ways: Sequence[Any]) -> None:
        self.function, self.ways = function, ways
        self.best: Any = ways[0]  # what it is called with for so many calls that are left
        self.left, self.slow = 0, 0.0
        self.times: list[list[float]] = [[] for _ in ways]

    def __call__(self, *rest: Any) -> Any:
        if self.left <= 0:
            return self._try(*rest)
        start = perf_counter()
        result = self.function(self.best, *rest)
        self.left -= AGED if perf_counter() - start > self.slow else 1
        return result

    def _try(self, *rest: Any) -> Any:
        # one way after the other: a call finds in the caches what the one before has left there
        times, way = next(pair for pair in zip(self.times, self.ways, strict=True) if len(pair[0]) < TRIES)
        start = perf_counter()
        result = self.function(way, *rest)
        times.append(perf_counter() - start)
        if len(self.times[-1]) == TRIES:
            medians = [*map(median, self.times)]
            least = min(medians)
            self.best, self.left, self.slow = self.ways[medians.index(least)], USES, SLOW * least
            self.times = [[] for _ in self.ways]
        return result
