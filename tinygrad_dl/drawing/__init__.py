"""Pictures of recorded graphs and compiled programs: `draw` gives a Drawing: DOT text, a file, inline in a notebook.

`trace` finds what a picture shows, `outline` folds modules, `label` writes the boxes, `rendering` runs `dot`.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, Literal

import numpy as np

from .._source import describe
from .._tensor import Tensor
from ..compiler import Compiled, Program
from ..nn.module import Module
from ..random import generator
from ..scope import within
from .outline import fold
from .program import WHOLE, trace_program
from .rendering import Drawing as Drawing
from .source import dot
from .trace import trace


def draw(
    x: Any, *inputs: Any, depth: int | None = None, values: bool | Literal["auto"] = "auto", grads: bool = True
) -> Drawing:
    """Draw the graph of a Tensor, of a Module called with sample inputs, or of a compiled program.

    x: a recorded Tensor, such as a loss, before or after its `backward`; several Tensors in a tuple, list or dict; a
        Module, which is run once on `inputs` in its current mode, without changing it or the random generator; or a
        Program or compiled function (its latest program), with a frame around the operations of each fused kernel.
    depth: modules nested deeper than this are drawn as one box each, so 0 draws a model as one box and 1 shows its
        layers. Default: everything, or as deep as 200 boxes allow; beyond that the earliest operations are left out,
        and one box says how many. The kernels of a program count as modules; a program of more than 80 boxes is drawn
        with a box for each kernel.
    values: "auto" shows values of up to 4 elements, True also mean and spread of larger ones, if the graph has kept
        them, False none.
    grads: show gradients that `backward` has kept: up to 4 elements in full, else their norm.

    Names are those given to `tg.tensor(name=)`, or a parameter's name in its model. A box's tooltip shows the user's
    line.
    Raises TypeError for anything else, ValueError for a Tensor that was not recorded and a negative depth.
    """
    if depth is not None and not (isinstance(depth, int | np.integer) and depth >= 0):
        raise ValueError(f"draw: expected depth to be a whole number >= 0, got {depth!r}")
    if values not in ("auto", True, False):
        raise ValueError(f'draw: values must be "auto", True or False, got {values!r}')
    given: list[Tensor] = []
    if isinstance(x, Compiled | Program) and not inputs:
        graph = trace_program(x if isinstance(x, Program) else x.latest)
        large = depth is None and len(graph.boxes) > WHOLE
        return Drawing(dot(fold(graph, 0 if large else depth), values, grads))
    if isinstance(x, Module):
        model, given = _sample(x, inputs)
        with within(recording=True, generator=copy.deepcopy(generator())):
            x = model(*given)
    elif inputs:
        raise TypeError(f"draw: inputs go with a Module, got {describe(x)} and {len(inputs)} inputs")
    roots = list(_tensors(x))
    return Drawing(dot(fold(trace(roots, given), depth), values, grads))


def _sample(model: Module, inputs: tuple[Any, ...]) -> tuple[Module, list[Any]]:
    """A copy of the model, with everything trainable, and inputs with the names of its parameters."""
    names = list(inspect.signature(model.forward).parameters)
    names += [f"input {i}" for i in range(len(names), len(inputs))]
    given = [_input(value, name) for value, name in zip(inputs, names, strict=False)]
    return copy.deepcopy(model).requires_grad_(True), given


def _input(value: Any, name: str) -> Any:
    """An array as a leaf, so that what is done to it is recorded; anything else as it is."""
    if not isinstance(value, Tensor | np.ndarray):
        return value
    floating = value.dtype.kind == "f"
    return Tensor(value, requires_grad=floating, name=getattr(value, "name", None) or name)


def _tensors(x: Any) -> Any:
    if isinstance(x, Tensor):
        if x.node is None:
            raise ValueError(
                f"draw: {describe(x)} was not recorded, so there is no graph; compute it outside of no_grad() from a "
                "tensor with requires_grad=True"
            )
        yield x
    elif isinstance(x, dict | list | tuple) and any(part is not None for part in _parts(x)):
        for part in _parts(x):
            yield from () if part is None else _tensors(part)
    else:
        raise TypeError(
            "draw: expected a Tensor, several in a list, or a Module and its inputs, or a compiled Program, got "
            f"{describe(x)}"
        )


def _parts(x: Any) -> Any:
    return x.values() if isinstance(x, dict) else x
