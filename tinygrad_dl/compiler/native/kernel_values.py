"""`KernelValues`: the values of a kernel in registers, each written among the lines of the level where it varies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from ..axes import Graph, Node
from ..fuse import Kernel
from ..loop_nest import WIDEST
from . import operations
from .kernel_memory import KernelMemory
from .random_words import random_words
from .registers import DType, Register, convert, lanes_of, literal, splat, where
from .schedule import INNER, Schedule


class KernelValues(KernelMemory):
    """What has been computed so far, at the row and column that the body has come to."""

    def __init__(self, kernel: Kernel, graph: Graph, late: Iterable[Node]) -> None:
        super().__init__(kernel, graph.size(kernel.rows), graph.size(kernel.columns))
        self.plan = Schedule(kernel, late)
        self.buffers = [self.code.lines] * 3  # the lines of each level
        self.memo: list[dict[tuple[Node, int], Register]] = [{}, {}, {}]
        self.pointers = list(dict.fromkeys([*kernel.inputs, *kernel.outputs]))
        self.pointer = {n: f"%p{i}" for i, n in enumerate(self.pointers)}
        self.scratch: dict[Node, str] = {}
        self.inputs = set(kernel.inputs)
        self.width, self.now = 1, 0
        self.straight = not kernel.inner or (kernel.columns_inside and self.columns <= WIDEST)
        if not self.straight:
            for node, stage in self.plan.saved.items():
                if self.plan.store_stage.get(node) != stage:
                    self.scratch[node] = f"%s{len(self.scratch)}"

    @contextmanager
    def at(self, level: int) -> Iterator[None]:
        """Write among the lines of a level."""
        before, self.code.lines = self.code.lines, self.buffers[level]
        yield
        self.code.lines = before

    def enter(self, level: int) -> None:
        """The lines and registers of a level begin anew."""
        for deeper in range(level, INNER + 1):
            self.buffers[deeper] = self.code.lines
            self.memo[deeper] = {}

    def natural(self, node: Node) -> Register:
        return self.value(node, self.width if self.wide(node) else 1)

    def value(self, node: Node, width: int) -> Register:
        """The register of a node, in as many lanes. What it needs comes first: a chain may be longer than Python's
        stack is deep."""
        waiting = [] if (node, width) in self.memo[self.plan.level[node]] else [(node, width)]
        while waiting:
            each, lanes = waiting[-1]
            needed = [other for other in self.needs(each, lanes) if other not in self.memo[self.plan.level[other[0]]]]
            if needed:
                waiting += reversed(needed)
                continue
            memo = self.memo[self.plan.level[each]]
            if (each, lanes) not in memo:
                with self.at(self.plan.level[each]):
                    memo[each, lanes] = self.computed(each, lanes)
            waiting.pop()
        return self.memo[self.plan.level[node]][node, width]

    def needs(self, node: Node, width: int) -> list[tuple[Node, int]]:
        """What a node is computed of, in as many lanes each."""
        if width > 1 and not self.wide(node):
            return [(node, 1)]
        if node in self.inputs or self.kept(node):
            return []
        return [(other, 1 if node.name == "bits" else width) for other in node.args if isinstance(other, Node)]

    def kept(self, node: Node) -> bool:
        """Is it in memory since an earlier stage?"""
        return not self.straight and self.plan.saved.get(node, self.now) < self.now

    def computed(self, node: Node, width: int) -> Register:
        if width > 1 and not self.wide(node):
            return splat(self.code, self.value(node, 1), width)
        if node in self.inputs:
            return self.get(node, self.pointer[node], self.index(node), width, self.moves(node, width))
        if self.kept(node):
            if node in self.scratch:
                return self.get(node, self.scratch[node], self.scratch_index(), width)
            return self.get(node, self.pointer[node], self.index(node), width)
        if node.name == "bits":
            return self.bits(node, width)
        kinds = [a.dtype if isinstance(a, Node) else type(a) for a in node.args]
        if node.name == "astype":
            return convert(self.code, self.value(node.nodes[0], width), node.dtype)
        if node.name == "where":
            mask = self.argument(node.args[0], np.dtype(np.bool_), width)
            x, y = (self.argument(a, node.dtype, width) for a in node.args[1:])
            return where(self.code, mask, x, y)
        loop = operations.loop_dtype(node.name, tuple(kinds))
        assert loop is not None
        return operations.emit(self.code, node.name, [self.argument(a, loop, width) for a in node.args], node.dtype)

    def argument(self, arg: Node | float, dtype: DType, width: int) -> Register:
        if isinstance(arg, Node):
            return convert(self.code, self.value(arg, width), dtype)
        return literal(lanes_of(dtype, width), dtype, arg)

    def bits(self, node: Node, width: int) -> Register:
        """Random words, by the elements' numbers."""
        pairs = width % 2 == 0 and (not self.down or self.columns % 2 == 0)
        key, first = self.value(node.nodes[0], 1), self.index(node) or "0"
        return random_words(self.code, key, first, width, pairs, node.dtype)

    def store(self, nodes: Iterable[Node]) -> None:
        """All are computed before the first is stored: one may overwrite what another reads."""
        found = [(node, self.natural(node)) for node in nodes]
        for node, register in found:
            ahead = self.down_far and self.moves(node, register.lanes.width)
            self.put(register, self.pointer[node], self.index(node), ahead)
