"""`function`: how every kernel and product is called: with numbers of its own, and a range.

The numbers lie in memory as 64-bit integers: where each of its pointers stands, and what else it is to know. So one
function, which is the same for all programs, can call them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..axes import Node
from .ir import Code


@dataclass(slots=True)
class Written:
    """A function: text that names it `@NAME`, what it declares, and its pointers in order."""

    text: str
    declares: set[str]
    pointers: list[Node]
    scratch: list[int]  # bytes of each further pointer
    units: int  # rounds of the outer loop, 1 if they cannot be shared out
    calls: Sequence[str] = ()  # whole texts of functions that it calls by their symbols
    numbers: Sequence[int] = ()  # what it finds behind its pointers
    common: int = 0  # bytes that its tasks share, zero at first; if any, where they are is the last number


def function(pointers: Sequence[str], numbers: Sequence[str], body: str) -> str:
    """The text of `@NAME`, whose body finds these registers, and %first and %last of the range. A pointer without a
    name is not loaded."""
    lines = ["entry:"]
    for i, register in enumerate(pointers):
        if register:
            lines += [f"  %at{i} = getelementptr i64, ptr %numbers, i64 {i}", f"  %place{i} = load ptr, ptr %at{i}"]
            lines.append(f"  {register} = load ptr, ptr %place{i}")
    for i, register in enumerate(numbers, len(pointers)):
        lines += [f"  %at{i} = getelementptr i64, ptr %numbers, i64 {i}", f"  {register} = load i64, ptr %at{i}"]
    opening = "\n".join(lines)
    return f"define void @NAME(ptr %numbers, i64 %first, i64 %last) {{\n{opening}\n{body}\n  ret void\n}}\n"


def whole(text: str, declares: Iterable[str] = ()) -> str:
    """A text with what it declares."""
    return "\n".join([text, *sorted(declares)])


def symbol(text: str) -> str:
    """What the function of a whole text is called by others."""
    return "f" + hashlib.sha256(text.encode()).hexdigest()[:24]


class Call:
    """A call of a function by another one, whose numbers begin like its own: it is the same text as if it were called
    alone. others: which of its pointers will be other ones."""

    def __init__(self, code: Code, one: Written, others: Iterable[int]) -> None:
        self.code, self.text = code, whole(one.text, one.declares)
        size = len(one.pointers) + len(one.scratch) + len(one.numbers)
        self.table = code.let(f"alloca [{size} x i64]")
        self.places = {i: code.let("alloca ptr") for i in others}
        code.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {self.table}, ptr %numbers, i64 {8 * size}, i1 false)")
        for i, place in self.places.items():
            code.do(f"store ptr {place}, ptr {code.let(f'getelementptr i64, ptr {self.table}, i64 {i}')}")
        code.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        code.declares.add(f"declare void @{symbol(self.text)}(ptr, i64, i64)")

    def do(self, pointers: Iterable[str], first: str, last: str) -> None:
        """Call it for a range, with these in the places of the others."""
        for place, pointer in zip(self.places.values(), pointers, strict=True):
            self.code.do(f"store ptr {pointer}, ptr {place}")
        self.code.do(f"call void @{symbol(self.text)}(ptr {self.table}, i64 {first}, i64 {last})")
