"""`KernelMemory`: where the values of a kernel lie, for the writer of its text: addresses, loads and stores.

What will be read a little later is brought into the caches meanwhile where a kernel runs through much memory: the
processor itself looks ahead to the end of a page only, which Adam has seven of under way.
"""

from __future__ import annotations

import numpy as np

from ..axes import Node
from ..fuse import Kernel
from .ir import Code, Lanes
from .operations import Register, lanes_of

LARGE = 2**24  # bytes that a kernel of one flat axis reads: they come from far away
AHEAD = 1536  # bytes from what is read to what is fetched meanwhile: Adam takes 0.88 of the time so


class KernelMemory:
    """The body of a kernel's function, and the row and column that it has come to."""

    def __init__(self, kernel: Kernel, rows: int, columns: int) -> None:
        self.kernel, self.rows, self.columns = kernel, rows, columns
        self.across = frozenset(kernel.columns)
        self.down = frozenset(kernel.rows)
        self.code = Code()
        self.row = self.column = "0"
        double = any(n.dtype == np.float64 and self.wide(n) for n in kernel.nodes)
        self.tile = 16 if double else 32  # 64 floats were as fast, and took twice as long to compile
        reads = columns * sum(n.dtype.itemsize for n in kernel.inputs)
        self.ahead = not kernel.rows and reads > LARGE

    def wide(self, node: Node) -> bool:
        return not self.across.isdisjoint(node.layout)

    def index(self, node: Node) -> str | None:
        """Where in a node's memory the current row and column lie."""
        down, across = not self.down.isdisjoint(node.layout), self.wide(node)
        if not down:
            return self.column if across else None
        if not across:
            return self.row
        return self.full_index(self.row, "%columns")

    def scratch_index(self) -> str:
        return self.column if self.kernel.columns_inside else self.full_index(self.row, str(self.tile), "0")

    def full_index(self, row: str, stride: str, column: str | None = None) -> str:
        column = self.column if column is None else column
        start = self.code.binary("mul", Lanes("i64"), row, stride)
        return start if column == "0" else self.code.binary("add", Lanes("i64"), start, column)

    def address(self, lanes: Lanes, pointer: str, index: str | None) -> str:
        if index in (None, "0"):
            return pointer
        return self.code.let(f"getelementptr {lanes.kind}, ptr {pointer}, i64 {index}")

    def get(self, node: Node, pointer: str, index: str | None, width: int) -> Register:
        lanes = lanes_of(node.dtype, width)
        stored = lanes.with_kind("i8") if lanes.kind == "i1" else lanes
        address = self.address(stored, pointer, index)
        if self.ahead and width > 1:
            self.fetch(address, stored)
        name = self.code.let(f"load {stored.type}, ptr {address}, align {stored.bits // 8}")
        if lanes.kind == "i1":
            name = self.code.icmp("ne", stored, name, 0)
        return Register(name, lanes, node.dtype)

    def fetch(self, address: str, lanes: Lanes) -> None:
        """Bring what will be read later into the cache."""
        self.code.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for start in range(AHEAD, AHEAD + lanes.width * lanes.bits // 8, 64):
            later = self.code.let(f"getelementptr i8, ptr {address}, i64 {start}")
            self.code.do(f"call void @llvm.prefetch.p0(ptr {later}, i32 0, i32 3, i32 1)")

    def put(self, x: Register, pointer: str, index: str | None) -> None:
        lanes, name = x.lanes, x.name
        if lanes.kind == "i1":
            lanes = lanes.with_kind("i8")
            name = self.code.cast(x.lanes, lanes, name)
        self.code.do(f"store {lanes.type} {name}, ptr {self.address(lanes, pointer, index)}, align {lanes.bits // 8}")
