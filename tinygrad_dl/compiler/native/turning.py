"""`Turning`: code that copies rows of a matrix as columns, block by block.

A block fills as many registers as they have lanes; each of log2(lanes) steps exchanges parts of two of them. It is a
function by itself, which all products share: to compile one takes 20 ms.
"""

from __future__ import annotations

from functools import cache

from .ir import INDEX, Code, Lanes
from .matrices import Matrix, MatrixCode


class Turning(MatrixCode):
    """Matrix code that turns, of an inner size k. Whole registers are stored: up to a register's length is written
    behind the target."""

    k: int

    def turn(self, matrix: Matrix, row: str, rows: int, start: str, depth: str, target: str, size: int) -> None:
        """So many rows of contiguous numbers, of which as many as the depth are taken from the start on, as columns of
        a target whose rows lie `size` numbers apart.

        Where blocks do not come out even, the last one begins earlier: the same numbers are copied twice. So the depth
        is at least a register's length, or all of k."""
        code, high, deep = self.code, min(self.lanes, rows), min(self.lanes, self.k)
        last = code.binary("sub", INDEX, depth, deep)
        blocks = code.binary("udiv", INDEX, code.binary("add", INDEX, depth, deep - 1), deep)

        def block(i: str) -> None:
            at = code.intrinsic("umin", INDEX, code.binary("mul", INDEX, i, deep), last)
            inner, there = code.binary("add", INDEX, at, start), self.after(target, at, size)
            for first in range(0, rows, high):
                place = min(first, rows - high)
                strides = f"i64 {matrix.row}", f"i64 {size}"
                source = self.address(matrix, (row, place), (inner, 0))
                text = _turned(self.kind, self.lanes, high, deep)
                self.call(text, f"ptr {source}", f"ptr {self.step(there, place)}", *strides)

        self.loop("0", blocks, block)


@cache
def _turned(kind: str, size: int, rows: int, columns: int) -> str:
    """A function of two addresses and the distances from row to row: the columns of a block of rows × columns, both at
    most `size` lanes, become whole rows of `size`."""
    code, lanes = Code(), Lanes(kind, size)
    part, align = Lanes(kind, columns), lanes.bits // 8
    registers = []
    for i in range(rows):
        address = _row(code, kind, "%from", i)
        registers.append(_widened(code, part, lanes, code.let(f"load {part.type}, ptr {address}, align {align}")))
    registers = _exchanged(code, lanes, registers + ["poison"] * (size - rows))
    for i in range(columns):
        code.do(f"store {lanes.type} {registers[i]}, ptr {_row(code, kind, '%to', i)}, align {align}")
    opening = "define void @NAME(ptr %from, ptr %to, i64 %row.from, i64 %row.to) {"
    return f"{opening}\n{code.text()}\n  ret void\n}}\n"


def _row(code: Code, kind: str, pointer: str, number: int) -> str:
    index = code.binary("mul", INDEX, f"%row.{pointer[1:]}", number)
    return code.let(f"getelementptr {kind}, ptr {pointer}, i64 {index}")


def _widened(code: Code, part: Lanes, lanes: Lanes, x: str) -> str:
    if part == lanes:
        return x
    if part.width == 1:
        return code.let(f"insertelement {lanes.type} poison, {part.kind} {x}, i64 0")
    chosen = ", ".join(f"i32 {i}" if i < part.width else "i32 poison" for i in range(lanes.width))
    return code.let(f"shufflevector {part.type} {x}, {part.type} poison, <{lanes.width} x i32> <{chosen}>")


def _exchanged(code: Code, lanes: Lanes, rows: list[str]) -> list[str]:
    size, step = lanes.width, 1
    while step < size:
        code.apart()  # LLVM takes twice as long to look through all steps at once
        for i in (i for i in range(size) if not i & step):
            low, high = rows[i], rows[i + step]
            kept = [j if not j & step else size + j - step for j in range(size)]
            for place, numbers in ((i, kept), (i + step, [j + step for j in kept])):
                chosen = ", ".join(f"i32 {j}" for j in numbers)
                text = f"shufflevector {lanes.type} {low}, {lanes.type} {high}, <{size} x i32> <{chosen}>"
                rows[place] = code.let(text)
        step *= 2
    return rows
