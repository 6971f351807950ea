"""`write_moves`: code for operations that only copy.

One function copies from any distances between elements to any others; an operation calls it for each of its arguments.
"""

from __future__ import annotations

from functools import cache

from ..axes import Node
from ..moves import MOST, Move
from .calling import Written, function, symbol, whole
from .ir import INDEX, Code, Lanes

_NUMBERS = 3 * MOST + 2  # of a move: see `_numbers`


def write_moves(node: Node, size: int) -> Written:
    """The text of a function. size: elements of the result. The outermost dimension is shared out where all copies have
    the same, side by side."""
    found, code, nodes = node.moves, Code(), node.nodes
    copied = sum(move.number for move in found)
    units = found[0].sizes[0] if copied == size and len({move.sizes[0] for move in found}) == 1 else 1
    zeros = size * node.dtype.itemsize if copied < size else 0
    code.declares.add("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    code.do("call void @llvm.memset.p0.i64(ptr %y, i8 0, i64 %zeros, i1 false)")
    copy = _copy(node.dtype.itemsize)
    code.declares.add(f"declare void @{symbol(copy)}(ptr, ptr, ptr, i64, i64)")
    for i in range(len(nodes)):
        numbers = code.let(f"getelementptr i64, ptr %numbers, i64 {len(nodes) + 2 + i * _NUMBERS}")
        code.do(f"call void @{symbol(copy)}(ptr %x{i}, ptr %y, ptr {numbers}, i64 %first, i64 %last)")
    text = function([*(f"%x{i}" for i in range(len(nodes))), "%y"], ["%zeros"], code.text())
    known = [zeros, *(n for move in found for n in _numbers(move, units))]
    return Written(text, code.declares, [*nodes, node], [], units, [copy], known)


def _numbers(move: Move, units: int) -> list[int]:
    """How many rounds of the outermost dimension are a unit, the other sizes, and the distances."""
    return [move.sizes[0] // units, *move.sizes[1:], *move.source, *move.target]


@cache
def _copy(itemsize: int) -> str:
    """The whole text of a function of two addresses, the numbers of a move, and the first and the last unit."""
    code, kind = Code(), f"i{8 * itemsize}"
    numbers = [code.let(f"getelementptr i64, ptr %numbers, i64 {i}") for i in range(_NUMBERS)]
    times, *rest = (code.let(f"load i64, ptr {number}") for number in numbers)
    sizes, source, target = rest[: MOST - 1], rest[MOST - 1 : -MOST - 1], rest[-MOST - 1 :]

    def after(address: str, distance: str, index: str | int = 1) -> str:
        elements = code.binary("mul", INDEX, distance, index)
        return code.let(f"getelementptr {kind}, ptr {address}, i64 {elements}")

    def copy(here: str, there: str, depth: int, start: str, end: str) -> None:
        def each(i: str, _: list[str]) -> list[str]:
            nearer, further = after(here, source[depth], i), after(there, target[depth], i)
            if depth == MOST - 1:
                code.do(f"store {kind} {code.let(f'load {kind}, ptr {nearer}')}, ptr {further}")
            elif depth == MOST - 2:
                row(nearer, further)
            else:
                copy(nearer, further, depth + 1, "0", sizes[depth])
            return []

        code.loop(start, end, [], [], each)

    def row(here: str, there: str) -> None:
        """The innermost dimension: at once if its elements are neighbours."""
        together, apart, done = (code.fresh("row") for _ in range(3))
        near = code.binary("and", Lanes("i1"), *(code.icmp("eq", INDEX, far, 1) for far in (source[-2], target[-2])))
        code.do(f"br i1 {near}, label %{together}, label %{apart}")
        code.label(together)
        size = code.binary("mul", INDEX, sizes[-1], itemsize)
        code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {there}, ptr {here}, i64 {size}, i1 false)")
        code.do(f"br label %{done}")
        code.label(apart)
        copy(here, there, MOST - 1, "0", sizes[-1])
        code.do(f"br label %{done}")
        code.label(done)

    bounds = (code.binary("mul", INDEX, unit, times) for unit in ("%first", "%last"))
    copy(after("%from", source[-1]), after("%to", target[-1]), 0, *bounds)
    opening = "define void @NAME(ptr %from, ptr %to, ptr %numbers, i64 %first, i64 %last) {"
    text = f"{opening}\n{code.text()}\n  ret void\n}}\n"
    return whole(text, {"declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"})
