"""`Calls`: what a call of a compiled program does in Python, written out as lines of one function.

It points the table at the arrays that came, brings small ones that are others each time to a place of their own, runs
the parts of the program in order, and gives new arrays, or state that has been written over.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import is_not
from sys import getrefcount
from typing import Any

import numpy as np

from ...graph import Array
from ..axes import Node
from ..program import Program
from ..straight import Straight
from . import pool
from .places import Places
from .trial import Trial
from .words import Words, available

BROUGHT = 2**15  # bytes of an input at most that is copied to where it is read
KEPT = 2**18  # bytes of outputs at most whose memory is kept while other programs run: new arrays take 15 µs

_NOTHING: Array = np.empty(0)
_GONE: weakref.ref[Array] = weakref.ref(np.empty(0))  # to nothing
# What `map` finds of an array that only its list refers to. Of a variable or an argument, what is found depends on
# whether it is lent, as Python does from 3.14 on.
_ALONE = next(map(getrefcount, [np.empty(0)]))


@dataclass(slots=True)
class Part:
    """What runs a part of a program. start: a function of the memory; or, with numpy and threads, machine code that is
    given the pool of threads, or 0 if it needs none, and tells the number of the stretch that it could not do."""

    start: Callable[[Any], Any]
    numpy: dict[int, Callable[[list[Array]], None]] | None = None
    threads: int = 0

    def write(self, text: Straight, memory: str) -> None:
        """Write out a run of it."""
        start = text.name(self.start)
        if self.numpy is None:
            text.lines.append(f"{start}({memory})")
        else:
            if isinstance(self.start, Trial):
                text.lines += [
                    f"if {start}.calm: {start}.calm -= 1; start = {start}.best",
                    f"else: start = {start}",
                ]
                start = "start"
            pooled = f"{text.name(pool.state)}({self.threads})" if self.threads else "0"
            text.lines.append(f"while stopped := {start}({pooled}): {text.name(self.numpy)}[stopped]({memory})")


class Calls:
    """Of one program. Call it with one array per input.

    An output that updates an input may be that input's array, written over; every other one is new."""

    def __init__(self, program: Program, places: Places, parts: Sequence[Part]) -> None:
        self.program, self.places, self.parts, self.table = program, places, parts, places.table
        values = program.outputs
        self.seen = [_GONE] * len(program.inputs)  # of the arrays that the table points at: references that do not hold
        self.used = False  # did the latest call use its arrays as they are?
        self.given: list[Array] | None = None  # its list, if so, where calls come with the same list again
        self.brought: dict[int, Array] = {}  # inputs that are copied, and where to
        self.before: dict[int, Any] = {}  # what came in their place the last time
        self.direct: dict[int, Any] = {}  # and what the table points at instead, since it has come again; or None
        self.expected = [(v.shape, v.dtype) for v in program.inputs]
        self.states = {j for _, j in places.written_over}
        self.in_place = {i for i, _ in places.written_over}  # if the inputs can be written as they are
        self.blank = [_NOTHING] * len(places.graph.constants)
        self.made = [(places.slots[node], values[i].shape, values[i].dtype) for i, node in places.fresh]
        self.new: list[Array] = [_NOTHING] * len(self.made)  # of the last call, used again if nobody has them
        self.spare: list[Array] = [_NOTHING] * len(self.made)  # of an earlier call
        self.elsewhere = [0] * len(self.made)  # where spare arrays lie
        self.alone = [_ALONE] * len(self.made)
        self.lent = [*self.alone]
        self.fresh = {i for i, _ in places.fresh}  # outputs that lie in the same memory again if nobody has them
        self.passing = [n for n, (i, _) in enumerate(places.fresh) if i in program.updates]
        self.views = [(i, places.fixed[n].reshape(values[i].shape)) for i, n in places.copied if n in places.fixed]
        self.doubles = [(i, node) for i, node in places.copied if node not in places.fixed]  # of other outputs
        self.early = places.early
        self.mixed = bool(self.early or self.doubles) or any(part.numpy is None for part in parts)
        self._run: Callable[[Calls, list[Array]], list[Array]] | None = None  # written out when it is needed

    def __call__(self, arrays: list[Array]) -> list[Array]:
        """The program's outputs. Raises ValueError for arrays of other number, shape or dtype."""
        if len(arrays) != len(self.seen):
            self.program.check(arrays)
        self.used, self.given = False, None
        for j, own in self.brought.items():
            if arrays[j].shape != own.shape or arrays[j].dtype != own.dtype:
                self.program.check(arrays)
        others = [j for j, array in enumerate(arrays) if self.seen[j]() is not array and j not in self.brought]
        found = self._admit(arrays, others) if others else arrays
        self.used = found is arrays
        return (self._run or self._written())(self, found)

    def usual(self, text: Straight, moving: list[int]) -> str:
        """Whether a call can be as it is written out: for the same list, `arrays`, in which only these places may hold
        other arrays than at the latest call, of the same shapes and dtypes."""
        self._bring(moving)
        seen = text.name(self.seen)
        pointed = sorted(set(moving) - set(self.brought))
        return " and ".join([f"{text.name(self)}.given is arrays", *(f"{seen}[{j}]() is arrays[{j}]" for j in pointed)])

    def write(self, text: Straight, lent: Iterable[int]) -> None:
        """Write out a usual call. What it gives is `outputs`, but for what is written over an input. lent: outputs
        whose arrays it may use again, if `kept`, though somebody has them."""
        for n, (i, _) in enumerate(self.places.fresh):
            self.lent[n] = _ALONE + (i in lent)
        given = self._write(text, text.name(self), named=False)
        there = ["None" if i in lent else value for i, value in enumerate(given)]
        while there and there[-1] == "None":  # 20 ns each
            there.pop()
        text.lines += [f"if kept: outputs = [{', '.join(there)}]", f"else: outputs = [{', '.join(given)}]"]
        self._pass(text)

    def anew(self, arrays: list[Array]) -> list[Array]:
        """The outputs, for a list that may hold other arrays and will come again."""
        outputs = self(arrays)
        self.given = arrays if self.used else None
        return outputs

    def _bring(self, moving: list[int]) -> None:
        """Give small inputs that will be others each time a place of their own: to copy them takes a few tenths of a
        microsecond, to look at an array, and after it, two."""
        for j in set(moving) - set(self.brought) - self.states:
            value = self.program.inputs[j]
            if value.ndim and value.nbytes <= BROUGHT:
                own = np.empty(value.shape, value.dtype)
                self.table[j] = own.__array_interface__["data"][0]
                self.seen[j] = _GONE
                self.brought[j], self.before[j], self.direct[j] = own, None, None
                self._run = None

    def direct_to(self, j: int, array: Array) -> None:
        """Let the table point at an input that has come again, as whole data sets do; at a copy if it is another."""
        again = array is self.before[j] and array.flags.c_contiguous and array.flags.aligned
        place = array if again else self.brought[j]
        if not again:
            place[...] = array
        address = place.__array_interface__["data"][0]
        # side by side, where no Ctrl-C comes between: whoever reads one relies on the others
        self.table[j], self.before[j], self.direct[j] = address, array, array if again else None

    def _written(self) -> Callable[[Calls, list[Array]], list[Array]]:
        text = Straight()
        given = self._write(text, "self", named=True)
        text.lines.append(f"outputs = [{', '.join(given)}]")
        self._pass(text)
        self._run = run = text.function("self, arrays", "outputs")
        return run

    def _write(self, text: Straight, own: str, named: bool) -> list[str]:
        """Write out a run for `arrays` that the table points at. What the outputs are. named: so that those written
        over an input are among them; else None is."""
        memory, new = "memory" if self.mixed else "arrays", text.name(self.new)
        before, direct = text.name(self.before), text.name(self.direct)
        for j, place in self.brought.items():
            text.lines += [
                f"array = arrays[{j}]",
                f"if array is not {direct}[{j}]:",
                f" if array is {before}[{j}] or {direct}[{j}] is not None: {own}.direct_to({j}, array)",
                f" else: {before}[{j}] = array; {text.name(place)}[...] = array",
            ]
        if self.made:
            alone = f"{own}.alone" if named else f"({own}.lent if kept else {own}.alone)"
            text.lines.append(f"if [*map({text.name(getrefcount)}, {new})] != {alone}: {own}.renew({alone})")
        if self.mixed:
            text.lines.append(f"memory = [*arrays, *{own}.blank, *{new}]")
        copy = f"{own}.copy({{}}, {memory})"
        for i, node in self.early:
            text.lines.append(f"early{i} = {copy.format(f'{i}, {text.name(node)}')}")
        for part in self.parts:
            part.write(text, memory)
        given = {i: f"arrays[{j}]" if named else "None" for i, j in self.places.written_over}
        given |= {i: f"{new}[{n}]" for n, (i, _) in enumerate(self.places.fresh)}
        given |= {i: f"early{i}" for i, _ in self.early}
        given |= {i: f"{text.name(view)}.copy()" for i, view in self.views}
        given |= {i: copy.format(f"{i}, {text.name(node)}") for i, node in self.doubles}
        return [given[i] for i in range(len(given))]

    def _pass(self, text: Straight) -> None:
        """Write out that what is the state's from now on is not written over."""
        for n in self.passing:
            text.lines.append(f"{text.name(self.new)}[{n}] = {text.name(_NOTHING)}")
        if self.mixed:
            text.lines.append("memory = None")  # or its arrays would seem to be somebody's

    def renew(self, alone: list[int]) -> None:
        """Other memory for outputs that somebody still has: that of the call before, if it is free by now. alone: how
        many refer to each if nobody has it."""
        new, spare = ([*map(getrefcount, arrays)] for arrays in (self.new, self.spare))
        for n, (slot, shape, dtype) in enumerate(self.made):
            if new[n] > alone[n]:
                if spare[n] > _ALONE:
                    array = np.empty(shape, dtype)
                    address = array.__array_interface__["data"][0]
                    self.spare[n], self.elsewhere[n] = array, address
                self.new[n], self.spare[n] = self.spare[n], self.new[n]
                self.table[slot], self.elsewhere[n] = self.elsewhere[n], self.table[slot]

    def words(self) -> Words | None:
        """What looks at many places of memory at once, if it can be done here."""
        return Words() if available() else None

    def rest(self) -> None:
        """Let go of outputs that nobody has any more: other programs run before the next call."""
        if sum(array.nbytes for array in (*self.new, *self.spare)) > KEPT:
            self.new[:] = self.spare[:] = [_NOTHING] * len(self.new)

    def copy(self, i: int, node: Node, memory: list[Array]) -> Array:
        return self.places.memory(node, memory).copy().reshape(self.program.outputs[i].shape)

    def _admit(self, arrays: list[Array], others: list[int]) -> list[Array]:
        """Point the table at inputs that are other ones: what is not contiguous, or shall be written and cannot be, is
        copied."""
        found = list(arrays)
        for j in others:
            array, (shape, dtype) = arrays[j], self.expected[j]
            if array.shape != shape or array.dtype != dtype:
                self.program.check(arrays)
            flags = array.flags
            if not flags.carray if j in self.states else not (flags.c_contiguous and flags.aligned):
                found[j] = array = np.array(array, order="C")
            self.seen[j], address = _GONE, array.__array_interface__["data"][0]
            self.table[j] = address
            self.seen[j] = weakref.ref(array)
        return found if any(map(is_not, found, arrays)) else arrays
