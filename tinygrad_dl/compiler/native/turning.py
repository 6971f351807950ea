"""`turned`: a block of a matrix, its rows as columns, as text of an LLVM function.

A block fills as many registers as they have lanes; each of log2(lanes) steps exchanges parts of two of them. It is a
function of its own, called for every block: written out where it is needed it made most of a product's code.
"""

from __future__ import annotations

from .ir import Code, Lanes


def turned(name: str, kind: str, size: int, rows: int, columns: int, strides: tuple[int, int]) -> str:
    """The function `name(ptr %from, ptr %to)`: the columns of a block of rows × columns, both at most `size` lanes,
    become whole rows of `size`. strides: from one row to the next, there and here."""
    code, lanes = Code(), Lanes(kind, size)
    bits = lanes.bits // 8
    registers = []
    for i in range(rows):
        part = Lanes(kind, columns)
        address = code.let(f"getelementptr {kind}, ptr %from, i64 {i * strides[0]}")
        registers.append(_widened(code, part, lanes, code.let(f"load {part.type}, ptr {address}, align {bits}")))
    registers = _exchanged(code, lanes, registers + ["poison"] * (size - rows))
    for i in range(columns):
        address = code.let(f"getelementptr {kind}, ptr %to, i64 {i * strides[1]}")
        code.do(f"store {lanes.type} {registers[i]}, ptr {address}, align {bits}")
    return f"define void {name}(ptr %from, ptr %to) {{\n{code.text()}\n  ret void\n}}\n"


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
        for i in (i for i in range(size) if not i & step):
            low, high = rows[i], rows[i + step]
            kept = [j if not j & step else size + j - step for j in range(size)]
            for place, numbers in ((i, kept), (i + step, [j + step for j in kept])):
                chosen = ", ".join(f"i32 {j}" for j in numbers)
                text = f"shufflevector {lanes.type} {low}, {lanes.type} {high}, <{size} x i32> <{chosen}>"
                rows[place] = code.let(text)
        step *= 2
    return rows
