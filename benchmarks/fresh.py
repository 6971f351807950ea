"""What shows only in a process that has done nothing else: the first call, and how much memory a step takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import math
import re
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from . import peers
from .peers import COMPILED, JAX, OURS, WHERE, Case, Network, make, missing
from .processes import Failed, Remote, cores
from .race import Runner
from .tables import Table, reached, spread
from .timing import Times, ratio

ROUNDS = 5
MUST, STRETCH = 0.2, 0.1  # of JAX's first call
FIRST = {title: case for title, case in peers.CASES.items() if case in (peers.DIGITS, peers.MIDDLE, peers.SOFTMAX)}
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Fresh(Runner):
    """A contestant that is measured from its first call on."""

    def first_call(self, case: Case) -> tuple[float, float] | None:
        """Seconds to import the library, its compiler as well, and from a model to the first step's result; None
        without such a step."""
        self.drop()
        start = time.perf_counter()
        with contextlib.suppress(ImportError):
            importlib.import_module(WHERE[self.name][0])
        if self.name == COMPILED:  # what only the first compiled function imports
            with contextlib.suppress(ImportError):
                importlib.import_module("tinygrad_dl.compiler.native.backend")
        seconds = time.perf_counter() - start
        self.contestant = make(self.name, case)
        return None if self.contestant is None else (seconds, self.contestant.block(1))

    def growth(self, case: Network) -> tuple[float, float] | None:
        """Bytes that the process has grown by at the peak of its first steps, which compile, and of later ones;
        beyond the step's state.

        A small step of the same structure comes before, which brings in the library's code and its compiler."""
        if not self.make(replace(case, sizes=tuple(min(n, 8) for n in case.sizes), batch=8)):
            return None
        self.drop()
        before = _trimmed() + case.nbytes
        self.make(case)
        first = _resident("VmHWM") - before
        _trimmed()
        RESET.write_text("5")  # the peak begins anew
        self.block(5)
        return first, _resident("VmHWM") - before


def _trimmed() -> int:
    """Bytes of this process in memory when the allocator has given back what is free."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # the C library of some systems does not have it
        ctypes.CDLL(None).malloc_trim(0)
    return _resident("VmRSS")


def _resident(field: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or the most so far (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


def first_calls(cases: Mapping[str, Case] = FIRST, rounds: int = ROUNDS) -> Table:
    """Ours beside JAX's."""
    rows = []
    imports: Times = {COMPILED: [], JAX: []}
    for title, case in cases.items():
        times: Times = {COMPILED: [], JAX: []}
        for _ in range(rounds):
            for name, values in times.items():
                with Remote(Fresh, name, threads=cores()) as fresh:
                    found = fresh.call("first_call", case)
                if found is not None:
                    imports[name].append(found[0])
                    values.append(found[1])
        row = [title, *_medians(times), "", "", f"{MUST}", f"{STRETCH}", ""]
        if times[JAX]:
            share = ratio(times[COMPILED], times[JAX])
            row[3:5] = f"{share:.2f}", spread(times[COMPILED], times[JAX])
            row[7] = reached(share, MUST, STRETCH)
        rows.append(row)
    row = ["imports before", *_medians(imports), *[""] * 5]
    row[3:5] = [f"{ratio(*imports.values()):.2f}", spread(*imports.values())] if imports[JAX] else ["", ""]
    header = ["seconds", "compiled", "jax.jit", "ratio", "quartiles", "must", "stretch", "reached"]
    about = (
        "From the model to the first result, in a new process each time; imports, including llvmlite, are not counted."
    )
    return Table("First call", header, [*rows, row], [about, *missing([JAX])])


def _medians(times: Times) -> list[str]:
    return [f"{statistics.median(values):.3f}" if values else "" for values in times.values()]


def memory(case: Network = peers.WIDE) -> Table:
    """In one process for each contestant."""
    names = [name for name in WHERE if name in (*OURS, *peers.PEERS) and WHERE[name][1] != "peer_numpy"]
    grown: dict[str, tuple[float, float]] = {}
    notes = missing(names)
    for name in names:
        try:
            with Remote(Fresh, name, threads=cores()) as fresh:
                found = fresh.call("growth", case)
        except Failed as error:
            notes.append(f"{name} is left out: {error}")
        else:
            grown |= {} if found is None else {name: found}
    least = min((later for name, (_, later) in grown.items() if name not in OURS), default=math.inf)
    rows = [[name, f"{later / 1e6:.1f}", f"{first / 1e6:.1f}", ""] for name, (first, later) in grown.items()]
    if math.isfinite(least):
        rows[0][3] = "reached" if grown[COMPILED][1] <= least else "no"
    about = (
        f"Peak growth of the process, without {case.nbytes / 1e6:.0f} MB of parameters, averages, statistics and"
        " batch; for the first steps including what compiling needs. Goal: a step needs no more than any peer's."
    )
    title = f"Memory of a step {'-'.join(map(str, case.sizes))}, batch {case.batch} (MB)"
    return Table(title, ["", "a step", "the first steps", "goal"], rows, [about, *notes])


def tables() -> Iterator[Table]:
    """First calls and memory."""
    yield first_calls()
    if STATUS.exists():
        yield memory()
