"""`Schedule`: where in its loop nest a kernel computes each value, and in which of its passes over a tile."""

from __future__ import annotations

from collections.abc import Iterable

from ..axes import Node
from ..fuse import Kernel, cost

FUNCTION, OUTER, INNER = 0, 1, 2  # levels: before the loops, once per outer iteration, once per inner one
SPILLED = 6  # operations from which on a value that a later stage needs is kept


class Schedule:
    """level: where each node is computed. stage: how many reductions along the inner loop come before it: each
    stage is one run of the inner loop. folds: reductions along the inner loop; totals: along the outer one, or
    both, which only leave the kernel. saved: values kept for later stages, and the stage that computes them.

    late: outputs that overwrite an input, which is why they are stored in the last stage."""

    def __init__(self, kernel: Kernel, late: Iterable[Node]) -> None:
        self.kernel = kernel
        self.level: dict[Node, int] = {}
        self.stage: dict[Node, int] = {}
        inner = frozenset(kernel.inner)
        for node in kernel.inputs:
            self.level[node], self.stage[node] = self._own_level(node), 0
        self.folds = [n for n in kernel.nodes if n.kind == "reduce" and inner and n.over == inner]
        self.totals = [n for n in kernel.nodes if n.kind == "reduce" and not (inner and n.over == inner)]
        folds = set(self.folds)
        for node in kernel.nodes:
            stage = max((self.stage[x] for x in node.nodes), default=0)
            if node.kind == "reduce":
                self.level[node], self.stage[node] = (OUTER, stage + 1) if node in folds else (FUNCTION, stage)
            else:
                self.level[node] = max([self._own_level(node), *(self.level[x] for x in node.nodes)])
                self.stage[node] = stage
        totals = set(self.totals)
        self.stored = [n for n in kernel.outputs if n not in totals]
        inside = [n for n in self.stored if self.level[n] == INNER]
        reduced = [x for n in (*self.folds, *self.totals) for x in n.nodes if self.level[x] == INNER]
        self.stages = max([self.stage[n] for n in (*inside, *reduced)], default=0) + 1
        last = set(late)
        self.store_stage = {n: self.stages - 1 if n in last else self.stage[n] for n in inside}
        self.saved = self._saved()

    def _own_level(self, node: Node) -> int:
        axes = set(node.layout)
        return INNER if axes & set(self.kernel.inner) else OUTER if axes & set(self.kernel.outer) else FUNCTION

    def sinks(self, stage: int) -> tuple[list[Node], list[Node], list[Node]]:
        """The folds, totals and stores that one run of the inner loop ends in."""
        folds = [n for n in self.folds if self.stage[n.nodes[0]] == stage]
        totals = [n for n in self.totals if self.stage[n.nodes[0]] == stage and self.level[n.nodes[0]] == INNER]
        return folds, totals, [n for n, s in self.store_stage.items() if s == stage]

    def _needed(self, stage: int, saved: dict[Node, int]) -> set[Node]:
        """What one run of the inner loop computes or reloads."""
        folds, totals, stores = self.sinks(stage)
        todo = [x for n in (*folds, *totals) for x in n.nodes] + stores
        found: set[Node] = set()
        inputs = set(self.kernel.inputs)
        while todo:
            node = todo.pop()
            if node in found or node in inputs or self.level[node] != INNER:
                continue
            found.add(node)
            if saved.get(node, stage) == stage:
                todo += node.nodes
        return found

    def _saved(self) -> dict[Node, int]:
        if self.stages == 1:
            return {}
        needed = [self._needed(s, {}) for s in range(self.stages)]
        saved: dict[Node, int] = {}
        costs: dict[Node, int] = {}
        for node in self.kernel.nodes:
            where = [s for s in range(self.stages) if node in needed[s]]
            if where:
                costs[node] = cost(node) + sum(costs.get(x, 0) for x in node.nodes)
                if len(where) > 1 and costs[node] >= SPILLED:
                    saved[node] = where[0]
                    costs[node] = 0
        kept = {n for s in range(self.stages) for n in self._needed(s, saved) if saved.get(n, s) < s}
        return {n: s for n, s in saved.items() if n in kept}
