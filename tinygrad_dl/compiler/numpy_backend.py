"""A program as Python text that needs only NumPy, and as the function that this text defines.

`source` shows a whole training step, its backward pass included, as NumPy that can be read and run alone.
Intermediate results lie in buffers that are made once, so a call must have ended before the next begins.
"""

from __future__ import annotations

import builtins
import itertools
import keyword
import linecache
import weakref
from collections.abc import Callable, Iterator
from traceback import walk_tb
from typing import Any

import numpy as np

from .._source import explain
from ..graph import Array
from ..scope import Path
from .kernel_text import Definitions, Unwritable, array_text
from .numpy_places import Places
from .numpy_text import Writer, allocation
from .program import Instruction, Program, Value, names_of

KEPT = 2**18  # bytes of buffers at most that are kept while other programs run
_HELD = 4096  # bytes, from which an array that is not in a buffer is let go after its last use
_RESERVED = {*dir(builtins), *keyword.kwlist, "np", "step", "base64", "zlib", "math", "functools"}
_numbers = itertools.count(1)


def source(program: Program) -> str:
    """The program as a Python file: `step(x0, x1, ...)` takes its inputs and returns its outputs as a tuple.

    An input that an output replaces may be overwritten by it."""
    return _Translation(program).text


def build(program: Program) -> Callable[[list[Array]], list[Array]]:
    """The program as a function of its inputs, compiled from its `source`. What it returns owns its memory.

    An input that an output replaces may be overwritten by it. Errors name the operation and the user's line."""
    return _Run(program)


class _Run:
    def __init__(self, program: Program) -> None:
        self.program, translation = program, _Translation(program)
        file, text = f"<compiled step {next(_numbers)}>", translation.text
        linecache.cache[file] = len(text), None, text.splitlines(True), file
        self.names: dict[str, Any] = {"__name__": file, **translation.definitions.given}
        exec(compile(text, file, "exec"), self.names)
        self.step, self.steps = self.names["step"], translation.steps
        self.buffers, self.large = translation.places.allocations, translation.places.plan.peak > KEPT
        self.rests = False
        self.shapes, self.dtypes = [v.shape for v in program.inputs], [v.dtype for v in program.inputs]
        weakref.finalize(self, linecache.cache.pop, file, None)

    def __call__(self, arrays: list[Array]) -> list[Array]:
        if [a.shape for a in arrays] != self.shapes or [a.dtype for a in arrays] != self.dtypes:
            self.program.check(arrays)
        if self.rests:
            exec("\n".join(self.buffers), self.names)
            self.rests = False
        try:
            return list(self.step(*arrays))
        except Exception as error:
            raise self._explained(error) from error

    def rest(self) -> None:
        """Let go of large buffers: other programs run before the next call."""
        if self.large and not self.rests:
            self.rests = True
            for line in self.buffers:
                del self.names[line.partition(" = ")[0]]

    def _explained(self, error: Exception) -> Exception:
        """The error with the instruction in which it arose."""
        numbers = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code is self.step.__code__]
        step = self.steps.get(numbers[0]) if numbers else None
        return error if step is None else explain(error, step.op.name, step.args, step.static, step.path, step.line)


def _own(y: Any, *others: Any) -> Any:
    """y, or a copy of it if it may show memory of the others."""
    return y.copy() if any(np.may_share_memory(y, x) for x in others) else y


