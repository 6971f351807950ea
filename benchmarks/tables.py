"""`Table`: measured figures as Markdown that is aligned, so that it can also be read as it is."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .timing import Times, quartiles, ratio


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, rows of texts, and what must be said about them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(self.header))]
        rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
        text = [f"## {self.title}", ""]
        for first, *others in [self.header, rule, *self.rows]:
            cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
            text.append(f"| {' | '.join(cells)} |")
        return "\n".join([*text, "", *(f"{note}\n" for note in self.notes)])


def short(seconds: float) -> str:
    """A duration in µs, to three digits or more."""
    us = seconds * 1e6
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}" if us >= 10 else f"{us:.2f}"


def spread(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The quartiles of a ratio."""
    low, high = quartiles(ours, theirs)
    return f"{low:.2f} to {high:.2f}"


def reached(value: float, must: float | None, stretch: float | None) -> str:
    """Which of two upper limits a value keeps to."""
    if must is None:
        return ""
    if stretch is not None and value <= stretch:
        return "stretch"
    return "must" if value <= must else "no"


def comparison(
    title: str, times: Times, ours: str, targets: dict[str, float] | None = None, notes: Iterable[str] = ()
) -> Table:
    """Medians and minima in µs, and the ratio of ours to each peer: of medians, of minima, and its quartiles."""
    rows = []
    for name, values in times.items():
        row = [name, short(statistics.median(values)), short(min(values)), "", "", ""]
        if name != ours:
            row[3:] = f"{ratio(times[ours], values):.2f}", f"{min(times[ours]) / min(values):.2f}", ""
            row[5] = spread(times[ours], values)
        if targets is not None:
            row.append(f"{targets[name]:.2f}" if name in targets else "")
        rows.append(row)
    header = ["", "median", "minimum", "ratio", "of minima", "quartiles", *([] if targets is None else ["target"])]
    return Table(f"{title} (µs)", header, rows, list(notes))
