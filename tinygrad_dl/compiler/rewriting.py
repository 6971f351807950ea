"""`Rewriter`: how a pass makes a new program of an old one, instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..primitive import Primitive
from .program import Instruction, Literal, Program, Value


class Rewriter:
    """A new body, and what stands for each old value in it."""

    def __init__(self, program: Program) -> None:
        self.program, self.body, self.instead = program, list[Instruction](), dict[Value, Any]()
        self.constants = dict(program.constants)

    def now(self, arg: Value | Literal) -> Any:
        while isinstance(arg, Value) and arg in self.instead:
            arg = self.instead[arg]
        return arg

    def step(self, old: Instruction) -> Instruction:
        """The instruction with its arguments as they are now."""
        args = tuple(self.now(a) for a in old.args)
        return Instruction(old.op, args, old.static, old.outputs, old.line, old.path, old.backward)

    def done(self) -> Program:
        p = self.program
        outputs = [self.now(v) for v in p.outputs]
        return Program(p.inputs, self.constants, self.body, outputs, p.updates)


def instead(old: Instruction, op: Primitive, args: Iterable[Value | Literal], y: Value, **static: Any) -> Instruction:
    """An instruction in the place of another one."""
    return Instruction(op, tuple(args), static, (y,), old.line, old.path, old.backward)
