"""How the gradient of a loss flows to one tensor: every node between them, with its gradient and its operation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from .._tensor import Tensor
from ..autodiff import _fit, leading_to, propagate
from ..graph import Array, Node, Output, behind
from ..scope import watched_by
from .history import Operation, Quantity, Recorded


class Use(NamedTuple):
    """One operation's use of a value: the node of its result, and which operand the value is."""

    node: Node
    position: int


Link = tuple[Use, Any] | None  # a use, and the link before it: ways that part share what they have in common


def way(link: Link) -> list[Use]:
    """The uses of a chain of links, the first at the tensor."""
    found = []
    while link is not None:
        use, link = link
        found.append(use)
    return found[::-1]


def below(node: Node) -> Sequence[Node | None]:
    """The nodes of an operation's operands."""
    return node.operation.parents


def ancestors(node: Node | None) -> set[Node]:
    """A node and all values that it was computed from."""
    return set() if node is None else {n for n in behind([node]) if not n.several}


@contextmanager
def untouched_gradients(nodes: Iterable[Node]) -> Iterator[None]:
    """Leave the gradients that nodes keep as they are."""
    kept = [(node, node.grad) for node in nodes if node.retain]
    try:
        yield
    finally:
        for node, grad in kept:
            node.grad = grad


def gradients_of(loss: Tensor, nodes: set[Node]) -> dict[Node, Array]:
    """The gradients of a loss by the values among nodes that it depends on; nothing of the graph changes."""
    seeds: list[Any] = [(loss.node, loss._seed_gradient(None, False))]
    with untouched_gradients(nodes), watched_by(None), np.errstate(all="ignore"):
        return propagate(seeds, retain=True, wanted=nodes)


class Flow:
    """The gradients on the way from a loss to a target, which it depends on.

    Nothing of the graph changes, and it can be run again. Raises RuntimeError where backward has freed it."""

    def __init__(self, loss: Tensor, target: Node) -> None:
        self.loss, self.target, self.graph = loss, target, Recorded()
        root: Any = loss.node
        self.nodes = {n for n in leading_to({target}, [root]) if not n.several}
        self.uses: dict[Node, list[Use]] = {n: [] for n in self.nodes}
        for node in sorted(self.nodes, key=lambda n: n.order):
            for position, parent in enumerate(below(node)):
                if parent in self.uses and node is not target:
                    self.uses[parent].append(Use(node, position))
        self._gradients = gradients_of(loss, set(self.nodes))

    def gradient(self, node: Node) -> Array:
        """The gradient of a node's value; zeros where none came."""
        g: Array | None = self._gradients.get(node)
        return np.zeros(node.shape, node.dtype) if g is None else g

    def operation(self, node: Node) -> Operation:
        """What a node recorded, with its value."""
        return self.graph.operation(node, self.graph.value(node))

    def operand(self, use: Use) -> Quantity:
        """The value that is used."""
        return self.operation(use.node).operands[use.position]

    def share(self, use: Use, g: Any = None) -> Array:
        """The part of a value's gradient that comes by one use, for the gradient of the result, or for g."""
        g = self.gradient(use.node) if g is None else g
        node: Any = use.node
        if isinstance(node, Output):
            g = tuple(g if i == node.index else None for i in range(node.siblings))
            node = node.operation
        targets = [p if i == use.position else None for i, p in enumerate(node.parents)]
        with watched_by(None), np.errstate(all="ignore"):
            found = node.primitive.pull(node, g, targets, False)[use.position]
        value: Any = targets[use.position]
        fitted: Array = np.zeros(value.shape, value.dtype) if found is None else _fit(found, node, value, False)
        return fitted

    def paths(self, most: int) -> list[list[Use]] | None:
        """The ways from the target to the loss, or None if there are more than `most`."""
        counts: dict[Node, int] = {}
        for node in sorted(self.nodes, key=lambda n: -n.order):
            counts[node] = 1 if node is self.loss.node else sum(counts[use.node] for use in self.uses[node])
        return None if counts[self.target] > most else list(self._ways())

    def _ways(self) -> Iterator[list[Use]]:
        stack: list[tuple[Node, Link]] = [(self.target, None)]
        while stack:
            node, link = stack.pop()
            if node is self.loss.node:
                yield way(link)
            stack.extend((use.node, (use, link)) for use in reversed(self.uses[node]))
