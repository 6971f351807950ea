"""`fuse`: the elementwise operations and reductions of a graph as few kernels, each one loop nest.

A kernel runs over rows and columns, several axes collapsed into each where they always go together. One of the
two is its inner loop: reductions along that one may be used inside the kernel (softmax along columns, batch norm
along rows), all other reductions only leave it. Where there are further axes outside of both, it runs once for each of
their elements. What lies in memory is decided here as well: a cheap value that another kernel reads is computed again
there.
"""

from __future__ import annotations

from dataclasses import dataclass

from .axes import Axes, Graph, Node
from .loop_nest import Fit, Group, fit
from .lowering import FUNCTIONS

FUSED = ("map", "reduce")
SEARCHED = 200  # groups, among which a path between two is looked for: the time for a program stays linear
LARGE = 1000  # operations in a kernel at most: the time that LLVM takes for one grows with its square
SIDE_BY_SIDE = 16  # numbers from which on their functions are worth a kernel
RECOMPUTED = 12  # operations that are cheaper than writing a value and reading it
_COSTS = {"divide": 3, "sqrt": 3, "bits": 8, "floor": 1, "rint": 1, "reciprocal": 3} | dict.fromkeys(FUNCTIONS, 30)


def cost(node: Node) -> int:
    """How many simple operations a node's own operation is worth."""
    return _COSTS.get(node.name, 1)


@dataclass(slots=True, eq=False)
class Kernel:
    """inputs: nodes that it reads from memory. nodes: what it computes, in order. outputs: what it stores.
    columns_inside: the inner loop runs along the columns, else along the rows. batch: axes outside of both."""

    batch: Axes
    rows: Axes
    columns: Axes
    columns_inside: bool
    inputs: list[Node]
    nodes: list[Node]
    outputs: list[Node]

    @property
    def inner(self) -> Axes:
        return self.columns if self.columns_inside else self.rows

    @property
    def outer(self) -> Axes:
        return self.rows if self.columns_inside else self.columns


