"""What a picture of a compiled program shows: a box per instruction, a cluster per fused kernel."""

from __future__ import annotations

import weakref
from typing import Any

from .._source import describe_line
from ..compiler.kernels import Kernels
from ..compiler.program import Instruction, Literal, Program, Value
from ..scope import Path
from .trace import Box, Graph

WHOLE = 80  # boxes; a larger program is shown by its kernels


class _Kernel:
    """What a kernel's boxes have in common, in the place of a module."""


def trace_program(program: Program) -> Graph:
    """The graph of a program: kernels of more than one operation in the place of modules, and what an output
    replaces as parameters."""
    graph = Graph()
    places: dict[Instruction, tuple[Path, ...]] = {}
    for i, members in enumerate(Kernels(program).members()):
        if len(members) > 1:
            origins = ", ".join(filter(None, dict.fromkeys(map(_origin, members)))) or f"{len(members)} operations"
            path = Path(None, f"kernel {i}", origins, weakref.ref(_Kernel()))
            places |= dict.fromkeys(members, (path,))
    boxes: dict[Value, Box] = {}
    replaced = set(program.updates.values())
    for i, v in enumerate(program.inputs):
        kind = "parameter" if i in replaced else "input"
        boxes[v] = Box(kind, v.name or f"input {i}", (), v.shape, v.dtype.name)
    for v, array in program.constants.items():
        boxes[v] = Box("constant", v.name or "constant", (), v.shape, v.dtype.name, value=array)
    for step in program.body:
        y = step.outputs[0]
        box = Box("operation", step.op.name, places.get(step, ()), y.shape, y.dtype.name, detail=_detail(step))
        box.title = f"{y.name} = {box.title}" if y.name else box.title
        box.line = step.place
        for arg in step.inputs:
            graph.arrows.append((boxes[arg], box, None))
        boxes |= dict.fromkeys(step.outputs, box)
    for v in program.outputs:
        boxes[v].result = True
    used = {v for step in program.body for v in (*step.inputs, *step.outputs)} | set(program.outputs)
    graph.boxes = list(dict.fromkeys(box for v, box in boxes.items() if v in used))
    for i, box in enumerate(graph.boxes):
        box.order = i
    return graph


def _origin(step: Instruction) -> str:
    """The kind of the layer that an instruction came from; outside of layers the user's line."""
    if step.path is not None:
        return step.path.kind
    return "" if step.line is None else describe_line(step.line).partition(": ")[2]


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
