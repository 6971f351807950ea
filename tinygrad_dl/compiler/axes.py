"""A program as a graph of nodes over axes, the form that fusion reads.

Each dimension of a value is an axis; elementwise operations make axes one, products keep them apart. A node
is described by the axes that it varies along, in the order in which they lie in memory: a broadcast costs
nothing, views vanish, and a sum over an axis that a value does not vary along is a multiplication.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Array
from .matrix_product import Product, contiguous
from .moves import Move
from .program import Instruction

Axis = int
Axes = tuple[Axis, ...]


class Node:
    """An array and how it comes about.

    kind: `input`, `map` (elementwise), `reduce`, `gemm`, `move` (copies), `view` (the same memory in another shape) or
    `opaque`.
    layout: the axes that it varies along, in memory order. over: the axes that a reduction takes away.
    product: what a matrix product computes. A third argument of one is another, to whose memory it is added.
    moves: what is copied. instruction: what NumPy runs for an opaque node."""

    __slots__ = ("args", "dtype", "instruction", "kind", "layout", "moves", "name", "number", "over", "product")

    def __init__(self, kind: str, name: str, args: Sequence[Any], dtype: np.dtype[Any]) -> None:
        self.kind, self.name, self.args, self.dtype = kind, name, tuple(args), dtype
        self.layout: Axes = ()
        self.over: frozenset[Axis] = frozenset()
        self.moves: tuple[Move, ...] = ()
        self.product: Product = contiguous((1, 1, 1))
        self.instruction: Instruction | None = None
        self.number = -1

    def __repr__(self) -> str:
        return f"n{self.number} {self.kind} {self.name} {self.dtype} {self.layout}"

    @property
    def shows(self) -> Node | None:
        """The node whose memory this one's is, if it has none of its own."""
        if self.kind == "view" or (self.kind == "gemm" and len(self.args) == 3):
            found: Node = self.args[-1]
            return found
        return None

    @property
    def nodes(self) -> list[Node]:
        """The arguments that are arrays."""
        return [a for a in self.args if isinstance(a, Node)]


def root(node: Node) -> Node:
    """The node whose memory a node's is."""
    while (shown := node.shows) is not None:
        node = shown
    return node


@dataclass(slots=True)
class Graph:
    """nodes: in an order in which they can be computed. outputs: one per output of the program."""

    nodes: list[Node]
    inputs: list[Node]
    constants: dict[Node, Array]
    outputs: list[Node]
    sizes: dict[Axis, int]

    def size(self, axes: Sequence[Axis] | frozenset[Axis]) -> int:
        return math.prod(self.sizes[a] for a in axes)


@dataclass(slots=True)
class Union:
    """Axes as disjoint sets, with the ones that must not become one."""

    parent: list[Axis] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    apart: list[set[Axis]] = field(default_factory=list)

    def new(self, size: int) -> Axis:
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.apart.append(set())
        return len(self.parent) - 1

    def find(self, a: Axis) -> Axis:
        while self.parent[a] != a:
            self.parent[a] = a = self.parent[self.parent[a]]
        return a

    def join(self, a: Axis, b: Axis) -> bool:
        """Make two axes one, if nothing has both."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return True
        if b in self.apart[a]:
            return False
        self.parent[b] = a
        self.apart[a] |= self.apart[b]
        for c in self.apart[b]:
            self.apart[c].discard(b)
            self.apart[c].add(a)
        return True

    def separate(self, axes: Sequence[Axis]) -> None:
        for a in axes:
            self.apart[a].update(b for b in axes if b != a)


def _ordered(axes: set[Axis], orders: Iterable[Axes]) -> list[Axis] | None:
    """The axes, such that every order holds; None where two contradict."""
    left, found = set(axes), list[Axis]()
    before = {(a, b) for order in orders for i, a in enumerate(order) for b in order[i + 1 :]}
    while left:
        free = [a for a in left if not any((b, a) in before for b in left)]
        if not free:
            return None
        found.append(min(free))
        left.remove(found[-1])
    return found


def collapsed(signatures: Iterable[frozenset[Axis]], orders: Iterable[Axes]) -> list[Axes] | None:
    """Axes in memory order, neighbours that are never apart as one; None where orders contradict.

    signatures: sets of axes that occur together."""
    found_together = list(signatures)
    order = _ordered({a for s in found_together for a in s}, orders)
    if order is None:
        return None
    found: list[Axes] = []
    for a in order:
        if found and all((a in s) == (found[-1][-1] in s) for s in found_together):
            found[-1] = (*found[-1], a)
        else:
            found.append((a,))
    return found