@dataclass(slots=True)
class Fused:
    """kernels: in an order that need not be the one to run in. memory: the computed nodes that are stored."""

    kernels: list[Kernel]
    memory: set[Node]


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.home: dict[Node, int] = {}
        self.groups: list[Group | None] = []  # None: a node that stands alone
        self.merged: list[int] = []  # by group: itself, or one that it has become part of
        self.sources: list[set[int]] = []  # by group: which ones it reads, as they were called then
        self.read: list[bool] = []  # by group: does another one read it?
        self.costs: list[int] = []  # by group
        self.spans: list[tuple[int, int]] = []  # by group: the numbers of its first and its last node
        self.left = list(range(len(graph.nodes)))  # by node: towards where a run of groups that overlap begins
        self.apart = _functions_of_rows(graph)

    def group(self) -> None:
        for node in self.graph.nodes:
            number = self._alone(node)
            if node.kind not in FUSED:
                continue
            sources = {self.home[x] for x in node.nodes if x.kind in FUSED}
            for source in sorted(sources, reverse=True):
                number = self._merge(source, number)

    def _alone(self, node: Node) -> int:
        number = len(self.groups)
        self.home[node] = number
        group = Group() if node.kind in FUSED else None
        if group is not None:
            group.add(node)
        self.groups.append(group)
        self.merged.append(number)
        sources = {self.home[x] for x in node.nodes}
        self.sources.append(sources)
        self.read.append(False)
        for source in sources:
            self.read[source] = True
        self.costs.append(cost(node))
        self.spans.append((node.number, node.number))
        return number

    def _now(self, number: int) -> int:
        while self.merged[number] != number:
            self.merged[number] = number = self.merged[self.merged[number]]
        return number

    def _merge(self, a: int, b: int) -> int:
        """Make two groups one, if one loop nest can compute both and no third one stands between; the number of b."""
        first, second = self.groups[a], self.groups[b]
        if a == b or first is None or second is None or self.costs[a] + self.costs[b] > LARGE:
            return b
        axes, more = first.axes(), second.axes()
        if not (axes <= more or more <= axes) or (bool(axes) != bool(more) and not _continues(first, second)):
            return b
        union = first.union(second)
        nest = fit(union, self.graph)
        if nest is None or self._one_by_one(union, nest) or self._stands_between(a, b):
            return b
        for node in second.nodes:
            self.home[node] = a
        self.groups[a], self.groups[b] = union, None
        self.merged[b] = a
        self.sources[a] |= self.sources[b]
        self.read[a] |= self.read[b]
        self.costs[a] += self.costs[b]
        (start, end), (also, until) = self.spans[a], self.spans[b]
        self.spans[a] = start, end = min(start, also), max(end, until)
        while (begin := self._start(end)) > start:
            self.left[begin] = end = begin - 1
        return a

    def _one_by_one(self, group: Group, nest: Fit) -> bool:
        """Would it compute functions of one number for each row, which are quicker side by side in a kernel of their
        own? A logistic loss over 300,000 rows takes 0.7 of the time then."""
        _, rows, _, columns_inside = nest
        if not (rows and columns_inside) or self.apart.isdisjoint(group.nodes):
            return False
        return any(node in self.apart and set(node.layout) == set(rows) for node in group.nodes)

    def _start(self, number: int) -> int:
        """The first node of the run of overlapping groups that a node is in."""
        while self.left[number] != number:
            self.left[number] = number = self.left[self.left[number]]
        return number

    def _stands_between(self, a: int, b: int) -> bool:
        """Does a third group read one of two groups, directly or not, while one of them reads it? Yes if in doubt.

        What ends before the run of overlapping groups that the two are in cannot read them; and if nobody reads one of
        them, what the other one reads does not either."""
        start = self._start(min(self.spans[a][0], self.spans[b][0]))
        above = [self.sources[x] for x, other in ((a, b), (b, a)) if self.read[other]]
        todo = {self._now(x) for sources in above for x in sources} - {a, b}
        seen = set(todo)
        while todo:
            number = todo.pop()
            if self.spans[number][1] < start:
                continue
            for x in self.sources[number]:
                found = self._now(x)
                if found in (a, b) or len(seen) > SEARCHED:
                    return True
                if found not in seen:
                    seen.add(found)
                    todo.add(found)
        return False

    def join_siblings(self) -> None:
        """Groups that read the same node become one where they can, and so do all groups of scalars."""
        readers: dict[Node | None, list[Node]] = {}
        for node in self.graph.nodes:
            if node.kind in FUSED:
                for x in {id(x): x for x in node.nodes if x.layout}.values():
                    readers.setdefault(x, []).append(node)
                if not node.layout and node.kind == "map":
                    readers.setdefault(None, []).append(node)
        scalars = readers.pop(None, [])  # at last: they lie far apart
        for found in (*readers.values(), scalars):
            for node in found[1:]:
                self._merge(self.home[found[0]], self.home[node])

    def place(self) -> set[Node]:
        """What lies in memory: what leaves its kernel, unless it is cheap to compute again."""
        memory = {x for node in self.graph.nodes if node.kind not in FUSED for x in node.nodes}
        memory = {x for x in (*memory, *self.graph.outputs) if x.kind in FUSED}
        costs: dict[Node, int] = {}
        for node in self.graph.nodes:
            if node.kind in FUSED and node not in memory:
                costs[node] = cost(node) + sum(costs.get(x, 0) for x in node.nodes)
        for number, group in enumerate(self.groups):
            for node in list(group.nodes) if group else ():
                for x in node.nodes:
                    if self.home[x] != number and x.kind in FUSED and x not in memory:
                        self._provide(x, number, memory, costs)
        return memory

    def _provide(self, x: Node, number: int, memory: set[Node], costs: dict[Node, int]) -> None:
        """Let a group have a node of another one: compute it again, or put it in memory."""
        home, group = self.groups[self.home[x]], self.groups[number]
        assert home is not None
        assert group is not None
        cone = self._cone(x, memory, home) if costs[x] <= RECOMPUTED else []
        union = group.union(Group())
        for node in cone:
            union.add(node)
        union.nodes = group.nodes
        if not cone or fit(union, self.graph) is None:
            memory.add(x)
            return
        self.groups[number] = union
        for node in cone:
            memory.update(y for y in node.nodes if y.kind in FUSED and y not in cone and self.home[y] != number)

    def _cone(self, x: Node, memory: set[Node], home: Group) -> list[Node]:
        """x and what it is made of, down to memory and to what does not vary along all axes of the kernel."""
        full = home.axes()
        if x.kind != "map" or not full or frozenset(x.layout) != full:
            return []
        found, todo = [x], [x]
        while todo:
            for y in todo.pop().nodes:
                if y.kind == "map" and y not in memory and y not in found and frozenset(y.layout) == full:
                    found.append(y)
                    todo.append(y)
        return found

    def kernels(self, memory: set[Node]) -> list[Kernel]:
        found = []
        for number, group in enumerate(self.groups):
            outputs = [n for n in group.nodes if n in memory and self.home[n] == number] if group else []
            if group and outputs:
                nest = fit(group, self.graph)
                assert nest is not None
                inputs, nodes = self._demanded(outputs, memory, number)
                found.append(Kernel(*nest, inputs, nodes, outputs))
        return found

    def _demanded(self, outputs: list[Node], memory: set[Node], number: int) -> tuple[list[Node], list[Node]]:
        inputs, nodes, todo, seen = [], [], list(outputs), set(outputs)
        while todo:
            node = todo.pop()
            if node.kind not in FUSED or (node in memory and self.home[node] != number):
                inputs.append(node)
                continue
            nodes.append(node)
            todo += [x for x in node.nodes if x not in seen]
            seen.update(node.nodes)
        return sorted(inputs, key=lambda n: n.number), sorted(nodes, key=lambda n: n.number)


def _functions_of_rows(graph: Graph) -> set[Node]:
    """Functions of several numbers that nothing needs which varies along more axes."""
    wider: set[Node] = set()
    for node in reversed(graph.nodes):
        if node.kind == "map":
            wider.update(x for x in node.nodes if node in wider or len(x.layout) < len(node.layout))
    functions = (node for node in graph.nodes if node.kind == "map" and node.name in FUNCTIONS)
    return {node for node in functions if node not in wider and graph.size(node.layout) >= SIDE_BY_SIDE}


def _continues(first: Group, second: Group) -> bool:
    """Of two groups, one of scalars: does that read from the other, as what follows a sum of all elements does?"""
    loops, scalars = (first, second) if first.axes() else (second, first)
    return not scalars.reads.isdisjoint(loops.nodes)


def fuse(graph: Graph) -> Fused:
    """The kernels of a graph, and which of its nodes they leave in memory."""
    fuser = _Fuser(graph)
    fuser.group()
    fuser.join_siblings()
    memory = fuser.place()
    return Fused(fuser.kernels(memory), memory)
