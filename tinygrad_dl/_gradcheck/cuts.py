"""Where a gradient is cut off: an argument reaches an operation without its graph, or meets a rule that is None."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..graph import Array, Node
from .audit import at
from .operation import Operation, Randomness
from .suspect import HOLDS

Values = Callable[[Array], Sequence[Array]]  # of an argument
DIRECTIONS = 3  # in which the repaired gradient must be right


class Cut(NamedTuple):
    """Argument `position` of an operation, whose value is that of a checked argument."""

    node: Node
    position: int

    def __str__(self) -> str:
        rules: Any = self.node.primitive
        no_rule = len(rules.vjps) > self.position and rules.vjps[self.position] is None
        how = "whose rule is None" if no_rule else "detached, or frozen"
        return f"argument {self.position} of {at(self.node)}, {how}"


def cuts(nodes: Sequence[Node], array: Array) -> Iterator[Cut]:
    """Where operations use this very array without a gradient."""
    for node in nodes:
        if node.primitive is None or node.several:
            continue
        for k, (arg, parent) in enumerate(zip(node.args, node.parents, strict=True)):
            if parent is None and isinstance(arg, np.ndarray) and _same_memory(arg, array):
                yield Cut(node, k)


def _same_memory(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.ctypes.data == b.ctypes.data


@dataclass(frozen=True)
class Mending:
    """A gradient with what differences give for cuts. values: the function's outputs as a function of the argument;
    weights: theirs; incoming: by backward, for each operation; got: the gradient that arrived."""

    cuts: Sequence[Cut]
    operations: dict[Node, Operation]
    incoming: dict[Node, Array]
    array: Array
    got: Array | None
    values: Values
    weights: Sequence[Array]

    def holds(self) -> bool:
        """So mended, is it right?"""
        try:
            return all(self._agrees(Randomness(seed).step(self.array, 0)) for seed in range(DIRECTIONS))
        except Exception:
            return False  # the function, or an operation, cannot be run nearby

    def _agrees(self, step: Array) -> bool:
        whole = self._change(self.values, step, self.weights)
        parts = 0.0 if self.got is None else float(np.vdot(step, self.got))
        for cut in self.cuts:
            operation, k = self.operations[cut.node], cut.position
            values = lambda a, o=operation, k=k: o.values([*o.args[:k], a, *o.args[k + 1 :]])
            parts += self._change(values, step, [self.incoming[cut.node]])
        return abs(parts - whole) <= 10 * HOLDS * (abs(parts) + abs(whole))

    def _change(self, values: Values, step: Array, weights: Sequence[Array]) -> float:
        """Of weighted outputs, by a central difference."""
        pairs = zip(values(self.array + step), values(self.array - step), weights, strict=True)
        return float(sum(np.vdot(w, up - down) for up, down, w in pairs)) / 2
