"""Depth: the first call of a compiled step, and the steps after it, for networks of 10 to 1000 layers."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from .fresh import Fresh
from .peers import COMPILED, EAGER, Deep
from .processes import Failed, Remote
from .race import LEAST
from .tables import Table, short
from .timing import Times, ratio

DEPTHS = (10, 100, 1000)
ROUNDS = 5
PATIENCE = 60.0  # seconds for a first call


def tables(depths: Sequence[int] = DEPTHS, rounds: int = ROUNDS) -> Iterator[Table]:
    """Compiled and eager in turn, on one thread."""
    header = ["layers", "compiling, s", "ms per layer", "steps per s", "µs per layer and step", "of eager's time"]
    rows, notes = [], []
    for depth in depths:
        try:
            rows.append(_row(Deep(depth), rounds))
        except Failed as error:
            notes.append(f"{depth:,} layers: {error}.")
    about = "x + relu(W x + b) / depth of width 64, batch 64, Adam; compiling is the first call minus an eager one."
    yield Table("Depth: linear if the figures per layer are constant", header, rows, [about, *notes])


def _row(case: Deep, rounds: int) -> list[str]:
    times: Times = {COMPILED: [], EAGER: []}
    first: dict[str, float] = {}
    with Remote(Fresh, COMPILED, threads=1) as compiled, Remote(Fresh, EAGER, threads=1) as eager:
        remotes = {COMPILED: compiled, EAGER: eager}
        for name, remote in remotes.items():
            remote.call("first_call", Deep(1))  # imports
            remote.begin("first_call", case)
            first[name] = remote.end(PATIENCE)[1]
        numbers = {name: remote.call("pace", LEAST)[0] for name, remote in remotes.items()}
        for _ in range(rounds):
            for name, remote in remotes.items():
                times[name].append(remote.call("block", numbers[name]))
    compiling, step = first[COMPILED] - first[EAGER], statistics.median(times[COMPILED])
    row = [f"{case.depth:,}", f"{compiling:.2f}", f"{compiling / case.depth * 1e3:.2f}", f"{1 / step:,.0f}"]
    return [*row, short(step / case.depth), f"{ratio(times[COMPILED], times[EAGER]):.2f}"]