class _Translation:
    """text: of the file. steps: the instruction on each line of it."""

    def __init__(self, program: Program) -> None:
        self.program, taken = program, set(_RESERVED)
        self.names = names_of(program, taken)
        self.places = Places(program, taken)
        self.definitions = Definitions(taken)
        self.steps: dict[int, Instruction] = {}
        self.text = self._file()

    def _file(self) -> str:
        constants, body, result = list(self._constants()), list(self._body()), list(self._result())
        missing = [f"# {name} has no text: define it before a call" for name in self.definitions.given]
        blocks = [line for block in self.definitions.blocks for line in _set_apart(block)]
        definitions = [*constants, *missing, *blocks]
        apart = [""] * bool(definitions and definitions[0])
        head = [*self._head(definitions), *apart, *definitions, *self._memory(), *self._signature()]
        lines = "\n".join(head).split("\n")
        for text, step in body:
            lines.append(f"    {text}")
            if step is not None:
                self.steps[len(lines)] = step
        return "\n".join([*lines, *result]) + "\n"

    def _head(self, texts: list[str]) -> Iterator[str]:
        yield f'"""A step of {len(self.program.body)} operations, recorded from a run by tinygrad_dl; needs only NumPy.'
        yield ""
        yield "Intermediate results are in the buffers b0, b1, ...: run one call of `step` at a time. An input that an"
        yield "output replaces may be overwritten. Comments name the line and the layer that an operation came from."
        yield '"""'
        yield ""
        packed = {"base64", "zlib"} if any("base64." in t for t in texts) else set()
        standard = sorted(self.definitions.imports | packed)
        yield from (f"import {m}" for m in standard)
        yield from [""] * bool(standard)
        yield "import numpy as np"

    def _constants(self) -> Iterator[str]:
        for v, array in self.program.constants.items():
            try:
                yield f"{self.names[v]} = {array_text(array)}"
            except Unwritable:
                self.definitions.given[self.names[v]] = array

    def _memory(self) -> Iterator[str]:
        plan = self.places.plan
        if plan.sizes:
            yield from ("", "")
            yield f"# {plan.peak:,} bytes in all, for results of {plan.total:,} bytes"
            yield from self.places.allocations

    def _signature(self) -> Iterator[str]:
        yield from ("", "", "def step(")
        for v in self.program.inputs:
            yield f"    {self.names[v]},  # {_described(v)}"
        yield "):"

    def _body(self) -> Iterator[tuple[str, Instruction | None]]:
        """Lines, each with the instruction that it computes."""
        writer, places = Writer(self.names, self.definitions), self.places
        held, origin = self._held(), None
        for i, step in enumerate(self.program.body):
            before, origin = origin, (step.place, step.path)
            if origin != before:
                yield from ((f"# {text}", None) for text in _origin(origin, before))
            y = step.outputs[0]
            target = self.names[places.replaced[y]] if y in places.replaced else places.targets.get(y)
            first, *rest = writer.statements(step, target, allocation(places.prototypes[y]))
            yield f"{first}  # {'; '.join(map(_described, step.outputs))}", step
            yield from ((text, step) for text in rest)
            if i in held:
                yield f"del {', '.join(held[i])}", None

    def _held(self) -> dict[int, list[str]]:
        """By instruction: the names of large arrays outside of the buffers that are not needed after it."""
        forms, memory = self.places.forms, self.places.lifetimes.memory
        seen: set[Value] = set()
        found: dict[int, list[str]] = {}
        for i, ended in sorted(self.places.lifetimes.ending().items()):
            large = {v for v in ended if forms.get(v) in ("fresh", "call") and v.nbytes >= _HELD}
            names = [w for w in forms if w not in seen and not large.isdisjoint(memory[w])] if large else []
            if names and i < len(self.program.body):
                seen.update(names)
                found[i] = [self.names[w] for w in names]
        return found

    def _result(self) -> Iterator[str]:
        yield "    return ("
        for i, v in enumerate(self.program.outputs):
            name, how = self.names[v], self.places.returned.get(i)
            if how == "copy":
                name = f"{name}.copy()"
            elif how == "own":
                step = self.places.made[v]
                others = [x for x in (*step.inputs, *step.outputs) if x is not v]
                own = self.definitions.expression(_own, "own")
                name = f"{own}({', '.join(self.names[x] for x in (v, *others))})" if others else name
            number = self.program.updates.get(i)
            yield f"        {name}," + (
                "" if number is None else f"  # replaces {self.names[self.program.inputs[number]]}"
            )
        yield "    )"


def _origin(now: tuple[str, Path | None], before: tuple[str, Path | None] | None) -> Iterator[str]:
    """What is new in where an instruction comes from: the user's line, the layer."""
    place, path = now
    if place and (path is None or before is None or before[0] != place):
        yield place
    if path is not None:
        yield f"layer {path}"


def _described(v: Value) -> str:
    return f"{v.dtype} {v.shape}"


def _set_apart(block: str) -> list[str]:
    """Two empty lines before a function."""
    return ["", "", block] if block.startswith("def ") else [block]
