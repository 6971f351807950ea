"""Alternating rounds: every contestant is timed in every round, so a slow minute slows them all."""

from __future__ import annotations

import gc
import math
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Times = dict[str, list[float]]
QUIET = 0.01  # seconds: a process rests that uses less than a fifth of them


@dataclass(frozen=True)
class Contestant:
    """One implementation of a step. `read` waits for what a step returned and gives its arrays."""

    step: Callable[[], Any]
    read: Callable[[Any], Any]

    def block(self, number: int) -> float:
        """Seconds per step of several steps, of which only the last is read."""
        start = time.perf_counter()
        for _ in range(number):
            result = self.step()
        self.read(result)
        return (time.perf_counter() - start) / number

    def number(self, least: float) -> int:
        """How many steps take at least so many seconds, once the first ones are over."""
        for _ in range(3):
            self.block(1)
        number = math.ceil(least / self.block(1))
        return math.ceil(least / self.block(number))

    def warm_block(self, number: int) -> float:
        """A block after half as many steps, which bring caches back, and threads to cores of their own."""
        gc.collect()
        self.block(number // 2 + 1)
        return self.block(number)


def rest() -> None:
    """Wait until the threads of this process spin no more, for a second at most: they take a core from whoever is timed
    next. Those of OpenBLAS go on for 25 ms after their work on one processor, for 100 ms on another."""
    for _ in range(100):
        before = time.process_time()
        time.sleep(QUIET)
        if time.process_time() - before < QUIET / 5:
            break


def alternate(contestants: dict[str, Callable[[], object]], rounds: int = 15, number: int = 5) -> Times:
    """Seconds per call of each contestant, one figure per round."""
    for call in contestants.values():
        for _ in range(3):
            call()
    times: Times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            rest()
            call()
            times[name].append(timeit.timeit(call, number=number) / number)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of medians."""
    return statistics.median(ours) / statistics.median(theirs)


def quartiles(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper one of the ratios of every round."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
