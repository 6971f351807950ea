"""`write_batch`: a kernel or a product that is done for each part of its arrays, one part after another.

Its function is called with a table of where each part begins, so it is the same text as of one part alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .calling import Written, function, symbol, whole
from .ir import INDEX, Code


def write_batch(one: Written, batch: Sequence[tuple[int, Sequence[int]]], numbers: Sequence[str] = ()) -> Written:
    """batch: from the outside in, how many parts there are, and how many bytes lie between them for each of the first
    pointers; the others stay. numbers: what else the function is to know."""
    code, text = Code(), whole(one.text, one.declares)
    bases = [f"%base{i}" for i in range(len(one.pointers) + len(one.scratch))]
    places = code.let(f"alloca [{len(bases)} x ptr]")
    table = code.let(f"alloca [{len(bases) + len(numbers)} x ptr]")

    def entry(array: str, i: int) -> str:
        return code.let(f"getelementptr ptr, ptr {array}, i64 {i}")

    for i in range(len(bases)):
        code.do(f"store ptr {entry(places, i)}, ptr {entry(table, i)}")
    for i, number in enumerate(numbers, len(bases)):
        code.do(f"store i64 {number}, ptr {entry(table, i)}")

    def part(number: str, _: list[str]) -> list[str]:
        here = bases
        for place, (count, distances) in reversed([*enumerate(batch)]):
            index = code.binary("urem", INDEX, number, count) if place else number
            number = code.binary("udiv", INDEX, number, count) if place else number
            moved = [_after(code, base, far, index) for base, far in zip(here, distances, strict=False)]
            here = [*moved, *here[len(moved) :]]
        for i, base in enumerate(here):
            code.do(f"store ptr {base}, ptr {entry(places, i)}")
        code.do(f"call void @{symbol(text)}(ptr {table}, i64 0, i64 {one.units})")
        return []

    code.declares.add(f"declare void @{symbol(text)}(ptr, i64, i64)")
    code.loop("%first", "%last", [], [], part)
    units, calls = math.prod(count for count, _ in batch), [*one.calls, text]
    text = function(bases, numbers, code.text())
    return Written(text, code.declares, one.pointers, one.scratch, units, calls, one.numbers)


def _after(code: Code, base: str, distance: int, index: str) -> str:
    """So many distances behind a pointer."""
    if not distance:
        return base
    return code.let(f"getelementptr i8, ptr {base}, i64 {code.binary('mul', INDEX, index, distance)}")
