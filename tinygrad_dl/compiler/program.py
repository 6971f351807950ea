"""`Program`: a recorded computation as data, arrays in and arrays out, and the interpreter that is its meaning.

A program prints as text, counts its own cost, and is what the passes rewrite and the backends translate.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .._source import Line, describe_line, explain
from ..graph import Array
from ..primitive import Primitive
from ..scope import Path

if TYPE_CHECKING:
    from .cost import Cost

Literal = bool | int | float | None


class Value:
    """An array that a program computes or is given: its shape and dtype, and a name for people."""

    __slots__ = ("dtype", "name", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str | None = None) -> None:
        self.shape, self.dtype, self.name = shape, dtype, name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.name or 'value'}: {self.dtype} {self.shape}"


def value_of(array: Array, name: str | None = None) -> Value:
    """A value of an array's shape and dtype."""
    return Value(array.shape, array.dtype, name)


@dataclass(slots=True, eq=False)
class Instruction:
    """One operation: `outputs = op(*args, **static)`. Python numbers among the arguments are literals, and weak
    as NumPy's promotion has them."""

    op: Primitive
    args: tuple[Value | Literal, ...]
    static: dict[str, Any]
    outputs: tuple[Value, ...]
    line: Line | None = None  # of the user's program
    path: Path | None = None  # of the module that ran
    backward: bool = False  # does it differentiate what that line computed?

    @property
    def place(self) -> str:
        """The user's line, in words."""
        return "" if self.line is None else "backward of " * self.backward + describe_line(self.line)

    @property
    def inputs(self) -> list[Value]:
        """The arguments that are values."""
        return [a for a in self.args if isinstance(a, Value)]


@dataclass(slots=True, eq=False)
class Program:
    """inputs: what a caller gives, in order. constants: arrays known when it was recorded. body: instructions
    in the order in which they run. outputs: what a caller gets, in order; an input or constant may be one.
    updates: which outputs replace the value of which input, by number: the input's memory may be reused."""

    inputs: list[Value]
    constants: dict[Value, Array]
    body: list[Instruction]
    outputs: list[Value]
    updates: dict[int, int] = field(default_factory=dict)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The meaning of the program: every instruction by its primitive's NumPy kernel, in order.

        arrays: one per input, of its shape and dtype; nothing is written into them. Raises ValueError for others."""
        self.check(arrays)
        found: dict[Value, Any] = dict(zip(self.inputs, arrays, strict=True)) | self.constants
        for step in self.body:
            args = [found[a] if isinstance(a, Value) else a for a in step.args]
            results = execute(step, args)
            found.update(zip(step.outputs, results, strict=True))
        return [found[v] for v in self.outputs]

    def check(self, arrays: Sequence[Array]) -> None:
        """Raise a ValueError for inputs of other number, shape or dtype."""
        if len(arrays) != len(self.inputs):
            raise ValueError(f"program: expected {len(self.inputs)} inputs, got {len(arrays)}")
        for value, array in zip(self.inputs, arrays, strict=True):
            if array.shape != value.shape or array.dtype != value.dtype:
                raise ValueError(f"program: expected {value!r}, got {array.dtype} {array.shape}")

    def uses(self) -> dict[Value, int]:
        """How many times each value is read, outputs included."""
        return Counter([*self.outputs, *(v for step in self.body for v in step.inputs)])

    def makers(self) -> dict[Value, Instruction]:
        """The instruction that gives each value which is neither an input nor a constant."""
        return {v: step for step in self.body for v in step.outputs}

    def cost(self) -> Cost:
        """What it costs, by operation: FLOPs, bytes, kernels, peak memory; prints as a table."""
        from .cost import cost  # it counts what the passes and backends know, and they import this module

        return cost(self)

    def __str__(self) -> str:
        return "\n".join(_text(self))

    def __repr__(self) -> str:
        return f"Program({len(self.inputs)} inputs, {len(self.body)} instructions, {len(self.outputs)} outputs)"


def execute(step: Instruction, args: Sequence[Any]) -> tuple[Array, ...]:
    """Run one instruction's kernel on arrays; one array per output. Errors name the operation and its line."""
    op = step.op
    try:
        output = op.kernel(*args, **step.static)
    except Exception as error:
        raise explain(error, op.name, step.args, step.static, step.path, step.line) from error
    results = output if isinstance(output, tuple) else (output,)
    return tuple(np.asarray(y) for y in results)


def names_of(program: Program, taken: set[str]) -> dict[Value, str]:
    """An identifier for each value, that is not taken: its own name, or `x0` for inputs, `c0` for constants, `v0`
    for results."""
    results = [v for step in program.body for v in step.outputs]
    groups = (("x", program.inputs), ("c", list(program.constants)), ("v", results))
    found: dict[Value, str] = {}
    for letter, values in groups:
        for i, v in enumerate(values):
            own = re.sub(r"\W+", "_", v.name or "").strip("_")
            found[v] = unique(own if own.isidentifier() else f"{letter}{i}", taken)
    return found


def unique(hint: str, taken: set[str]) -> str:
    """The hint, or the first of hint_2, hint_3, … that is not taken; it is taken then."""
    name, n = hint, 1
    while name in taken:
        n += 1
        name = f"{hint}_{n}"
    taken.add(name)
    return name


def _shown(arg: Value | Literal, names: Mapping[Value, str]) -> str:
    return names[arg] if isinstance(arg, Value) else repr(arg)


def _text(program: Program) -> Iterator[str]:
    names = names_of(program, set())
    for v in program.inputs:
        yield f"{names[v]}: {v.dtype}{list(v.shape)}"
    for v, array in program.constants.items():
        known = f" = {array.item()!r}" if array.size == 1 else ""
        yield f"{names[v]}: {v.dtype}{list(v.shape)}{known}  # constant"
    place = ""
    for step in program.body:
        before, place = place, step.place or place
        if place != before:
            yield f"# {place}"
        args = [_shown(a, names) for a in step.args] + [f"{k}={v!r}" for k, v in step.static.items()]
        outputs = ", ".join(f"{names[v]}: {v.dtype}{list(v.shape)}" for v in step.outputs)
        yield f"{outputs} = {step.op.name}({', '.join(args)})"
    shown = [
        names[v] + (f" -> {names[program.inputs[program.updates[i]]]}" if i in program.updates else "")
        for i, v in enumerate(program.outputs)
    ]
    yield f"return {', '.join(shown)}"
