"""`Kernels`: a fused operation as machine code, forward and backward, for arrays of fixed shapes and dtypes.

Both come from one recording of the operation's meaning and its derivative. Of what the backward reads of the
forward, what is smaller than what it was made of (sums, maxima, checked labels) is kept between them; the rest is
computed again, which costs less than to write and to read it. Where NumPy's own backward is one multiplication, the
forward keeps the factor for it instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...autodiff import propagate
from ...fused import Fused
from ...graph import Array, Leaf, Node, wrap
from ...scope import written_to
from ..backends import Run, builder
from ..passes import simplify
from ..program import Instruction, Program, Value
from ..tape import Tape

Place = tuple[int, int]  # of a value in a recording: the number of its instruction, its number among the outputs


class Recording:
    """The meaning of an operation and its derivative, written down in one body.

    needs: of which arguments a gradient is asked for. given: for which outputs one arrives; None for all."""

    def __init__(
        self, op: Fused, arrays: Sequence[Any], static: dict[str, Any], needs: Sequence[bool], given: Any = None
    ) -> None:
        tape = Tape()
        tensors = [None if a is None else wrap(a.view()) for a in arrays]
        self.arguments = [None if t is None else tape.feed(t.data, None) for t in tensors]
        leaves: list[Node | None] = [None] * len(tensors)
        for i, t in enumerate(tensors):
            if t is not None and needs[i] and t.data.dtype.kind == "f":
                leaves[i] = t.node = Leaf(t)

        def record() -> tuple[Any, Any]:
            found = op.meaning(*tensors, **static)
            self.single = not isinstance(found, tuple)
            results = (found,) if self.single else found
            self.split = len(tape.body)
            seeds = [(y, wrap(np.ones(y.shape, y.dtype))) for y in results]
            self.seeds = [tape.feed(g.data, None) for _, g in seeds]
            used = [(y.node, g) for i, (y, g) in enumerate(seeds) if y.node is not None and (given is None or given[i])]
            return results, propagate(used, wanted={leaf for leaf in leaves if leaf is not None}, stop=True)

        with np.errstate(all="ignore"):
            results, gradients = written_to(tape, record, recording=True, replaying=False)
        self.outputs = [_value(tape, y) for y in results]
        self.gradients = [None if leaf not in gradients else _value(tape, gradients[leaf]) for leaf in leaves]
        self.body, self.constants = tape.body, tape.constants

    def backward(self, keeps: Callable[[Place, Instruction], bool]) -> tuple[list[Instruction], dict[Place, Value]]:
        """The instructions that lead to the gradients, and what they read of the forward that it keeps."""
        needed = {v for v in self.gradients if v is not None}
        steps: list[Instruction] = []
        kept: dict[Place, Value] = {}
        for number in reversed(range(len(self.body))):
            step = self.body[number]
            read = {(number, i): v for i, v in enumerate(step.outputs) if v in needed}
            if not read:
                continue
            if number < self.split and all(keeps(place, step) for place in read):
                kept |= read
            else:
                steps.append(step)
                needed.update(step.inputs)
        return steps[::-1], kept

    def keeps(self, place: Place, step: Instruction) -> bool:
        """Is it an output, or smaller than what it was made of?"""
        y = step.outputs[place[1]]
        return y in self.outputs or y.size < max((x.size for x in step.inputs), default=0)


def _value(tape: Tape, tensor: Any) -> Value:
    return tape.find(tensor.data) or tape.constant(tensor.data)


class Kernels:
    """The two functions of a pair. A backward is compiled when it is first asked for.

    factor: the gradient is the output's times one array, which NumPy's backward wants to have."""

    def __init__(self, op: Fused, arrays: Sequence[Any], static: dict[str, Any], factor: bool) -> None:
        self.op, self.static, self.factor = op, static, factor
        self.lock = threading.Lock()  # a program has memory of its own
        recording = Recording(op, arrays, static, [True] * len(arrays))
        kept = recording.backward(_all if factor else recording.keeps)[1]
        self.kept = {place: number for number, place in enumerate(kept)}
        outputs = list(dict.fromkeys([*recording.outputs, *kept.values()]))
        self.places = [outputs.index(v) for v in kept.values()]
        self.count = 0 if recording.single else len(recording.outputs)
        self.given = [i for i, v in enumerate(recording.arguments) if v is not None]
        inputs = [v for v in recording.arguments if v is not None]
        self.run = _build(Program(inputs, recording.constants, recording.body[: recording.split], outputs))
        self.backwards: dict[Any, tuple[Run, list[int], list[int | None]]] = {}

    def forward(self, arrays: Sequence[Any]) -> tuple[Any, Any]:
        """The outputs, and what the backward wants to have."""
        with self.lock:
            found = self.run([arrays[i] for i in self.given])
        y = tuple(found[: self.count]) if self.count else found[0]
        kept = [found[i] for i in self.places]
        return y, kept[0] if self.factor else Kept(self, kept)

    def backward(self, g: Any, kept: list[Array], needs: tuple[bool, ...], arrays: Sequence[Any]) -> Sequence[Any]:
        """The gradients of the arguments that need one."""
        gradients = g if self.count else (g,)
        key = needs, *[x is not None for x in gradients]
        if key not in self.backwards:
            self.backwards[key] = self._backward(arrays, needs, key[1:])
        run, reads, writes = self.backwards[key]
        sources = [*arrays, *kept, *gradients]
        with self.lock:
            found = run([sources[i] for i in reads])
        return [None if i is None else found[i] for i in writes]

    def rest(self) -> None:
        """Let go of large outputs of earlier calls: other shapes have come."""
        with self.lock:
            for run in (self.run, *(run for run, _, _ in self.backwards.values())):
                if hasattr(run, "rest"):
                    run.rest()

    def _backward(self, arrays: Sequence[Any], needs: Any, given: Any) -> tuple[Run, list[int], list[int | None]]:
        """A program, which of arguments, kept arrays and gradients it reads, and which result each gradient is."""
        recording = Recording(self.op, arrays, self.static, needs, given)
        steps, found = recording.backward(lambda place, step: place in self.kept)
        kept = [found.get(place) for place in self.kept]
        outputs = list(dict.fromkeys(v for v in recording.gradients if v is not None))
        read = {x for step in steps for x in step.inputs}.union(outputs)
        inputs = {i: v for i, v in enumerate([*recording.arguments, *kept, *recording.seeds]) if v in read}
        run = _build(Program([*inputs.values()], recording.constants, steps, outputs))
        return run, [*inputs], [None if v is None else outputs.index(v) for v in recording.gradients]


class Kept:
    """What the forward leaves for the backward."""

    __slots__ = ("arrays", "kernels")

    def __init__(self, kernels: Kernels, arrays: list[Array]) -> None:
        self.kernels, self.arrays = kernels, arrays


def _all(place: Place, step: Instruction) -> bool:
    return True


def _build(program: Program) -> Run:
    return builder("native")(simplify(program))
