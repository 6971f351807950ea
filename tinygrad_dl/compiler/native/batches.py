"""`write_batch`: a kernel or a product that is done for each part of its arrays, one part after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .calling import Call, Written, function
from .ir import INDEX, Code


def write_batch(one: Written, batch: Sequence[tuple[int, Sequence[int]]]) -> Written:
    """batch: from the outside in, how many parts there are, and how many bytes lie between them for each pointer."""
    code = Code()
    moving = [i for i in range(len(one.pointers)) if any(distances[i] for _, distances in batch)]
    call = Call(code, one, moving)

    def part(number: str, _: list[str]) -> list[str]:
        here = {i: f"%base{i}" for i in moving}
        for place, (count, distances) in reversed([*enumerate(batch)]):
            index = code.binary("urem", INDEX, number, count) if place else number
            number = code.binary("udiv", INDEX, number, count) if place else number
            here = {i: code.behind(base, distances[i], index) for i, base in here.items()}
        call.do(here.values(), "0", str(one.units))
        return []

    code.loop("%first", "%last", [], [], part)
    units, calls = math.prod(count for count, _ in batch), [*one.calls, call.text]
    text = function([f"%base{i}" if i in moving else "" for i in range(len(one.pointers))], [], code.text())
    return Written(text, code.declares, one.pointers, one.scratch, units, calls, one.numbers)
