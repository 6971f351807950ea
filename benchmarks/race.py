"""`Race`: contestants in processes of their own, checked to compute the same, timed in alternating rounds."""

from __future__ import annotations

import gc
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .peers import OURS, PEERS, REFERENCES, WHERE, Array, Case, make, missing
from .processes import Failed, Remote, cores
from .timing import Contestant, Times, rest

# Seconds that a block takes. After a rest the system leaves threads on one core for a while: in blocks of 0.03 s JAX's
# step 784-512-256-10 on two threads took 1.8 ms, in these and longer ones 1.2.
LEAST = 0.1
ROUNDS = 7
STEPS = 3  # whose results are compared
Key = tuple[str, int]  # a contestant and its threads


class Runner:
    """One contestant, in its process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.contestant: Contestant | None = None

    def results(self, case: Case) -> list[list[Array]] | None:
        """What the first steps give; None where this contestant has no such step."""
        found = make(self.name, case)
        if found is None:
            return None
        return [[np.array(a) for a in found.read(found.step())] for _ in range(STEPS)]

    def make(self, case: Case) -> bool:
        """Take the first steps of what is timed. Is there such a step?"""
        self.drop()
        self.contestant = make(self.name, case)
        return self.contestant is not None and self.contestant.block(STEPS) > 0

    def drop(self) -> None:
        """Let its memory go."""
        self.contestant = None
        gc.collect()

    def pace(self, least: float) -> tuple[int, float]:
        """How many steps a block has, and seconds per step."""
        assert self.contestant is not None
        number = self.contestant.number(least)
        return number, min(self.block(number) for _ in range(3))

    def block(self, number: int) -> float:
        """Seconds per step. Whoever comes next finds the cores free."""
        assert self.contestant is not None
        seconds = self.contestant.warm_block(number)
        rest()
        return seconds


def label(key: Key) -> str:
    """A contestant and its threads."""
    name, threads = key
    return f"{name}, {threads} thread{'s' * (threads > 1)}"


def same(steps: list[list[Array]], expected: list[list[Array]], who: str) -> None:
    """Raise an AssertionError if steps do not give what is expected."""
    for number, (values, others) in enumerate(zip(steps, expected, strict=True), 1):
        for a, b in zip(values, others, strict=True):
            atol = 1e-5 * float(np.abs(b).max())
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol, err_msg=f"{who}, step {number}")


@dataclass(frozen=True)
class Outcome:
    """Seconds per step of each contestant, one figure per round; the threads that each was quicker with."""

    times: Times
    threads: dict[str, int]

    def label(self, name: str) -> str:
        """A contestant and its threads."""
        return label((name, self.threads[name]))

    def peer(self) -> str | None:
        """The fastest of other libraries."""
        found = [name for name in self.times if name in PEERS]
        return min(found, key=lambda name: statistics.median(self.times[name]), default=None)


class Race:
    """Contestants at one and at two threads, where this machine has two cores, in a process each."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = set(names)
        self.names = [name for name in WHERE if name in wanted]
        self.notes = missing(self.names)
        counts = [n for n in (1, 2) if n <= cores()]
        self._remotes = {(name, n): Remote(Runner, name, threads=n) for name in self.names for n in counts}

    def __enter__(self) -> Race:
        return self

    def __exit__(self, *exception: object) -> None:
        for remote in self._remotes.values():
            remote.close()

    def run(self, case: Any, rounds: int = ROUNDS) -> Outcome:
        """Time a step of everybody who has it."""
        numbers = self.ready(case)
        results = [self.round(numbers) for _ in range(rounds)]
        self._all(numbers, "drop")
        times = {key: [result[key] for result in results] for key in numbers}
        best: dict[str, Key] = {}
        for key in sorted(times, key=lambda key: statistics.median(times[key])):
            best.setdefault(key[0], key)
        found = [best[name] for name in self.names if name in best]
        return Outcome({key[0]: times[key] for key in found}, dict(found))

    def ready(self, case: Any) -> dict[Key, int]:
        """Who has this step, at which numbers of threads, and how many steps fill a block."""
        checked = self._all([key for key in self._remotes if key[0] not in REFERENCES], "results", case.checked())
        expected = next((steps for steps in checked.values() if steps is not None), None)
        for key, steps in checked.items():
            if steps is not None and expected is not None:
                same(steps, expected, f"{label(key)}, {case}")
        wanted = [key for key in self._remotes if key[0] in REFERENCES or checked.get(key) is not None]
        made = [key for key, there in self._all(wanted, "make", case).items() if there]
        return {key: self._remotes[key].call("pace", LEAST)[0] for key in made}

    def round(self, numbers: Mapping[Key, int]) -> dict[Key, float]:
        """Seconds per step of one block of each."""
        return {key: self._remotes[key].call("block", number) for key, number in numbers.items()}

    def _all(self, keys: Iterable[Key], method: str, *args: Any) -> dict[Key, Any]:
        """Call a method of many at the same time. A peer that fails is left out, which is said and noted."""
        keys = list(keys)
        for key in keys:
            self._remotes[key].begin(method, *args)
        found = {}
        for key in keys:
            try:
                found[key] = self._remotes[key].end()
            except Failed as error:
                if key[0] in OURS:
                    raise
                note = f"{label(key)} is left out of {args[0]}: {error}" if args else f"{label(key)}: {error}"
                print(note, file=sys.stderr)
                self.notes.append(note)
        return found
