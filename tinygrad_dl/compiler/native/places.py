"""`Places`: where everything that a native program computes with lies: what is needed for a part of its time in one
block, results in arrays that are new at each call or in those of the state that they replace."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np

from ...graph import Array
from ..axes import Graph, Node, root
from ..program import Program
from .calling import Written
from .memory import Arena, aligned, place
from .plan import Plan, Step
from .rounds import Round, Task

SMALL = 1024  # bytes of outputs: copies of so few cost less than to look whether somebody still has the last ones


class Places:
    """slots: by node, its place in the table of pointers, which comes before any code runs. fixed: memory that stays,
    constants and what lies in the block. block: all memory of this program in its arena, which has to live as long as
    the table, in which there are only addresses. pointers: the slots of each task.

    Of outputs: fresh, those that are new arrays; written_over, those that are an input's array; copied, those that are
    copies of other memory; early, copies of inputs, taken before anything is written over."""

    table: ctypes.Array[ctypes.c_size_t]

    def __init__(self, program: Program, graph: Graph, plan: Plan) -> None:
        self.program, self.graph, self.plan = program, graph, plan
        self.slots: dict[Node, int] = {}
        self.fixed: dict[Node, Array] = {}
        self.pointers: dict[Task, list[int]] = {}
        self._sort_outputs()

    def _sort_outputs(self) -> None:
        """Which outputs are new arrays, written directly, and which are copies of other memory: single numbers, such as
        losses, are. Whoever has the last one still has it at the next call, which then had to look for other memory."""
        self.fresh: list[tuple[int, Node]] = []
        self.written_over: list[tuple[int, int]] = []
        self.copied: list[tuple[int, Node]] = []
        inputs = {node: j for j, node in enumerate(self.graph.inputs)}
        owners: set[Node] = set()
        few = sum(self._bytes(root(output)) for output in self.graph.outputs) <= SMALL
        for i, output in enumerate(self.graph.outputs):
            node = root(output)
            old = self.plan.overwrites.get(output if node.kind == "input" else node)
            if old is not None and self.program.updates.get(i) == inputs[old]:
                self.written_over.append((i, inputs[old]))
            elif old is None and node.kind != "input" and node not in owners and node.layout and not few:
                owners.add(node)
                self.fresh.append((i, node))
            else:
                self.copied.append((i, node))
        self.early = [(i, node) for i, node in self.copied if node.kind == "input"]
        self.copied = [(i, node) for i, node in self.copied if node.kind != "input"]

    def place(self, ways: Sequence[Sequence[Round]], written: Mapping[Step, Written], arena: Arena) -> None:
        """Find memory for all that is not an argument of each call, what tasks compute in passing included.

        ways: to share out the same groups of steps, of which each call takes one."""
        graph = self.graph
        for node in (*graph.inputs, *graph.constants, *(node for _, node in self.fresh)):
            self.slots[node] = len(self.slots)
        for node, old in self.plan.overwrites.items():
            self.slots[node] = self.slots[old]
        kept = [n for n in self.plan.lives if n not in self.slots]
        found = ways[0]
        time = {task.step: i for i, each in enumerate(found) for task in each.tasks}
        times = [time[step] for step in self.plan.order] + [len(found)]
        spans = [(self._bytes(n), times[first], times[last]) for n in kept for first, last in [self.plan.lives[n]]]
        offsets, size = place(spans)
        count = max(self.slots.values(), default=-1) + 1
        for number, node in enumerate(kept, count):
            self.slots[node] = number
        scratch, length = self._place_scratch([*chain(*ways)], written, count + len(kept))
        self.block = block = arena.take(size + length)
        for node, offset in zip(kept, offsets, strict=True):
            self.fixed[node] = block[offset : offset + self._bytes(node)].view(node.dtype)
        for node, array in graph.constants.items():
            self.fixed[node] = np.ascontiguousarray(array).reshape(-1)
        self.table = (ctypes.c_size_t * (count + len(kept) + len(scratch)))()
        for node, array in self.fixed.items():
            self.table[self.slots[node]] = array.ctypes.data
        for slot, offset in enumerate(scratch, count + len(kept)):
            self.table[slot] = block.ctypes.data + size + offset

    def _place_scratch(
        self, found: Sequence[Round], written: Mapping[Step, Written], first: int
    ) -> tuple[list[int], int]:
        """Where each task keeps what it computes in passing: offsets, with slots from the first on, and bytes."""
        offsets: list[int] = []
        size = 0
        for each in found:
            end = 0
            for task in each.tasks:
                w = written.get(task.step)
                nodes = w.pointers if w else [*task.step.nodes[:2], cast(Node, task.step)]
                self.pointers[task] = [self.slots[root(n)] for n in nodes]
                for n in w.scratch if w else ():
                    self.pointers[task].append(first + len(offsets))
                    offsets.append(end)
                    end += aligned(n)
            size = max(size, end)
        return offsets, size

    def _bytes(self, node: Node) -> int:
        return self.graph.size(node.layout) * node.dtype.itemsize

    def at(self, node: Node, shape: tuple[int, ...]) -> tuple[int | None, Any, tuple[int, ...]]:
        """Where a node's memory is as an array of a shape: a slot of the arrays of a call, or an array that stays."""
        array = self.fixed.get(node)
        return (self.slots[node], None, shape) if array is None else (None, array.reshape(shape), shape)

    def memory(self, node: Node, arrays: list[Array]) -> Array:
        array = self.fixed.get(node)
        return arrays[self.slots[node]].reshape(-1) if array is None else array
