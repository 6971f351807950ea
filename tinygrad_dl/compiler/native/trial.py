"""`Trial`: of several ways to do the same, the one that is quickest here and now."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

TRIES = 15  # of each way
USES = 5_000  # calls until all ways are tried again: whoever else computes here may have come or gone


class Trial:
    """A function of a way and whatever else it is called with; all ways have the same results."""

    def __init__(self, function: Callable[..., Any], ways: Sequence[Any]) -> None:
        self.function, self.ways = function, ways
        self.best: Any = ways[0]  # what it is called with for so many calls that are left
        self.left = 0
        self.times: list[list[float]] = [[] for _ in ways]

    def __call__(self, *rest: Any) -> Any:
        if self.left:
            self.left -= 1
            return self.function(self.best, *rest)
        times, way = min(zip(self.times, self.ways, strict=True), key=lambda pair: len(pair[0]))
        start = time.perf_counter()
        result = self.function(way, *rest)
        times.append(time.perf_counter() - start)
        if len(self.times[-1]) == TRIES:
            self._settle()
        return result

    def _settle(self) -> None:
        medians = [*map(median, self.times)]
        self.best, self.left = self.ways[medians.index(min(medians))], USES
        self.times = [[] for _ in self.ways]
