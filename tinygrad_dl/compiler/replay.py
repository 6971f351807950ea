"""`Recorded`: one program, with what it takes for granted, reads and writes; it runs again what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from sys import getrefcount
from typing import Any

from ..graph import Array, Handle, add_holder, unshared
from .backends import Run
from .feeds import Argument, Changed, Draw, Gradient, Held, Slot, State
from .gradients import Gradients
from .guards import Guards
from .passes import simplify
from .program import Program
from .replay_text import written
from .structure import Place
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
        self.unrepeatable = False  # has it left things of its own behind, which other calls may use?
        self.flat = False  # does the function take nothing but arrays?
        self.single = results.__class__ is Place and self.raw == [False]
        self.run = build(self.program)
        self._resolve()
        add_holder(self)

    def _resolve(self) -> None:
        """Find where each input comes from and each output goes, with the tensors that optimizers hold now."""
        feeds, sinks = self.sources, self.places
        slots = {id(s.handle()): s for s in (*feeds, *sinks) if type(s) is Slot}
        self.slots = [(s.optimizer.state[s.tensor], s.name, s.handle()) for s in slots.values()]
        self.arguments = [(i, f.number) for i, f in enumerate(feeds) if type(f) is Argument]
        self.draws = [(i, f) for i, f in enumerate(feeds) if type(f) is Draw]
        updates = self.program.updates
        updated = set(updates.values())
        self.old_gradients = [(i, f.tensor) for i, f in enumerate(feeds) if type(f) is Gradient and i not in updated]
        tensors = [(i, f.handle()) for i, f in enumerate(feeds) if type(f) in (State, Slot)]
        self.read = [(i, tensor) for i, tensor in tensors if i not in updated]
        self.written = [(i, tensor) for i, tensor in tensors if i in updated]
        gradients = [(i, s.tensor) for i, s in enumerate(sinks) if type(s) is Gradient]
        new = [(i, tensor) for i, tensor in gradients if i not in updates]
        stay = all(i in getattr(self.run, "fresh", ()) for i, _ in new)
        self.gradients = Gradients(new, self._words() if new and stay else None)
        self.added_to = [(i, updates[i], tensor) for i, tensor in gradients if i in updates]  # from the last run on
        self.stores = [(i, s.handle()) for i, s in enumerate(sinks) if type(s) in (State, Slot)]
        in_place = getattr(self.run, "in_place", ())
        self.replaced = {i: j for i, j in updates.items() if i not in in_place}  # new arrays at each run
        self.arrays: list[Any] = [f.array if type(f) is Held else None for f in feeds]  # the inputs of the latest run
        self.known: list[Any] = [None] * len(self.read)  # the arrays of what is read
        self.owned: list[Any] = [None] * len(self.written)  # of what is written, which nobody else may see
        self.alone: list[int] = []  # how many refer to each of these then
        self.held: set[int] = set()  # the identities of all of them
        self.words = None if self.replaced or not tensors else self._words()  # of read and written, if there are any
        self._again: Callable[[Recorded, Sequence[Any]], Any] | None = None  # written out when it is needed

    def _words(self) -> Any:
        """What looks at many places at once, if the backend has any."""
        return self.run.words() if hasattr(self.run, "words") else None

    def broken(self) -> str | None:
        """Why this program does not fit now, or None."""
        if self.unrepeatable:
            return "a tensor or an optimizer that the previous step created, changed and kept"
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return "a gradient was there at the start; call zero_grad() first in the step"
        return self.guards.broken()

    def again(self, arguments: Sequence[Any]) -> Any:
        """Run it if everything is as at the latest run but for its arguments: if it is flat, all that the function was
        called with; else the arrays in it, and someone has found it not `broken`.

        Raises Changed, with nothing done, if it is not, or may not be."""
        if self._again is None:
            self._again = written(self)
        return self._again(self, arguments)

    def __call__(self, arguments: Sequence[Array]) -> Any:
        """Run it. Raises Changed, with nothing done, if it does not fit after all."""
        try:
            return self.again(arguments)
        except Changed:
            self._take()
        return self.again(arguments)

    def _take(self) -> None:
        """Take the state as it is; tensors that will be written over get memory that nobody else sees."""
        self.forget()
        elsewhere = any(table.get(name) is not tensor for table, name, tensor in self.slots)
        if self.actions.moved() or elsewhere:
            self._resolve()
        for i, tensor in (*self.read, *self.written):
            value = self.program.inputs[i]
            if tensor.data.shape != value.shape or tensor.data.dtype != value.dtype:
                raise Changed
        for _, tensor in self.written:
            if not unshared(tensor) or not tensor.data.flags.carray:
                tensor.data = tensor.data.copy()
        for arrays, tensors in (self.known, self.read), (self.owned, self.written):
            arrays[:] = [tensor.data for _, tensor in tensors]
            for i, tensor in tensors:
                self.arrays[i] = tensor.data
            self.held.update(map(id, arrays))
        self.alone[:] = map(getrefcount, self.owned)
        if self.words:
            self.words.note(self._state())

    def _state(self) -> Iterator[tuple[Any, str]]:
        """Where state would be seen to be another, or seen by others."""
        for _, tensor in (*self.read, *self.written):
            yield tensor, "data"
        for array in self.owned:
            yield array, "references"

    def forget(self) -> None:
        """What is known of the state is not so any more."""
        self.known[:], self.owned[:] = [None] * len(self.read), [None] * len(self.written)
        for i, _ in (*self.read, *self.written):
            self.arrays[i] = None
        self.arrays = [*self.arrays]  # another list: a backend knows the one before
        self.held.clear()
        if self.words:
            self.words.forget()

    def rest(self) -> None:
        """Other programs run now: let go of arrays that nobody may need any more."""
        for i, _ in self.arguments:
            self.arrays[i] = None
        if hasattr(self.run, "rest"):
            self.run.rest()

    def failed(self) -> None:
        """A run has ended in the middle: its gradients are nothing, and the next one looks at everything."""
        self.gradients.clear()
        self.forget()

    def holds(self, array: Array) -> int:
        """How many references to an array of state this keeps between runs."""
        return 2 if id(array) in self.held else 0
