"""`plan`: the steps of a program in the order in which they run, and the memory of each value.

A new value of a state is written straight over the old one where every reader of the old one can come first.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from ..axes import Graph, Node, root
from ..fuse import Fused, Kernel
from ..program import Program

Step = Kernel | Node  # a kernel, a matrix product or an operation that NumPy runs


@dataclass(slots=True)
class Plan:
    """order: the steps. overwrites: computed nodes that lie in the memory of an input, and which.
    lives: the first and the last step of every other computed node that lies in memory."""

    order: list[Step]
    overwrites: dict[Node, Node]
    lives: dict[Node, tuple[int, int]]


def _made(node: Node) -> Node:
    """The node that a view shows, as it is when every product has been added."""
    while node.kind == "view":
        node = node.nodes[0]
    return node


def reads(step: Step) -> list[Node]:
    """What a step reads from memory."""
    found = step.inputs if isinstance(step, Kernel) else step.nodes
    return list(dict.fromkeys(root(n) for n in found))


class _Planner:
    def __init__(self, program: Program, graph: Graph, fused: Fused) -> None:
        self.program, self.graph = program, graph
        self.steps: list[Step] = [*fused.kernels]
        self.maker: dict[Node, int] = {n: i for i, k in enumerate(fused.kernels) for n in k.outputs}
        for node in graph.nodes:
            if node.kind in ("gemm", "move", "opaque"):
                first = node.nodes[0] if node.kind == "opaque" and _is_further(node) else node
                if first is node:
                    self.steps.append(node)
                self.maker[node] = self.maker[first] if first is not node else len(self.steps) - 1
        self.fallible = {i for i, s in enumerate(self.steps) if isinstance(s, Node) and s.kind == "opaque"}
        self.readers: dict[Node, set[int]] = {}
        for i, step in enumerate(self.steps):
            for x in reads(step):
                self.readers.setdefault(x, set()).add(i)
        self.after: list[set[int]] = [set() for _ in self.steps]
        for x, found in self.readers.items():
            if x in self.maker:
                self.after[self.maker[x]] |= found - {self.maker[x]}
        for i, step in enumerate(self.steps):  # what is added to must be complete
            for x in step.inputs if isinstance(step, Kernel) else step.nodes:
                last = self.maker.get(_made(x))
                if last not in (None, i):
                    self.after[last].add(i)

    def overwrites(self) -> dict[Node, Node]:
        found: dict[Node, Node] = {}
        for i, j in self.program.updates.items():
            output, old = self.graph.outputs[i], self.graph.inputs[j]
            new = root(output)
            if output.kind == "gemm" and new is old:  # products are added there, and nothing else waits for them
                found[output] = old
                while (added := output.shows) is not None:
                    for step in self.fallible:
                        self.after[step].add(self.maker[output])
                    output = added
                continue
            same = self.program.outputs[i].shape == self.program.inputs[j].shape
            whole = new is _made(output)
            if same and whole and new in self.maker and new not in found and self._overwrites(new, old):
                found[new] = old
        return found

    def _overwrites(self, new: Node, old: Node) -> bool:
        """Let all readers of the old value, and all that may fail, come before the new one is written, if that is
        possible."""
        maker = self.maker[new]
        step = self.steps[maker]
        if new.dtype != old.dtype or self.graph.size(new.layout) != self.graph.size(old.layout):
            return False
        if old in reads(step):
            if not isinstance(step, Kernel) and step.kind in ("gemm", "move"):
                return False
            if isinstance(step, Kernel):
                seen = [x for x in step.inputs if root(x) is old]
                if seen != [old] or old.layout != new.layout:
                    return False
        others = (self.readers.get(old, set()) | self.fallible) - {maker}
        if not others.isdisjoint(self._behind(maker)):
            return False
        for i in others:
            self.after[i].add(maker)
        return True

    def _behind(self, start: int) -> set[int]:
        """A step and all that have to come after it."""
        todo, seen = [start], {start}
        while todo:
            i = todo.pop()
            todo += self.after[i] - seen
            seen |= self.after[i]
        return seen

    def order(self) -> list[int]:
        """The steps, the one that the program has first among all that can run."""
        waits = [0] * len(self.steps)
        for found in self.after:
            for i in found:
                waits[i] += 1
        ready = [(self._number(i), i) for i, n in enumerate(waits) if not n]
        heapify(ready)
        done: list[int] = []
        while ready:
            i = heappop(ready)[1]
            done.append(i)
            for j in self.after[i]:
                waits[j] -= 1
                if not waits[j]:
                    heappush(ready, (self._number(j), j))
        assert len(done) == len(self.steps)
        return done

    def _number(self, i: int) -> int:
        step = self.steps[i]
        return step.outputs[-1].number if isinstance(step, Kernel) else step.number


def _is_further(node: Node) -> bool:
    """Is it not the first output of its instruction?"""
    first = node.nodes[:1]
    return bool(first) and first[0].kind == "opaque" and first[0].instruction is node.instruction


def plan(program: Program, graph: Graph, fused: Fused) -> Plan:
    """When each step runs, and what its results overwrite."""
    planner = _Planner(program, graph, fused)
    overwrites = planner.overwrites()
    order = planner.order()
    when = {step: time for time, step in enumerate(order)}
    lives = {}
    for node, maker in planner.maker.items():
        last = max((when[i] for i in planner.readers.get(node, ())), default=when[maker])
        lives[node] = when[maker], last
    for output in graph.outputs:
        if root(output) in lives:
            lives[root(output)] = lives[root(output)][0], len(order)
    own = {n: s for n, s in lives.items() if n not in overwrites and n.shows is None}
    return Plan([planner.steps[i] for i in order], overwrites, own)
