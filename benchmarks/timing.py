"""Alternating rounds: every contestant is timed in every round, so a slow minute slows them all."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable


def alternate(
    contestants: dict[str, Callable[[], object]], rounds: int = 15, number: int = 5
) -> dict[str, list[float]]:
    """Seconds per call of each contestant, one figure per round."""
    for call in contestants.values():
        for _ in range(3):
            call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            times[name].append(timeit.timeit(call, number=number) / number)
    return times


def table(title: str, times: dict[str, list[float]], ours: str, targets: dict[str, float], unit: float = 1e6) -> None:
    """Print medians, minima and the ratio of ours to each peer: of medians, of minima, and its spread."""
    print(f"\n{title} (µs)" if unit == 1e6 else f"\n{title}")
    print(f"{'':34}{'median':>10}{'minimum':>10}{'ratio':>9}{'of minima':>11}{'quartiles':>15}{'target':>8}")
    for name, values in times.items():
        row = f"{name:34}{statistics.median(values) * unit:10.2f}{min(values) * unit:10.2f}"
        if name != ours:
            ratios = sorted(a / b for a, b in zip(times[ours], values, strict=True))
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            ratio = statistics.median(times[ours]) / statistics.median(values)
            row += f"{ratio:9.2f}{min(times[ours]) / min(values):11.2f}{f'{low:.2f} to {high:.2f}':>15}"
            row += f"{targets[name]:8.2f}" if name in targets else ""
        print(row)
