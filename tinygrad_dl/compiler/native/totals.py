"""`write_parts`: a kernel that totals leave, such as the sum of a matrix or of its rows, in parts that threads share.

The parts are the same whoever computes them, and whoever finishes the last one puts their totals together in order: so
the result is the same to the bit with any number of threads. Sums of many numbers are the more exact for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..axes import Graph, Node
from . import operations
from .calling import Call, Written, function
from .ir import INDEX, Code
from .memory import aligned
from .registers import Register, lanes_of

MOST = 64  # parts
_COUNTER = aligned(8)  # bytes before what the parts leave: how many are done


class _Writer:
    def __init__(self, one: Written, totals: Sequence[Node], graph: Graph) -> None:
        self.one, self.code = one, Code()
        self.places = {node: one.pointers.index(node) for node in totals}
        self.lanes = {node: lanes_of(node.dtype, graph.size(node.layout)) for node in totals}
        self.offsets: dict[Node, int] = {}
        self.size = 0  # of what a part leaves
        for node, lanes in self.lanes.items():
            self.offsets[node] = _COUNTER + self.size
            self.size += aligned(lanes.width * node.dtype.itemsize)

    def write(self, most: int) -> Written:
        one, code = self.one, self.code
        each = -(-one.units // most)
        parts = -(-one.units // each)
        code.do("%common = inttoptr i64 %place to ptr")
        call = Call(code, one, self.places.values())
        code.loop("%first", "%last", [], [], lambda part, _: self._part(call, part))
        code.do("%done = sub i64 %last, %first")
        code.do("%before = atomicrmw add ptr %common, i64 %done acq_rel")
        code.do("%by.now = add i64 %before, %done")
        code.do("%all = icmp eq i64 %by.now, %parts")
        code.do("br i1 %all, label %finish, label %end")
        code.label("finish")
        code.do("store i64 0, ptr %common")
        self._put_together()
        code.do("br label %end")
        code.label("end")
        pointers = [""] * (len(one.pointers) + len(one.scratch))
        for i in self.places.values():
            pointers[i] = f"%base{i}"
        text = function(pointers, ["%rows", "%columns", "%units", "%each", "%parts", "%place"], code.text())
        numbers, common = [*one.numbers, one.units, each, parts], _COUNTER + parts * self.size
        return Written(text, code.declares, one.pointers, one.scratch, parts, [*one.calls, call.text], numbers, common)

    def _part(self, call: Call, part: str) -> list[str]:
        code = self.code
        first = code.binary("mul", INDEX, part, "%each")
        last = code.intrinsic("umin", INDEX, code.binary("add", INDEX, first, "%each"), "%units")
        call.do([self._left(node, part) for node in self.lanes], first, last)
        return []

    def _left(self, node: Node, part: str) -> str:
        """Where a part leaves its total."""
        start = self.code.let(f"getelementptr i8, ptr %common, i64 {self.offsets[node]}")
        return self.code.behind(start, self.size, part)

    def _put_together(self) -> None:
        code, kinds = self.code, [*self.lanes.values()]

        def totals(part: str) -> list[str]:
            return [
                code.let(f"load {lanes.type}, ptr {self._left(node, part)}, align {node.dtype.itemsize}")
                for node, lanes in self.lanes.items()
            ]

        def add(part: str, found: list[str]) -> list[str]:
            return [
                operations.combine(code, node.name, *(Register(x, lanes, node.dtype) for x in both)).name
                for (node, lanes), *both in zip(self.lanes.items(), found, totals(part), strict=True)
            ]

        results = code.loop("1", "%parts", kinds, totals("0"), add)
        for (node, lanes), x in zip(self.lanes.items(), results, strict=True):
            code.do(f"store {lanes.type} {x}, ptr %base{self.places[node]}, align {node.dtype.itemsize}")


def write_parts(one: Written, totals: Sequence[Node], graph: Graph, most: int) -> Written:
    """The function of a kernel in at most so many parts, of its function for a range of the outer loop."""
    return _Writer(one, totals, graph).write(most)
