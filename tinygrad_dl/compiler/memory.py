"""Memory of a program: how long each value is needed, and which values may lie in the same buffer, one after another.

`Lifetimes` counts a view as a use of the memory that it shows. `assign` gives buffers to the values that a
backend wants to store, as few and small as a greedy choice finds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field

from .program import Instruction, Program, Value

WASTE = 4  # a buffer is reused for a value that fills at least a quarter of it


class Lifetimes:
    """shares: which arguments an instruction's results may show memory of, in place of memory of their own.

    memory: the values in whose memory a value may lie, itself included. last: the number of the last instruction
    that reads a value's memory; of what an output shows, the number of instructions."""

    def __init__(self, program: Program, shares: Callable[[Instruction], Collection[Value]]) -> None:
        self.memory = {v: frozenset([v]) for v in (*program.inputs, *program.constants)}
        self.last: dict[Value, int] = dict.fromkeys(self.memory, -1)
        for i, step in enumerate(program.body):
            self._read(step.inputs, i)
            shown = frozenset[Value]().union(*[self.memory[v] for v in shares(step)])
            for v in step.outputs:
                self.memory[v] = shown | {v}
                self.last[v] = i
        self._read(program.outputs, len(program.body))

    def _read(self, values: Collection[Value], i: int) -> None:
        for v in values:
            for owner in self.memory[v]:
                self.last[owner] = i

    def ending(self) -> dict[int, list[Value]]:
        """By the number of an instruction: the values whose memory nothing reads after it."""
        found: dict[int, list[Value]] = {}
        for v, i in self.last.items():
            found.setdefault(i, []).append(v)
        return found


@dataclass(slots=True)
class Plan:
    """sizes: of each buffer, in bytes. places: the number of the buffer of each stored value."""

    sizes: list[int] = field(default_factory=list)
    places: dict[Value, int] = field(default_factory=dict)

    @property
    def peak(self) -> int:
        """Bytes of all buffers."""
        return sum(self.sizes)

    @property
    def total(self) -> int:
        """Bytes of all stored values, had each a buffer of its own."""
        return sum(v.nbytes for v in self.places)


def assign(
    program: Program,
    lifetimes: Lifetimes,
    stored: Mapping[Value, Hashable],
    overwrites: Callable[[Instruction], Collection[Value]],
) -> Plan:
    """Buffers for values, so that no two lie in one buffer at the same time.

    stored: the values to place, each with its kind: values of one kind are preferred for a buffer.
    overwrites: which arguments of an instruction it may overwrite with its result, if they are of the same kind
    and it is the last to read them."""
    plan, free, ending = Plan(), list[int](), lifetimes.ending()
    kinds: list[set[Hashable]] = []
    for i, step in enumerate(program.body):
        ended = [v for v in ending.get(i, ()) if v in plan.places]
        handed: set[int] = set()
        for y in step.outputs:
            if y not in stored:
                continue
            place = _overwritten(step, y, ended, lifetimes, stored, overwrites)
            if place is not None and plan.places[place] not in handed:
                plan.places[y] = plan.places[place]
                handed.add(plan.places[y])
                continue
            number = _fitting(y, stored[y], free, plan.sizes, kinds)
            if number is None:
                number = len(plan.sizes)
                plan.sizes.append(y.nbytes)
                kinds.append(set())
            else:
                free.remove(number)
            kinds[number].add(stored[y])
            plan.places[y] = number
        ended += [y for y in step.outputs if y in plan.places and lifetimes.last[y] == i and y not in ended]
        free += sorted({plan.places[v] for v in ended if plan.places[v] not in handed or v in step.outputs})
    return plan


def _overwritten(
    step: Instruction,
    y: Value,
    ended: Collection[Value],
    lifetimes: Lifetimes,
    stored: Mapping[Value, Hashable],
    overwrites: Callable[[Instruction], Collection[Value]],
) -> Value | None:
    """An argument that ends here, and that y may take the place of."""
    for v in overwrites(step):
        others = (a for a in step.inputs if a is not v)
        if v in ended and stored[v] == stored[y] and not any(v in lifetimes.memory[a] for a in others):
            return v
    return None


def _fitting(y: Value, kind: Hashable, free: list[int], sizes: list[int], kinds: list[set[Hashable]]) -> int | None:
    """The free buffer that suits best: one that held the same kind, else the smallest that is large enough."""
    least, most = y.nbytes, WASTE * y.nbytes
    suitable = [n for n in free if least <= sizes[n] <= most]
    return min(suitable, key=lambda n: (kind not in kinds[n], sizes[n]), default=None)
