"""Compiled steps beside their peers, and the share that they reach of what their parts could."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping

from . import peers
from .peers import CASES, COMPILED, COPY, OURS, PEERS, PRODUCTS, REFERENCES, SQUARE, Case, Network, Parameters
from .race import ROUNDS, Outcome, Race
from .reference import SIDE
from .tables import Table, comparison, reached, short, spread
from .timing import ratio

TARGETS: dict[Case, tuple[float, float]] = {  # of the fastest peer's time: what must be, and what would be better
    peers.DIGITS: (0.20, 0.10),
    peers.MIDDLE: (0.70, 0.58),
    peers.WIDE: (0.88, 0.78),
    peers.SOFTMAX: (0.40, 0.25),
    peers.INFERENCE: (0.30, 0.10),
    peers.ELEMENTWISE: (0.90, 0.60),
    peers.ADAM: (0.90, 0.80),
}
ADAM_BYTES, COPY_BYTES = 28, 8  # per number: Adam reads four arrays and writes three, a copy reads and writes one


def tables(cases: Mapping[str, Case] = CASES, rounds: int = ROUNDS) -> Iterator[Table]:
    """A summary, the shares, and every contestant of every step."""
    outcomes: dict[str, Outcome] = {}
    with Race([*OURS, *PEERS, *REFERENCES]) as race:
        for title, case in cases.items():
            outcomes[title] = race.run(case, rounds)
            print(f"({title}: {' '.join(_row(title, case, outcomes[title]))})", file=sys.stderr)
    rows = [_row(title, cases[title], outcome) for title, outcome in outcomes.items()]
    header = ["µs per step", "compiled", "fastest peer", "its time", "ratio", "quartiles", "must", "stretch", "reached"]
    about = (
        f"Medians of {rounds} alternating rounds. The ratio is that of the medians, its quartiles are over the rounds."
    )
    yield Table("Compiled steps compared with the fastest peer", header, rows, [about, *race.notes])
    yield from _shares(cases, outcomes)
    for title, outcome in outcomes.items():
        times = {outcome.label(name): values for name, values in outcome.times.items()}
        yield comparison(f"{title}: all contestants", times, outcome.label(COMPILED))


def _row(title: str, case: Case, outcome: Outcome) -> list[str]:
    ours, peer = outcome.times[COMPILED], outcome.peer()
    row = [title, short(statistics.median(ours))]
    if peer is None:
        return [*row, *[""] * 7]
    theirs = outcome.times[peer]
    must, stretch = TARGETS.get(case, (None, None))
    limits = ["" if limit is None else f"{limit:.2f}" for limit in (must, stretch)]
    found = ratio(ours, theirs)
    row += [outcome.label(peer), short(statistics.median(theirs)), f"{found:.2f}", spread(ours, theirs)]
    return [*row, *limits, reached(found, must, stretch)]


def _shares(cases: Mapping[str, Case], outcomes: Mapping[str, Outcome]) -> Iterator[Table]:
    """How near steps come to doing nothing but their matrix products, and Adam to copying."""
    products, copies = [], []
    for title, outcome in outcomes.items():
        case, times = cases[title], outcome.times
        if isinstance(case, Network):
            work = {COMPILED: case.flops, PRODUCTS: case.flops, SQUARE: 2 * SIDE**3}
            step, alone, square = (flops / statistics.median(times[name]) / 1e9 for name, flops in work.items())
            row = [title, *(f"{rate:.0f}" for rate in (step, alone, square)), f"{step / alone:.0%}"]
            products.append([*row, f"{step / square:.0%}", "85 %" if case == peers.WIDE else ""])
        elif isinstance(case, Parameters):
            work = {COMPILED: ADAM_BYTES * case.count, COPY: COPY_BYTES * case.count}
            step, copy = (moved / statistics.median(times[name]) / 1e9 for name, moved in work.items())
            copies.append([title, f"{step:.1f}", f"{copy:.1f}", f"{step / copy:.0%}", "80 %", "95 %"])
    if products:
        header = ["GFLOP/s", "step", "its products alone", f"product of {SIDE}²", "share", "of square", "goal"]
        yield Table("Matrix products: rate in a whole step, and alone", header, products)
    if copies:
        header = ["GB/s", "step", "np.copyto", "share", "must", "stretch"]
        about = f"{ADAM_BYTES} bytes per parameter, {COPY_BYTES} bytes per copied number."
        yield Table("Adam: bytes moved, compared with a copy", header, copies, [about])
