"""Fused operations: `fused` adds a fast forward and backward to a function written in primitives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ._source import describe
from .autodiff import propagate
from .graph import Node
from .primitive import Primitive, _as_tensors


class Fused(Primitive):
    """A function written in primitives (its meaning), with a fast forward and backward on arrays."""

    def __init__(self, meaning: Callable[..., Any], forward: Any, backward: Any, name: str) -> None:
        arity = sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(meaning).parameters.values())
        super().__init__(meaning, [lambda g, y, *args: None] * arity, name, elementwise=False)
        self.meaning, self.forward, self.backward, self.joint = meaning, forward, backward, True

    def __repr__(self) -> str:
        return f"<fused {self.name}>"

    def pull(self, node: Node, g: Any, targets: Sequence[Node | None], second: bool) -> Sequence[Any]:
        if not second:
            needs = tuple([p is not None for p in targets])
            gradients: Sequence[Any] = self.backward(g, node.saved, needs, *node.args, **node.static)
            if not isinstance(gradients, list | tuple) or len(gradients) != len(needs):
                raise TypeError(_wrong_count(gradients, len(needs)))
            return gradients
        outputs = self.meaning(*_as_tensors(node), **node.static)
        pairs = zip(outputs, g, strict=True) if isinstance(outputs, tuple) else [(outputs, g)]
        seeds = [(y.node, gy) for y, gy in pairs if gy is not None and y.node is not None]
        found = propagate(seeds, second=True, retain=True, wanted={p for p in targets if p is not None}, stop=True)
        return [p and found.pop(p, None) for p in targets]


def fused(
    *, forward: Callable[..., tuple[Any, Any]], backward: Callable[..., Sequence[Any]], name: str | None = None
) -> Callable[[Callable[..., Any]], Fused]:
    """Decorate a function written in primitives with a fast pair for first-order gradients.

    forward: `f(*arrays, **static) -> (y, saved)` on ndarrays; y may be a tuple of arrays.
    backward: `b(g, saved, needs, *arrays, **static)` returns one gradient, or None, per array; `needs` says
        which are wanted. For a tuple y, g is a tuple, with None for outputs without a gradient.
    Higher derivatives come from the decorated function. Its parameters are arrays by position and
    metadata by keyword only. `gradcheck` checks that pair and meaning agree.
    """
    return lambda meaning: Fused(meaning, forward, backward, name or meaning.__name__)


def _wrong_count(gradients: Any, expected: int) -> str:
    got = f"{len(gradients)} gradients" if isinstance(gradients, list | tuple) else describe(gradients)
    return (
        f"the fused backward returned {got}; expected a list or tuple of {expected}, one for each array argument, None "
        "for one without gradient"
    )
