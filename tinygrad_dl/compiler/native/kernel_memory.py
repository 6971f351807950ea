"""`KernelMemory`: where the values of a kernel lie, for the writer of its text: addresses, loads and stores.

Where a kernel runs through much memory, what comes next is fetched into the second cache meanwhile. The processor
looks ahead by itself, but not beyond a page of 4 KB: down the columns of a matrix every row lies on another one, and
Adam walks through four arrays at once.
"""

from __future__ import annotations

import functools
import platform

import numpy as np

from ..axes import Node
from ..fuse import Kernel
from .ir import INDEX, Code, Lanes
from .registers import Register, lanes_of

# Bytes that a kernel reads from which on it fetches ahead, and how far. Of the time without, Adam over 50 million
# parameters takes 0.86 on Intel's processors, on AMD's 1.07; batch norm of 512 x 2048 from 0.6 to 0.85. Eight rows of
# 2048 numbers would fall on the very lines of AMD's second cache that are in use: 1.1 of the time without.
FLAT, BYTES_AHEAD = 2**24, 1536
DOWN, ROWS_AHEAD = 2**19, 6


@functools.cache
def is_amd() -> bool:
    """Is the processor one of AMD's?"""
    try:
        with open("/proc/cpuinfo") as file:
            text = file.read(1000)
    except OSError:
        text = platform.processor()
    return "AuthenticAMD" in text


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
        reads = max(rows, 1) * columns * sum(n.dtype.itemsize for n in kernel.inputs)
        self.down_far = bool(kernel.rows) and not kernel.columns_inside and reads >= DOWN
        self.far = self.down_far or (not kernel.rows and reads >= FLAT and not is_amd())

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
        start = self.code.binary("mul", INDEX, row, stride)
        return start if column == "0" else self.code.binary("add", INDEX, start, column)

    def address(self, lanes: Lanes, pointer: str, index: str | None) -> str:
        if index in (None, "0"):
            return pointer
        return self.code.let(f"getelementptr {lanes.kind}, ptr {pointer}, i64 {index}")

    def get(self, node: Node, pointer: str, index: str | None, width: int, ahead: bool = False) -> Register:
        lanes = lanes_of(node.dtype, width)
        stored = lanes.with_kind("i8") if lanes.kind == "i1" else lanes
        address = self.address(stored, pointer, index)
        if ahead:
            self.fetch(address, stored)
        name = self.code.let(f"load {stored.type}, ptr {address}, align {stored.bits // 8}")
        if lanes.kind == "i1":
            name = self.code.icmp("ne", stored, name, 0)
        return Register(name, lanes, node.dtype)

    def moves(self, node: Node, width: int) -> bool:
        """Is it among what comes from far away, and other memory in each round?"""
        return self.far and width > 1 and (not self.down_far or not self.down.isdisjoint(node.layout))

    def fetch(self, address: str, lanes: Lanes) -> None:
        """Begin to bring what a later round reads or writes."""
        code = self.code
        elements = BYTES_AHEAD * 8 // lanes.bits
        distance = code.let(f"mul i64 %columns, {ROWS_AHEAD}") if self.down_far else str(elements)
        later = code.let(f"getelementptr {lanes.kind}, ptr {address}, i64 {distance}")
        for start in range(0, lanes.width * lanes.bits // 8, 64):
            code.fetch(code.let(f"getelementptr i8, ptr {later}, i64 {start}"))

    def put(self, x: Register, pointer: str, index: str | None, ahead: bool = False) -> None:
        lanes, name = x.lanes, x.name
        if lanes.kind == "i1":
            lanes = lanes.with_kind("i8")
            name = self.code.cast(x.lanes, lanes, name)
        address = self.address(lanes, pointer, index)
        if ahead:
            self.fetch(address, lanes)
        self.code.do(f"store {lanes.type} {name}, ptr {address}, align {lanes.bits // 8}")
