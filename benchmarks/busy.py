"""The step beside a program of somebody else that keeps one core busy: how much slower it is for whom."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping

from .peers import CASES, COMPILED, DIGITS, JAX, MIDDLE, Case
from .processes import busy
from .race import ROUNDS, Key, Race, label
from .tables import Table, short

STEPS = {title: case for title, case in CASES.items() if case in (DIGITS, MIDDLE)}
GOAL = 1.5  # of JAX's slowdown


def tables(cases: Mapping[str, Case] = STEPS, rounds: int = ROUNDS) -> Iterator[Table]:
    """Quiet and busy rounds in turn."""
    rows = []
    with Race([COMPILED, JAX]) as race:
        for title, case in cases.items():
            numbers = race.ready(case)
            pairs = []
            for _ in range(rounds):
                quiet = race.round(numbers)
                with busy():
                    pairs.append((quiet, race.round(numbers)))
            medians = {key: [statistics.median(pair[i][key] for pair in pairs) for i in (0, 1)] for key in numbers}
            best: dict[str, Key] = {}  # each at the number of threads with which it is quicker when it is alone
            for key in sorted(medians, key=lambda key: medians[key][0]):
                best.setdefault(key[0], key)
            slowed: dict[str, float] = {}
            for name in (COMPILED, JAX):
                if name in best:
                    alone, beside = medians[best[name]]
                    slowed[name] = beside / alone
                    text = f"{title}: {label(best[name])}"
                    rows.append([text, short(alone), short(beside), f"{slowed[name]:.2f}", "", ""])
            if JAX in slowed:
                of_jax = slowed[COMPILED] / slowed[JAX]
                rows[-len(slowed)][4:] = f"{of_jax:.2f}", f"{GOAL}"
        notes = race.notes
    header = ["µs per step", "alone", "beside it", "slower by", "of JAX's", "goal"]
    yield Table("While another program keeps a core busy", header, rows, notes)
