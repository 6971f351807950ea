"""`Group`, `fit`: operations that shall be one kernel, and how one loop nest computes them, if it can."""

from __future__ import annotations

from dataclasses import dataclass, field

from .axes import Axes, Axis, Graph, Node, collapsed

WIDEST = 128  # columns of a kernel that adds up its rows in registers
STREAMED = 512  # columns from which on a kernel without reductions runs along its rows: contiguous, not in tiles
SHARED = 2**15  # elements from which on their sum is cut into parts, and what needs it is another kernel


@dataclass(slots=True)
class Group:
    """Nodes that shall be one kernel; what its shape depends on, as sets."""

    nodes: list[Node] = field(default_factory=list)
    signatures: set[frozenset[Axis]] = field(default_factory=set)  # of axes that stand together
    orders: set[Axes] = field(default_factory=set)
    maps: set[frozenset[Axis]] = field(default_factory=set)
    reduces: list[Node] = field(default_factory=list)
    reads: set[Node] = field(default_factory=set)
    counts: bool = False  # does something depend on where in its array an element is?

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        for n in (node, *node.nodes):
            self.signatures.add(frozenset(n.layout))
            if len(n.layout) > 1:
                self.orders.add(n.layout)
        self.reads.update(node.nodes)
        self.counts |= node.name == "bits"
        if node.kind == "reduce":
            self.signatures.add(node.over)
            self.reduces.append(node)
        else:
            self.maps.add(frozenset(node.layout))

    def union(self, other: Group) -> Group:
        return Group(
            self.nodes + other.nodes,
            self.signatures | other.signatures,
            self.orders | other.orders,
            self.maps | other.maps,
            self.reduces + other.reduces,
            self.reads | other.reads,
            self.counts or other.counts,
        )

    def axes(self) -> frozenset[Axis]:
        return frozenset[Axis]().union(*self.signatures)


Fit = tuple[Axes, Axes, Axes, bool]  # batch, rows, columns, are the columns inside?


def fit(group: Group, graph: Graph) -> Fit | None:
    """How one loop nest computes the group, or None."""
    axes = collapsed(group.signatures, group.orders)
    if axes is None or len(axes) > 3:
        return None
    batch, rows, columns = ((), (), (), *axes)[-3:]
    if not columns:
        return (), (), (), False
    if batch and not _is_batch(group, frozenset(batch)):
        return None
    streams = graph.size(columns) > STREAMED
    inside = sum(n.over == frozenset(columns) for n in group.reduces)
    along = sum(n.over == frozenset(rows) for n in group.reduces)
    tall = graph.size(columns) <= WIDEST and graph.size((*rows, *columns)) >= SHARED  # each thread sums up some rows
    choices = (True, False) if rows and (tall or (inside, streams) > (along, False)) else (False, True)
    for columns_inside in choices:
        if _legal(group, frozenset(rows), frozenset(columns), columns_inside, graph):
            return batch, rows, columns, columns_inside
    return None


def _is_batch(group: Group, batch: frozenset[Axis]) -> bool:
    """Is the same done for each element of these axes, and all of it for one at a time?"""
    over = frozenset[Axis]().union(*(node.over for node in group.reduces))
    made = [*group.maps, *(frozenset(node.layout) for node in group.reduces)]
    return not group.counts and batch.isdisjoint(over) and all(batch <= axes for axes in made)


def _legal(group: Group, rows: frozenset[Axis], columns: frozenset[Axis], inside: bool, graph: Graph) -> bool:
    inner, outer = (columns, rows) if inside else (rows, columns)
    full = inner | outer
    for node in group.reduces:
        operand = full & frozenset(node.nodes[0].layout)
        if node.over == inner and operand == full and (outer or graph.size(full) < SHARED):
            continue
        if node in group.reads or not outer or not outer <= node.over:
            return False
        narrow = inside and graph.size(columns) <= WIDEST
        if node.over != full and operand == full and inner and not narrow:
            return False
    return all(outer <= axes for axes in group.maps)
