"""The arguments that a transform differentiates by: checked, and made the inputs of a graph of its own; what the
function that is differentiated makes of them, and whether that depends on anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import ops
from ._source import describe
from ._tensor import Tensor
from .graph import Leaf, Node, wrap
from .scope import current


def leaves(tree: Any) -> list[Any]:
    """The arrays of nested tuples, lists and dicts, in order."""
    if isinstance(tree, dict):
        return [x for value in tree.values() for x in leaves(value)]
    if isinstance(tree, tuple | list):
        return [x for value in tree for x in leaves(value)]
    return [tree]


def rebuilt(tree: Any, others: Iterator[Any]) -> Any:
    """The same nesting with other leaves."""
    if isinstance(tree, dict):
        return {key: rebuilt(value, others) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [rebuilt(value, others) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(others)


def positions(who: str, argnums: int | Sequence[int], given: int) -> list[int]:
    """The arguments that argnums names, counted from 0."""
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in numbers:
        if not isinstance(i, int):
            raise TypeError(f"{who}: expected integers in argnums, got {i!r}")
        if not -given <= i < given:
            raise ValueError(f"{who}: argnums names argument {i}, but {given} were given")
    numbers = [i % given for i in numbers]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{who}: argnums names an argument twice: {argnums}")
    return numbers


def primal(who: str, x: Any) -> Tensor:
    """A tensor to differentiate by: a new node that leads to x if x is itself part of a graph."""
    if isinstance(x, Tensor) and x.node is not None and current().recording:
        alias = ops.positive(x)
    else:
        if not isinstance(x, Tensor | np.ndarray | np.generic | float | int):
            raise TypeError(f"{who}: can differentiate by Tensors, arrays and numbers only, got {describe(x)}")
        alias = Tensor(x)
        if alias.dtype.kind != "f":
            raise TypeError(f"{who}: can differentiate by floating arguments only, got {alias.dtype}")
        alias.requires_grad = True
    alias.name = getattr(x, "name", None)
    return alias


def primals_along(who: str, primals: Any, tangents: Sequence[Any]) -> list[Tensor]:
    """Tensors to differentiate by, each in the direction of its tangent."""
    if not isinstance(primals, tuple | list):
        raise TypeError(f"{who}: expected primals and tangents in tuples, got {describe(primals)}; write (x,), (v,)")
    inputs = [primal(who, x) for x in primals]
    if len(inputs) != len(tangents):
        raise ValueError(f"{who}: expected one tangent per primal ({len(inputs)}), got {len(tangents)}")
    for i, (x, t) in enumerate(zip(inputs, tangents, strict=True)):
        if np.shape(t) != x.shape:
            raise ValueError(f"{who}: tangent {i} has shape {np.shape(t)}, expected its primal's {x.shape}")
    return inputs


def output(who: str, y: Any) -> Tensor:
    """What the function returned; an array, which depends on no input, as a Tensor."""
    if isinstance(y, np.ndarray | np.generic | float):
        return Tensor(y)
    if not isinstance(y, Tensor):
        raise TypeError(f"{who}: expected a function that returns one Tensor, got {describe(y)}")
    return y


def depends_beyond(y: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Does y depend on anything that requires grad besides these inputs' own leaves?

    A leaf whose Tensor is gone, such as the input of a transform inside f, can be asked for nothing."""
    own = {x.node for x in inputs}
    seen: set[Node] = set()
    stack = [y.node]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in own:
            if node.parents:  # an alias: the caller's own graph goes on behind it
                return True
        elif isinstance(node, Leaf) and node.tensor() is not None:
            return True
        stack.extend(node.parents)
    return False


def filled(gradients: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients, zeros for an input that nothing depends on."""
    return [wrap(np.zeros_like(x.data)) if g is None else g for g, x in zip(gradients, inputs, strict=True)]
