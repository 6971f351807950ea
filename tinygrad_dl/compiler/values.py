"""`Values`: what the arrays that a recorded function meets are to its program.

An array is known by its identity as long as it lives: recording holds no more of them than the step itself. What the
function only computes from Python values is a constant. What it reads from outside is an input with a feed that reads
it again at each later run.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..graph import Array, Handle, Leaf, next_order
from ..nn.state import is_state
from .feeds import Gradient, Held, Slot, State
from .program import Literal, Value, value_of


def _checksum(array: Array) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)  # 5 ms for 20 MB


class Values:
    """reached: tensors whose arrays the function may take by itself, as `tensor.data`; arrays: what else it reaches."""

    def __init__(self, reached: Iterable[Handle] = (), arrays: Iterable[Array] = ()) -> None:
        self.reached = {id(tensor.data): tensor for tensor in reached}
        self._before = {t: (weakref.ref(t.data), _checksum(t.data)) for t in self.reached.values()}
        self.arrays = {id(array): array for array in arrays}
        self._known: dict[int, tuple[weakref.ref[Array], Value]] = {}  # by identity
        self.constants: dict[Value, Array] = {}
        self.feeds: list[tuple[Value, Any]] = []  # of the program's inputs, in order
        self.outside: set[Handle] = set()  # tensors that were there before
        self.owners: dict[int, Handle] = {}  # whose value or gradient a known array is, by its identity
        self.start = next_order()  # what is made later is made in the step

    def hold(self, array: Array, value: Value) -> Value:
        """Know an array as a value from now on."""
        if self.find(array) is None:
            self.owners.pop(id(array), None)  # of one that is gone
        self._known[id(array)] = weakref.ref(array), value
        return value

    def find(self, array: Array) -> Value | None:
        """What an array is known as. It may have the identity of one that is gone: callbacks at an array's end would
        not do, since Ctrl-C ends one without a word."""
        alive, value = self._known.get(id(array), (None, None))
        return value if alive is not None and alive() is array else None

    def owned_by_another(self, array: Array, tensor: Handle) -> bool:
        """Is it known as the value or gradient of another tensor?"""
        return self.find(array) is not None and self.owners.get(id(array), tensor) is not tensor

    def feed(self, array: Array, source: Any, name: str | None = None) -> Value:
        """Know an array as an input that later runs read from a source."""
        value = self.hold(array, value_of(array, name))
        self.feeds.append((value, source))
        if isinstance(source, State | Slot | Gradient):
            self.owners[id(array)] = source.tensor if isinstance(source, Gradient) else source.handle()
        return value

    def constant(self, array: Array) -> Value:
        """Know an array as it is now for good."""
        value = self.hold(array, value_of(array))
        kept = array.copy()
        kept.flags.writeable = False
        self.constants[value] = kept
        return value

    def value(self, arg: Any) -> Value | Literal:
        """What an argument of an operation is to the program."""
        if arg is None or type(arg) in (bool, int, float):
            return arg  # type: ignore[no-any-return]
        if isinstance(arg, Handle):
            found = self.own_value(arg) if self._was_state(arg) else self.find(arg.data)
            if found is None:
                self.outside.add(arg)
            return found or self.feed(arg.data, State(arg), arg.name)
        array = np.asarray(arg)
        if self.find(array) is None:
            owner = self.reached.get(id(array))
            if owner is not None and owner.data is array:
                return self.value(owner)
            if id(array) in self.arrays:
                return self.feed(array, Held(array))
        return self.of_array(array)

    def _was_state(self, tensor: Handle) -> bool:
        """Was it state before the step? Rules get their arguments as other handles of the same leaf."""
        if isinstance(tensor.node, Leaf):
            return tensor.node.order < self.start and tensor.node.tensor() is tensor
        return is_state(tensor)

    def own_value(self, tensor: Handle) -> Value | None:
        """What a tensor from outside is known as. Of two that hold one array, the second gets a copy: later runs may
        find them apart."""
        if self.owned_by_another(tensor.data, tensor):
            tensor.data = tensor.data.copy()
        return self.find(tensor.data)

    def alias(self, tensor: Handle) -> Array:
        """Another array that is known as what the tensor is: for one that stands in for another tensor's."""
        value = self.value(tensor)
        assert isinstance(value, Value)
        array = tensor.data.view()
        self.hold(array, value)
        return array

    def computed(self, array: Array) -> bool:
        """May this array be another one at a later run?"""
        value = self.find(array)
        return value is not None and value not in self.constants

    def changed_by_numpy(self) -> Iterator[Handle]:
        """Tensors from outside whose array has other bytes than before, or is another one that no operation gave."""
        for tensor, (alive, checksum) in self._before.items():
            if _checksum(tensor.data) != checksum if alive() is tensor.data else self._unknown(tensor):
                yield tensor
        yield from filter(self._unknown, self.outside)

    def _unknown(self, tensor: Handle) -> bool:
        return self.find(tensor.data) is None

    def own(self, array: Array) -> Array:
        """A copy that nothing else refers to, known as the same value."""
        value = self.value(array)
        fresh = array.copy()
        if isinstance(value, Value):
            self.hold(fresh, value)
        return fresh

    def of_array(self, array: Array) -> Value:
        """What an array is known as; if it is not, a constant."""
        return self.find(array) or self.constant(array)
