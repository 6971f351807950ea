"""`Recorded`: one program, with what it takes for granted, reads and writes; it runs again what was recorded.

Around the computation a run costs some 20 µs for the digits step: whatever can be settled once is settled when
the program is made, and arrays that have not been replaced since the last run are not looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, getitem, is_
from sys import getrefcount
from typing import Any

import numpy as np

from .. import graph, scope
from .._source import user_line
from ..graph import Handle, Leaf, next_order, wrap
from ..scope import watching
from .backends import Run
from .guards import Guards
from .host import Argument, Changed, Draw, Gradient, Held, Slot, State
from .passes import simplify
from .program import Array, Program, Value
from .structure import Place, put_together
from .tape import Tape


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
        self.single = results.__class__ is Place and self.raw == [False]
        self.flat = False  # are all of the function's arguments arrays?
        self.run = build(self.program)
        self.again: Any = getattr(self.run, "again", None)  # a quicker way, if most inputs are the same arrays
        self._resolve()

    def _resolve(self) -> None:
        """Find the tensors that optimizers hold now."""
        slots = [s for s in (*self.sources, *self.places) if type(s) is Slot]
        self.tensors = [s.handle() for s in slots]
        self.tables = [s.optimizer.state[s.tensor] for s in slots]
        self.names = [s.name for s in slots]
        self._feed(self.sources)
        self._sink(self.places)
        self.actions.moved()

    def _feed(self, feeds: Sequence[Any]) -> None:
        """Where each input comes from."""
        inputs = self.program.inputs
        self.arrays: list[Any] = [f.array if type(f) is Held else None for f in feeds]  # of the latest run
        self.settled = False  # did the latest run see the same arrays but for those that move?
        self.moving = [i for i, f in enumerate(feeds) if type(f) in (Argument, Draw, Gradient)]
        self.arguments = [(i, f.number) for i, f in enumerate(feeds) if type(f) is Argument]
        self.expected = [(inputs[i].shape, inputs[i].dtype) for _, i in sorted((n, i) for i, n in self.arguments)]
        self.draws = [(i, f) for i, f in enumerate(feeds) if type(f) is Draw]
        self.old_gradients = [(i, f.tensor) for i, f in enumerate(feeds) if type(f) is Gradient]
        replaced = set(self.program.updates.values())
        tensors = [(i, f.handle(), inputs[i]) for i, f in enumerate(feeds) if type(f) in (State, Slot)]
        self.read = [entry for entry in tensors if entry[0] not in replaced]
        self.written = [entry for entry in tensors if entry[0] in replaced]
        self.readers, self.readings = [t for _, t, _ in self.read], [_NOTHING] * len(self.read)
        self.writers, self.owned = [t for _, t, _ in self.written], [_NOTHING] * len(self.written)
        self.alone = [_ALONE] * len(self.written)

    def _sink(self, sinks: Sequence[Any]) -> None:
        """Where each output goes."""
        self.gradients = [(i, s.tensor) for i, s in enumerate(sinks) if type(s) is Gradient]
        self.stores = [(i, s.handle()) for i, s in enumerate(sinks) if type(s) in (State, Slot)]
        self.leaves = [t for _, t in self.stores if isinstance(t.node, Leaf)]
        self.leaves_something = bool(self.stores or self.gradients or self.cleared)  # besides its results

    def broken(self) -> str | None:
        """Why this program does not fit now, or None."""
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return "a gradient was there at the start; call zero_grad() first in the step"
        return self.guards.broken()

    def __call__(self, arguments: Sequence[Array]) -> Any:
        """Run it. Raises Changed, with nothing done, if it does not fit after all."""
        actions = self.actions
        if actions.numbers:
            actions.count()
        try:
            arrays = self._gather(arguments)
            for i, draw in self.draws:
                draw.run()
                arrays[i] = draw.array
            for _, tensor in self.gradients:
                tensor._grad = None  # its memory may be used again
            watch = scope.observers and watching()
            settled, self.settled = self.settled, False
            if watch:
                outputs = watch.replay(self.program, self.run, arrays)
            else:
                outputs = self.again(arrays, self.moving) if settled else self.run(arrays)
                self.settled = self.again is not None
        except BaseException:
            actions.undo()
            raise
        if self.leaves_something:
            self._write(outputs)
        self.runs += 1
        if self.single:
            return wrap(outputs[0])
        found = [outputs[i] if raw else wrap(outputs[i]) for i, raw in enumerate(self.raw)]
        return put_together(self.results, found)

    def _gather(self, arguments: Sequence[Array]) -> list[Array]:
        """The inputs as they are now, besides what is drawn. Raises Changed if one does not fit.

        Tensors are looked at by functions in C, 50 ns each, and one by one only if an array is another than before."""
        if self.tensors and (
            self.actions.moved() or not all(map(is_, map(getitem, self.tables, self.names), self.tensors))
        ):
            self._resolve()
        arrays = self.arrays
        for i, tensor in self.old_gradients:
            if tensor._grad is None:
                raise Changed
            arrays[i] = tensor._grad.data
        if not all(map(is_, map(_DATA, self.readers), self.readings)):
            self.settled = False
            for i, tensor, value in self.read:
                arrays[i] = _fitting(tensor.data, value)
            self.readings = [arrays[i] for i, _, _ in self.read]
        if self.written:
            data = [*map(_DATA, self.writers)]
            if not all(map(is_, data, self.owned)) or [*map(getrefcount, data)] != self.alone:
                del data
                self._own()
        for i, number in self.arguments:
            arrays[i] = arguments[number]
        return arrays

    def _own(self) -> None:
        """Tensors that will be written over have memory that nobody else sees."""
        arrays, self.owned, self.settled = self.arrays, [], False
        for i, tensor, value in self.written:
            array = arrays[i] = _fitting(tensor.data, value)
            if getrefcount(array) > _HELD or array.base is not None:
                arrays[i] = tensor.data = array.copy()
        self.owned = [arrays[i] for i, _, _ in self.written]

    def _write(self, outputs: list[Array]) -> None:
        """Give state and gradients their new values."""
        for i, tensor in self.stores:
            tensor.data = outputs[i]
        if self.leaves:
            stamp, line = next_order(), user_line()
            graph.last_write = stamp
            for leaf in self.leaves:
                node = leaf.node
                if node is not None:
                    node.stamp, node.written = stamp, line
        for tensor in self.cleared:
            tensor._grad = None
        for i, tensor in self.gradients:
            tensor._grad = wrap(outputs[i])


def _fitting(array: Array, value: Value) -> Array:
    if array.shape != value.shape or array.dtype != value.dtype:
        raise Changed
    return array


_DATA = attrgetter("data")
_NOTHING: Array = np.empty(0)


def _references() -> tuple[int, int]:
    """How many refer to an array of a tensor in `_own`, and in `_gather`: this differs between Python versions."""
    tensor, arrays = Handle(), []
    tensor.data = np.empty(1)
    array = tensor.data
    arrays.append(array)
    held = getrefcount(array)
    del array
    owned = [arrays[0]]
    data = [*map(_DATA, [tensor])]
    (alone,) = map(getrefcount, data)
    return held, alone * bool(owned)


_HELD, _ALONE = _references()
