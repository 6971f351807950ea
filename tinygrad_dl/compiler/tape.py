"""`Tape`: writes down, while a function runs once, every operation, read and write as a `Program`.

What the function leaves behind (results, new values of state, gradients) is an output of the program, with a sink.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any

import numpy as np

from .. import ops
from .._source import describe_line, user_line
from .._tensor import Tensor
from ..fused import Fused
from ..graph import Array, Handle, Leaf, Node, wrap
from ..nn.state import is_state
from ..ops import index as _index
from ..ops.sort import _bincount, _unique
from ..primitive import Primitive
from ..scope import current, within
from .actions import Actions, Schedule
from .feeds import Argument, Draw, Gradient, Slot, State
from .optimizing import Ready, optimize
from .program import Instruction, Program, Value, value_of
from .values import Values

DYNAMIC = {_index._nonzero, ops.flatnonzero, ops.argwhere, _unique}


class Tape(Values):
    """actions: what Python does again before each run."""

    def __init__(self, reached: Iterable[Handle] = (), arrays: Iterable[Array] = ()) -> None:
        super().__init__(reached, arrays)
        self.body: list[Instruction] = []
        self.actions = Actions()
        self.weak: set[Value] = set()
        self.written: dict[Handle, Value] = {}  # tensors that changed, with what they were before
        self.gradients: dict[Handle, bool] = {}  # whose `.grad` changed; was the old one read before?
        self.without_grad: list[Handle] = []  # read as None: must be None at a later run, too
        self.slots: dict[Tensor, Slot] = {}
        self.origin: Node | None = None  # whose rule runs
        self.generator = current().generator
        self._made: dict[int, weakref.ref[Any]] = {}  # tensors, optimizers and schedules, by identity

    # what the step itself makes

    def make(self, thing: Any) -> None:
        """A tensor, an optimizer or a schedule comes into being."""
        self._made[id(thing)] = weakref.ref(thing)

    def made(self, thing: Any) -> bool:
        """Did it come into being in the step? Then every run has one of its own."""
        found = self._made.get(id(thing))
        return (found is not None and found() is thing) or self._own_leaf(thing)

    def stays(self, thing: Any) -> bool:
        """Is it state from outside? What else there is among the results is new at every run."""
        return is_state(thing) and not self.made(thing)

    def _own_leaf(self, tensor: Any) -> bool:
        """Was it made in the step, to have a gradient there?"""
        node = tensor.node if isinstance(tensor, Handle) else None
        return isinstance(node, Leaf) and node.order > self.start and tensor not in self.outside

    def left_behind(self) -> list[weakref.ref[Any]]:
        """What was made here and may not be the same at the next call, if anybody still has it: tensors that were
        written, and optimizers."""
        tensors = [weakref.ref(tensor) for tensor in self.written if self.made(tensor)]
        return tensors + [found for found in self._made.values() if not isinstance(found(), Handle)]

    # operations

    def call(self, op: Primitive, args: Sequence[Any], static: dict[str, Any]) -> Any:
        """Run an operation as ever, and write it down; of a fused one, what it means."""
        args = [wrap(a) if isinstance(a, np.ndarray) and self.find(a) is not None else a for a in args]
        if isinstance(op, Fused):
            bound, static = op._bind(tuple(args), static)
            with hidden(), within(recording=False, replaying=True):
                op(*bound, **static)  # for the checks of its arguments
            return op.meaning(*bound, **static)
        if self.weak:
            args = self._strong(args)
        if op is _index._getitem:
            index, arrays = _index.replaced(static["index"], args[1:], self._numbers)
            args, static = [args[0], *arrays], {"index": index}
        with hidden():
            result = op(*args, **static)
        if not isinstance(result[0] if isinstance(result, tuple) else result, Handle):
            return result
        args, static = op._bind(tuple(args), static)
        self.note(op, args, static, result if isinstance(result, tuple) else (result,))
        return result

    def note(self, op: Primitive, args: Iterable[Any], static: dict[str, Any], results: Sequence[Handle]) -> None:
        """Write down an operation that has run."""
        inputs = tuple(self.value(a) for a in args)
        self._refuse_dynamic(op, args, static)
        for y in results:
            if self.find(y.data) is not None:
                y.data = y.data.view()  # it gave back an argument
        values = tuple(self.hold(y.data, value_of(y.data)) for y in results)
        given = [v for v in inputs if isinstance(v, Value)]
        if given and self.weak.issuperset(given) and op.name != "astype":
            self.weak.update(values)
        origin = self.origin
        line = origin.line if origin is not None else user_line()
        path = origin.path if origin is not None else current().path
        self.body.append(Instruction(op, inputs, static, values, line, path, origin is not None))

    def _strong(self, args: Sequence[Any]) -> Sequence[Any]:
        """Python's numbers are weak: beside an array they take its dtype."""
        found = [self.find(a.data) if isinstance(a, Handle) else None for a in args]
        dtypes = [a.dtype for a, v in zip(args, found, strict=True) if hasattr(a, "dtype") and v not in self.weak]
        floating = [d for d in dtypes if d.kind == "f"]
        if not floating or not any(v in self.weak for v in found):
            return args
        dtype = np.result_type(*floating)
        pairs = zip(args, found, strict=True)
        return [ops.astype(a, dtype=dtype) if v in self.weak and a.dtype != dtype else a for a, v in pairs]

    def _numbers(self, index: Any) -> Sequence[Any]:
        """Of a mask that follows from Python values alone, the numbers of its elements; every other index as it is."""
        self.value(index)
        array = index.data if isinstance(index, Handle) else np.asarray(index)
        fixed = array.dtype == np.bool_ and array.ndim and not self.computed(array)
        return np.nonzero(array) if fixed else [index]

    def _refuse_dynamic(self, op: Primitive, args: Iterable[Any], static: dict[str, Any]) -> None:
        masks = op is _index._getitem and any(getattr(a, "dtype", float) == np.bool_ for a in list(args)[1:])
        counts = op is _bincount and not static.get("minlength")
        if op in DYNAMIC or masks or counts:
            outside = "index with np.flatnonzero(mask), made outside" if masks else "do this outside"
            raise RuntimeError(
                f"compile: the shape of {op.name}'s result depends on values, at {describe_line(user_line())}\n"
                f"  a compiled step has one shape for each array; use np.where, or {outside}"
            )

    def fresh(self, data: Any, dtype: Any, convert: Callable[[Any, Any], Array]) -> Array:
        """The array of a new Tensor: a copy of what the program computes or reads, else a constant."""
        if isinstance(data, Handle) or id(data) in self.arrays:
            self.value(data)
            plain = wrap(data.data if isinstance(data, Handle) else data)
            return ops.copy(plain).data if dtype is None else ops.astype(plain, dtype=dtype).data
        if isinstance(data, list | tuple) and any(isinstance(d, Handle) for d in data):
            for d in data:
                if isinstance(d, Handle):
                    self.value(d)
            return self.fresh(ops.stack([wrap(d.data) if isinstance(d, Handle) else d for d in data]), dtype, convert)
        array = convert(data, dtype)
        self.constant(array)
        return array

    def refuse_reading(self, tensor: Handle, how: str) -> None:
        """Raise a RuntimeError if a value is taken out that later runs would not see."""
        if self.find(tensor.data) is None and not isinstance(tensor.node, Leaf):
            self.value(tensor)
        if self.computed(tensor.data):
            raise RuntimeError(
                f"compile: {how} reads a value out of a step that is being recorded, at {describe_line(user_line())}\n"
                "  later runs would not read it again; return the tensor, or use np.where in place of a branch"
            )

    # state

    def touch(self, tensor: Handle) -> None:
        """A tensor is about to change. What an operation gave is not noted."""
        if tensor not in self.written:
            self.value(tensor)
            if is_state(tensor) or tensor in self.outside or self.made(tensor):
                self.written[tensor] = self.of_array(tensor.data)

    def store(self, tensor: Handle, array: Array) -> None:
        """`assign`, with an array that need not be broadcast or cast yet."""
        self.touch(tensor)
        new = wrap(array)
        if array.shape != tensor.data.shape:
            new = ops.broadcast_to(new, shape=tensor.data.shape)
        if array.dtype != tensor.data.dtype:
            new = ops.astype(new, dtype=tensor.data.dtype)
        tensor.data = self.own(new.data)

    def read_grad(self, tensor: Handle) -> None:
        """Somebody looks at `.grad`."""
        if tensor in self.gradients or self.made(tensor):
            return
        if tensor._grad is None:
            self.gradients[tensor] = False
            self.without_grad.append(tensor)
        else:
            self.gradients[tensor] = True
            grad = tensor._grad
            if self.owned_by_another(grad.data, tensor):
                tensor._grad = grad = wrap(grad.data.copy(), grad.node)
            if self.find(grad.data) is None:
                self.feed(grad.data, Gradient(tensor))

    def write_grad(self, tensor: Handle) -> None:
        """`.grad` is about to change."""
        if not self.made(tensor):
            self.gradients.setdefault(tensor, False)

    # what Python does at each run

    def draw(self, draw: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A draw from a generator."""
        with hidden():
            first = draw(*args, **kwargs)
        result = wrap(np.array(first, np.uint64)) if type(first) is int else first
        given = signature(draw).bind(*args, **kwargs).arguments.get("rng")
        if given is None and current().generator is not self.generator:
            self.constant(result.data)  # the step's own scope begins from its seed at every run
        else:
            source = Draw(draw, args, kwargs, first)
            self.actions.draws.append(source)
            self.feed(result.data, source, draw.__name__)
        return result

    def schedule(self, schedule: Any) -> None:
        """A step of a learning-rate schedule."""
        if not self.made(schedule.optimizer):
            if self.made(schedule):
                raise RuntimeError(
                    f"compile: {type(schedule).__name__} was created in the step, for an optimizer from outside, at "
                    f"{describe_line(user_line())}\n  it would restart at each call; create it where the optimizer is"
                )
            self.actions.numbers.append(Schedule(schedule))
        with hidden():
            schedule.step()

    def beside(self, optimizer: Any) -> AbstractContextManager[None]:
        """For a block in which an optimizer makes its state: that of one from outside is no part of the step."""
        return nullcontext() if self.made(optimizer) else hidden()

    def optimize(self, optimizer: Any, ready: Ready) -> None:
        """An optimizer's step."""
        optimize(self, optimizer, ready)

    # the end

    def program(self, results: Sequence[Handle]) -> tuple[Program, list[Any], list[Any]]:
        """The program, with a source for each input and a place for each output."""
        outputs: list[Value] = []
        sinks: list[Any] = []
        for number, result in enumerate(results):
            outputs.append(self.of_array(result.data if isinstance(result, Handle) else result))
            sinks.append(number)
        places = {id(source.tensor): i for i, (_, source) in enumerate(self.feeds) if isinstance(source, State)}
        slots = {(id(s.tensor), s.name): i for i, (_, s) in enumerate(self.feeds) if isinstance(s, Slot)}
        updates: dict[int, int] = {}
        for tensor, before in self.written.items():
            if self.find(tensor.data) is before:
                continue
            slot = self.slots.get(tensor)  # type: ignore[call-overload]
            place = places.get(id(tensor)) if slot is None else slots[id(slot.tensor), slot.name]
            if place is None:  # made here: nobody sees it afterwards
                continue
            updates[len(outputs)] = place
            outputs.append(self.of_array(tensor.data))
            sinks.append(slot or State(tensor))
        arguments = {value for value, source in self.feeds if isinstance(source, Argument)}
        given = {id(s.tensor): i for i, (_, s) in enumerate(self.feeds) if isinstance(s, Gradient)}
        for tensor in self.gradients:
            g, at = tensor._grad, given.get(id(tensor))
            if g is not None and (at is None or self.of_array(g.data) is not self.feeds[at][0]):
                if at is not None:
                    updates[len(outputs)] = at
                outputs.append(self.of_array(g.data))
                sinks.append(Gradient(tensor))
                if outputs[-1] in arguments:  # whose array is the caller's
                    tensor._grad = wrap(g.data.copy(), g.node)
        inputs = [v for v, _ in self.feeds]
        program = Program(inputs, self.constants, self.body, outputs, updates)
        return program, [s for _, s in self.feeds], sinks


def hidden() -> AbstractContextManager[None]:
    """Run a block whose operations are not written down."""
    return within(tape=None)
