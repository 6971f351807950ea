"""`Recorded`: one program, with what it takes for granted, reads and writes; it runs again what was recorded.

What a run looks at and leaves behind is written out for each program, and arrays that have not been replaced since the
last run are not looked at again: `python -m benchmarks budget` has what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .. import graph, scope
from .._source import user_line
from .._tensor import Tensor
from ..graph import Handle, Leaf, add_holder, next_order, unshared, wrap
from ..scope import watching
from .backends import Run
from .guards import GONE, Guards
from .host import Argument, Changed, Draw, Gradient, Held, Slot, State
from .passes import simplify
from .program import Array, Program, Value
from .straight import Straight
from .structure import Place, put_together
from .tape import Tape

DEPTH = 4  # calls from the user's line, by way of a Compiled and a Recorded: to step back one by one takes 0.3 µs each


class Recorded:
    """A program that was recorded because of `why`; the tape says what it reads and writes."""

    def __init__(
        self, why: str, guards: Guards, tape: Tape, results: Any, arrays: list[Any], build: Callable[[Program], Run]
    ) -> None:
        self.why, self.guards, self.results = why, guards, results
        recorded, self.sources, self.places = tape.program(arrays)
        self.program = simplify(recorded)
        self.actions = tape.actions
        self.raw = [not isinstance(a, Handle) for a in arrays]
        self.without_grad = tape.without_grad
        self.cleared = [t for t in tape.gradients if t._grad is None]
        self.runs = 0
        self.flat = False  # does the function take nothing but arrays?
        self.single = results.__class__ is Place and self.raw == [False]
        self.run = run = build(self.program)
        # a quicker way, if most inputs are the same arrays
        self.run_again: Any = getattr(run, "again", lambda arrays, among: run(arrays))
        self._resolve()
        add_holder(self)

    def _resolve(self) -> None:
        """Find the tensors that optimizers hold now."""
        slots = [s for s in (*self.sources, *self.places) if type(s) is Slot]
        self.slots = [(s.optimizer.state[s.tensor], s.name, s.handle()) for s in slots]
        self._feed(self.sources)
        self._sink(self.places)
        self.actions.moved()

    def _feed(self, feeds: Sequence[Any]) -> None:
        """Where each input comes from."""
        inputs = self.program.inputs
        self.arrays: list[Any] = [f.array if type(f) is Held else None for f in feeds]  # of the latest run
        self.settled = False  # did the latest run see the same arrays but for those that move?
        there = getattr(self.run, "in_place", ())
        self.replaced = {i: j for i, j in self.program.updates.items() if i not in there}  # not written over
        self.moving = [i for i, f in enumerate(feeds) if type(f) in (Argument, Draw, Gradient)]
        self.moving += self.replaced.values()
        self.arguments = [(i, f.number) for i, f in enumerate(feeds) if type(f) is Argument]
        self.draws = [(i, f) for i, f in enumerate(feeds) if type(f) is Draw]
        self.old_gradients = [(i, f.tensor) for i, f in enumerate(feeds) if type(f) is Gradient]
        updated = set(self.program.updates.values())
        tensors = [(i, f.handle(), inputs[i]) for i, f in enumerate(feeds) if type(f) in (State, Slot)]
        self.read = [entry for entry in tensors if entry[0] not in updated]
        self.written = [entry for entry in tensors if entry[0] in updated]
        self._look_at()

    def _look_at(self) -> None:
        """Find out how to see that no state has been replaced since the latest run, nor can be seen by others."""
        self.look = look = Straight()
        look.check(*(f"{look.name(table)}[{name!r}] is {look.name(tensor)}" for table, name, tensor in self.slots))
        self.names = names = {i: look.place() for i, _, _ in (*self.read, *self.written)}
        look.check(*(f"{look.name(tensor)}.data is {names[i]}" for i, tensor, _ in self.read))
        counts = [f"{look.name(getrefcount)}({names[i]})" for i, _, _ in self.written]
        self.expected = [look.place() for _ in counts]
        for (i, tensor, _), count, number in zip(self.written, counts, self.expected, strict=True):
            look.check(f"{look.name(tensor)}.data is {names[i]}", f"{count} == {number}")
        self.state, look.lines = look.lines, []
        self.count = look.function("", f"[{', '.join(counts)}]")
        self.same: Callable[[], bool] | None = None  # are these as they were? Both are written out when first needed
        self.fits: Callable[[Sequence[Any]], bool] | None = None  # is everything, for these arguments? They are taken
        self.held: dict[int, int] = {}  # references to arrays of state, by identity

    def _sink(self, sinks: Sequence[Any]) -> None:
        """Where each output goes."""
        self.gradients = [(i, s.tensor) for i, s in enumerate(sinks) if type(s) is Gradient]
        self.stores = [(i, s.handle()) for i, s in enumerate(sinks) if type(s) in (State, Slot)]
        self.leaves = [t for _, t in self.stores if isinstance(t.node, Leaf)]
        self.leaves_something = bool(self.stores or self.gradients or self.cleared)  # besides its results
        write = self.look
        for i, tensor in self.stores:
            if i in self.replaced:  # the next run reads it, and nobody else sees it
                number = self.replaced[i]
                known = self.names[number]
                held, arrays = write.name(self.held), write.name(self.arrays)
                write.lines += [
                    f"global {known}",
                    f"new = outputs[{i}]",
                    f"if new is not {known}:",
                    " new = new if new.flags.carray else new.copy()",
                    f" {held}.pop(id({known}), None)",
                    f" {write.name(tensor)}.data = {known} = {arrays}[{number}] = new",
                    f" {held}[id(new)] = 2",
                ]
            elif i not in self.program.updates:
                write.lines.append(f"{write.name(tensor)}.data = outputs[{i}]")
        for leaf in self.leaves:
            write.lines += [
                f"node = {write.name(leaf)}.node",
                "if node is not None: node.stamp, node.written = stamp, line",
            ]
        for tensor in self.cleared:
            write.lines.append(f"{write.name(tensor)}._grad = None")
        for i, tensor in self.gradients:
            write.lines.append(f"grad = {write.name(tensor)}._grad")
            write.lines.append(f"if grad is None: {write.name(tensor)}._grad = {write.name(wrap)}(outputs[{i}])")
            write.lines.append(f"else: grad.data = outputs[{i}]")
        self.give = write.function("outputs, stamp, line", "None")
        self.free = self._freeing()

    def _freeing(self) -> Callable[[], None]:
        """A function that lets go of gradients' arrays, whose memory may be used again, and of gradients that others
        have; the rest are filled again."""
        free, probe = Straight(), wrap(np.empty(1))
        probe._grad = wrap(np.empty(1))
        count, nothing = free.name(getrefcount), free.name(np.empty(0))
        free.lines += [f"grad = {free.name(probe)}._grad", f"alone = {count}(grad)"]
        for _, tensor in self.gradients:
            free.lines.append(f"grad = {free.name(tensor)}._grad")
            free.lines.append(
                f"if grad is not None and {count}(grad) == alone and grad.node is None: grad.data = {nothing}"
            )
            free.lines.append(f"else: {free.name(tensor)}._grad = None")
        return free.function("", "None")

    def _write_same(self) -> Callable[[], bool]:
        self.look.lines = [*self.state]
        self.same = same = self.look.function()
        return same

    def _write_fits(self) -> Callable[[Sequence[Any]], bool]:
        look, inputs = self.look, self.program.inputs
        arrays = [f"a{n}" for n in range(len(self.arguments))]
        look.check(f"len(args) == {len(arrays)}")
        if arrays:
            look.lines.append(", ".join(arrays) + ", = args")
        for i, number in self.arguments:
            a, shape, dtype = arrays[number], look.name(inputs[i].shape), look.name(inputs[i].dtype)
            look.lines.append(f"if type({a}) is {look.name(Tensor)} and {a}.node is None: {a} = {a}.data")
            look.check(f"type({a}) is {look.name(np.ndarray)}", f"{a}.shape == {shape}")
            look.check(f"({a}.dtype is {dtype} or {a}.dtype == {dtype})")
        look.check(*(f"{look.name(tensor)}._grad is None" for tensor in self.without_grad))
        self.guards.check(look)
        look.lines += self.state
        taken = look.name(self.arrays)
        for i, tensor in self.old_gradients:
            look.lines.append(f"g{i} = {look.name(tensor)}._grad")
            look.check(f"g{i} is not None")
        look.lines += [f"{taken}[{i}] = g{i}.data" for i, _ in self.old_gradients]
        look.lines += [f"{taken}[{i}] = {arrays[number]}" for i, number in self.arguments]
        self.fits = fits = look.function("args")
        return fits

    def broken(self) -> str | None:
        """Why this program does not fit now, or None."""
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return "a gradient was there at the start; call zero_grad() first in the step"
        return self.guards.broken()

    def again(self, args: Sequence[Any]) -> Any:
        """Run it if everything is as at the latest run but for its arguments, which are arrays.

        Raises Changed, with nothing done, if it is not, or may not be."""
        if not (self.flat and self.settled):
            raise Changed
        fits, actions = self.fits or self._write_fits(), self.actions
        try:
            if not fits(args):
                raise Changed
        except GONE:
            raise Changed from None
        if actions.numbers:
            actions.count()
            if actions.moved():
                actions.undo()
                self._resolve()
                raise Changed
        return self._proceed(self.arrays)

    def __call__(self, arguments: Sequence[Array]) -> Any:
        """Run it. Raises Changed, with nothing done, if it does not fit after all."""
        actions = self.actions
        if actions.numbers:
            actions.count()
        try:
            arrays = self._gather(arguments)
        except BaseException:
            actions.undo()
            raise
        return self._proceed(arrays)

    def _proceed(self, arrays: list[Array]) -> Any:
        """Draw, run, and give state and gradients their new values."""
        try:
            for i, draw in self.draws:
                draw.run()
                arrays[i] = draw.array
            outputs = self._run(arrays)
        except BaseException:
            self.actions.undo()
            raise
        if self.leaves_something:
            stamp = line = None
            if self.leaves:
                graph.last_write = stamp = next_order()
                line = user_line(DEPTH)
            self.give(outputs, stamp, line)
        self.runs += 1
        if self.single:
            return wrap(outputs[0])
        found = [outputs[i] if raw else wrap(outputs[i]) for i, raw in enumerate(self.raw)]
        return put_together(self.results, found)

    def _run(self, arrays: list[Array]) -> list[Array]:
        watch = scope.observers and watching()
        settled, self.settled = self.settled, False
        self.free()
        try:
            if watch:
                return watch.replay(self.program, self.run, arrays)  # type: ignore[no-any-return]
            outputs: list[Array] = self.run_again(arrays, self.moving) if settled else self.run(arrays)
        except BaseException:
            for _, tensor in self.gradients:
                tensor._grad = None
            raise
        self.settled = True
        return outputs

    def _gather(self, arguments: Sequence[Array]) -> list[Array]:
        """The inputs as they are now, besides what is drawn. Raises Changed if one does not fit."""
        if self.actions.moved():
            self._resolve()
        if not (self.settled and (self.same or self._write_same())()):
            self._take()
        arrays = self.arrays
        for i, tensor in self.old_gradients:
            if tensor._grad is None:
                raise Changed
            arrays[i] = tensor._grad.data
        for i, number in self.arguments:
            arrays[i] = arguments[number]
        return arrays

    def _take(self) -> None:
        """Take the state as it is; tensors that will be written over get memory that nobody else sees."""
        if any(table.get(name) is not tensor for table, name, tensor in self.slots):
            self._resolve()
        self.settled = False
        self.held.clear()
        arrays, known, names = self.arrays, self.look.names, self.names
        for i, name in names.items():
            arrays[i] = known[name] = None
        for _, tensor, value in (*self.read, *self.written):
            _check(tensor.data, value)
        for _, tensor, _ in self.written:
            if not unshared(tensor) or not tensor.data.flags.carray:
                tensor.data = tensor.data.copy()
        for i, tensor, _ in (*self.read, *self.written):
            arrays[i] = known[names[i]] = tensor.data
        self.held.update({id(arrays[i]): 2 for i in names})
        known.update(zip(self.expected, self.count(), strict=True))

    def holds(self, array: Array) -> int:
        """How many references to an array of state this keeps between runs."""
        return self.held.get(id(array), 0)


def _check(array: Array, value: Value) -> None:
    if array.shape != value.shape or array.dtype != value.dtype:
        raise Changed
