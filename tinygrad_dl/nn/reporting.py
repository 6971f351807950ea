"""`summary`: what a model consists of, layer by layer, as a table."""

from __future__ import annotations

import copy
from typing import Any

from .._source import describe
from .._tensor import Tensor
from ..random import generator
from ..scope import within
from .module import Module
from .observing import observed


class Summary:
    """Rows of (name, kind, output shape, own parameters); prints as a table."""

    def __init__(self, rows: list[tuple[str, str, str, int]], total: int, trainable: int) -> None:
        self.rows, self.total, self.trainable = rows, total, trainable

    def __repr__(self) -> str:
        head = ("layer", "kind", "output", "parameters")
        body = [(name, kind, shape, f"{count:,}" if count else "") for name, kind, shape, count in self.rows]
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(4)]

        def line(row: Any) -> str:
            cells = [f"{c:<{w}}" for c, w in zip(row[:3], widths[:3], strict=True)]
            return "  ".join([*cells, f"{row[3]:>{widths[3]}}"]).rstrip()

        rule = "─" * (sum(widths) + 6)
        foot = f"{self.total:,} parameters, {self.trainable:,} trainable"
        return "\n".join([line(head), rule, *[line(row) for row in body], rule, foot])


def summary(model: Module, *inputs: Any) -> Summary:
    """Run the model once and list its layers: name, kind, output shape and number of own parameters.

    Leaves the model's state, its mode and the random generator as they were. `.total` counts all parameters,
    each once; `.trainable` those that are not frozen."""
    if not isinstance(model, Module):
        raise TypeError(f"summary: expected a Module, such as Linear(3, 2), got {describe(model)}")
    shapes: dict[str, str] = {}
    twin = copy.deepcopy(model)
    names = {id(module): name for name, module in twin.named_modules()}

    def see(module: Module, _: Any, output: Any) -> None:
        shapes[names[id(module)]] = _shape(output)

    with observed(twin.modules(), see), within(recording=False, generator=copy.deepcopy(generator())):
        twin(*inputs)
    counted: set[int] = set()
    rows = []
    for name, module in model.named_modules():
        own = [p for p in module.parameters() if id(p) not in counted and not _below(p, module)]
        counted.update(id(p) for p in own)
        shape = shapes.get(name, "not called")
        rows.append((name or "(model)", type(module).__name__, shape, sum(p.size for p in own)))
    parameters = list(model.parameters())
    trainable = sum(p.size for p in parameters if p.requires_grad)
    return Summary(rows, sum(p.size for p in parameters), trainable)


def _below(parameter: Tensor, module: Module) -> bool:
    """Does the parameter belong to a module below this one?"""
    return any(parameter is p for child in module.children() for p in child.parameters())


def _shape(result: Any) -> str:
    if isinstance(result, tuple | list):
        return ", ".join(_shape(r) for r in result)
    return str(getattr(result, "shape", type(result).__name__))
