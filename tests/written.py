"""Programs written by hand, and how the native backend's results are compared with the interpreter's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_dl.compiler.native.backend import Native, build
from tinygrad_dl.compiler.native.memory import Arena
from tinygrad_dl.compiler.program import Instruction, Program, Value
from tinygrad_dl.primitive import Primitive


class Dirty(Arena):
    """As if another program had just written NaN everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def take(self, size: int) -> Any:
        self.taken.append(super().take(size))
        return self.taken[-1]

    def soil(self) -> None:
        for block in self.taken:
            block[:] = 255


class Writer:
    """A program written by hand: each call adds an instruction."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.arrays: list[Any] = []
        self.body: list[Instruction] = []
        self.found: dict[Value, Any] = {}

    def input(self, array: Any) -> Value:
        array = np.asarray(array)
        value = Value(array.shape, array.dtype)
        self.inputs.append(value)
        self.arrays.append(array)
        self.found[value] = array
        return value

    def __call__(self, op: Any, *args: Any, **static: Any) -> Value:
        op = Primitive(op, (), op.__name__, True) if isinstance(op, np.ufunc) else op
        with np.errstate(all="ignore"):
            result = np.asarray(op.kernel(*(self.found[a] if isinstance(a, Value) else a for a in args), **static))
        value = Value(result.shape, result.dtype)
        self.found[value] = result
        self.body.append(Instruction(op, args, static, (value,)))
        return value

    def program(self, *outputs: Value, updates: dict[int, int] | None = None) -> Program:
        return Program(self.inputs, {}, self.body, list(outputs), updates or {})


def close(got: Any, want: Any, tolerance: float | None = None) -> None:
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    tolerance = tolerance or (1e-5 if want.dtype == np.float32 else 1e-12)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    scale = max(float(np.linalg.norm(want[finite].astype(float))), 1e-3)
    assert np.linalg.norm(got[finite].astype(float) - want[finite]) <= tolerance * scale


def check(program: Program, arrays: list[Any], tolerance: float | None = None, parts: int | None = 1) -> Native:
    """Twice, since the second run finds the memory of the first. parts: 1 says that nothing was left to NumPy."""
    arena = Dirty()
    native = build(program, arena)
    assert isinstance(native, Native)
    assert parts is None or len(native.parts) == parts
    for _ in range(2):
        arena.soil()
        with np.errstate(all="ignore"):
            want = program.run([a.copy() for a in arrays])
        for got, expected in zip(native([a.copy() for a in arrays]), want, strict=True):
            close(got, expected, tolerance)
    return native


def replay(program: Program, arrays: list[Any], times: int = 3) -> None:
    """Run again and again with the new states; states may be overwritten in one of two."""
    arena = Dirty()
    native = build(program, arena)
    mine, theirs = [a.copy() for a in arrays], [a.copy() for a in arrays]
    for _ in range(times):
        arena.soil()
        got, want = native(mine), program.run(theirs)
        for a, b in zip(got, want, strict=True):
            close(a, b)
        for i, j in program.updates.items():
            mine[j], theirs[j] = got[i], want[i].copy()
