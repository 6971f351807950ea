"""What a picture of a compiled program shows: a box per instruction, a cluster per fused kernel."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from .._source import describe_line
from ..compiler.program import Instruction, Literal, Program, Value
from ..scope import Path
from .trace import Box, Graph


class _Kernel:
    """Something that a cluster's boxes can have in common."""


def trace_program(program: Program, kernels: Sequence[Sequence[Instruction]]) -> Graph:
    """The graph of a program; kernels: the instructions of each that has more than one."""
    graph = Graph()
    alive = [_Kernel() for _ in kernels]
    places: dict[Instruction, tuple[Path, ...]] = {}
    for i, (kernel, mark) in enumerate(zip(kernels, alive, strict=True)):
        path = Path(None, f"kernel {i}", f"{len(kernel)} operations", weakref.ref(mark))
        places |= dict.fromkeys(kernel, (path,))
    boxes: dict[Value, Box] = {}
    for i, v in enumerate(program.inputs):
        boxes[v] = Box("input", v.name or f"input {i}", (), v.shape, v.dtype.name)
    for v, array in program.constants.items():
        boxes[v] = Box("constant", v.name or "constant", (), v.shape, v.dtype.name, value=array)
    used = {v for step in program.body for v in step.inputs} | set(program.outputs)
    for step in program.body:
        y = step.outputs[0]
        box = Box("operation", step.op.name, places.get(step, ()), y.shape, y.dtype.name, detail=_detail(step))
        box.line = describe_line(step.line) if step.line is not None else ""
        for arg in step.inputs:
            graph.arrows.append((boxes[arg], box, None))
        boxes |= dict.fromkeys(step.outputs, box)
    for v in program.outputs:
        boxes[v].result = True
    graph.boxes = list(dict.fromkeys(box for v, box in boxes.items() if v in used or box.kind == "operation"))
    for i, box in enumerate(graph.boxes):
        box.order = i
    graph.kept = alive
    return graph


def _detail(step: Instruction) -> str:
    """The numbers among the arguments, and the options."""
    shown = ["·" if isinstance(a, Value) else _number(a) for a in step.args]
    numbers = f"({', '.join(shown)})" if any(text != "·" for text in shown) else ""
    options = [f"{k}={_option(v)}" for k, v in step.static.items() if v is not None and v is not False]
    return "  ".join([numbers, *options]).strip()


def _number(x: Literal) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)


def _option(x: Any) -> str:
    return str(getattr(x, "name", x))
