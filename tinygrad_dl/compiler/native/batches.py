"""`write_batch`: a kernel or a product that is done for each part of its arrays, one part after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .calling import Call, Written, function
from .ir import INDEX, Code


def write_batch(one: Written, batch: Sequence[tuple[int, Sequence[int]]], numbers: Sequence[str] = ()) -> Written:
    """batch: from the outside in, how many parts there are, and how many bytes lie between them for each of the first
    pointers; the others stay. numbers: what else the function is to know."""
    code = Code()
    bases = [f"%base{i}" for i in range(len(one.pointers) + len(one.scratch))]
    call = Call(code, one, bases, numbers)

    def part(number: str, _: list[str]) -> list[str]:
        here = bases
        for place, (count, distances) in reversed([*enumerate(batch)]):
            index = code.binary("urem", INDEX, number, count) if place else number
            number = code.binary("udiv", INDEX, number, count) if place else number
            moved = [code.behind(base, far, index) for base, far in zip(here, distances, strict=False)]
            here = [*moved, *here[len(moved) :]]
        call.do(((i, base) for i, base in enumerate(here) if base != bases[i]), "0", str(one.units))
        return []

    code.loop("%first", "%last", [], [], part)
    units, calls = math.prod(count for count, _ in batch), [*one.calls, call.text]
    text = function(bases, numbers, code.text())
    return Written(text, code.declares, one.pointers, one.scratch, units, calls, one.numbers)
