"""`MatrixCode`: text of LLVM code that walks through matrices: addresses, loads, stores, loops that carry registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import engine
from .calling import symbol
from .ir import INDEX, Code, Lanes

POINTER = Lanes("ptr")
Place = tuple[str, int]  # along an axis: a register, and a number besides


@dataclass(slots=True)
class Matrix:
    """A pointer, and the distances between rows and between columns."""

    pointer: str
    row: int
    column: int


class MatrixCode:
    """The body of a function. lanes: numbers in a register."""

    def __init__(self, itemsize: int) -> None:
        self.code, self.itemsize = Code(), itemsize
        self.kind = "float" if itemsize == 4 else "double"
        self.lanes = engine.registers()[0] // itemsize
        self.calls: list[str] = []  # texts of functions that others may call as well
        self.corners: dict[tuple[str, str, str], str] = {}  # addresses that are known where the text has come to

    def address(self, matrix: Matrix, row: Place, column: Place) -> str:
        """Of an element: from the corner that registers name, which is looked for once, by a number of elements."""
        key = matrix.pointer, row[0], column[0]
        if key not in self.corners:
            index = "0"
            for name, distance in ((row[0], matrix.row), (column[0], matrix.column)):
                if name != "0":
                    part = name if distance == 1 else self.code.binary("mul", INDEX, name, distance)
                    index = part if index == "0" else self.code.binary("add", INDEX, index, part)
            self.corners[key] = matrix.pointer if index == "0" else self.step(matrix.pointer, index)
        offset = row[1] * matrix.row + column[1] * matrix.column
        return self.step(self.corners[key], offset) if offset else self.corners[key]

    def step(self, pointer: str, elements: str | int) -> str:
        return self.code.let(f"getelementptr {self.kind}, ptr {pointer}, i64 {elements}")

    def after(self, pointer: str, number: str, size: int) -> str:
        """Behind so many things of a size."""
        return self.step(pointer, self.code.binary("mul", INDEX, number, size))

    def load(self, lanes: Lanes, matrix: Matrix, row: Place, column: Place) -> str:
        address = self.address(matrix, row, column)
        return self.code.let(f"load {lanes.type}, ptr {address}, align {self.itemsize}")

    def store(self, lanes: Lanes, x: str, matrix: Matrix, row: Place, column: Place) -> None:
        address = self.address(matrix, row, column)
        self.code.do(f"store {lanes.type} {x}, ptr {address}, align {self.itemsize}")

    def call(self, text: str, *arguments: str) -> None:
        """Call the function of a whole text. arguments: a type and a value each."""
        if text not in self.calls:
            self.calls.append(text)
            types = ", ".join(argument.split()[0] for argument in arguments)
            self.code.declares.add(f"declare void @{symbol(text)}({types})")
        self.code.do(f"call void @{symbol(text)}({', '.join(arguments)})")

    def loop(self, start: str, end: str, body: Callable[[str], None]) -> None:
        def carrying_nothing(i: str, _: list[str]) -> list[str]:
            body(i)
            return []

        self._run(start, end, [], [], carrying_nothing)

    def carried(
        self,
        count: str,
        kinds: Lanes | list[Lanes],
        start: list[str],
        body: Callable[[str, list[str]], list[str]],
        step: int | None = None,
    ) -> list[str]:
        """Registers after `count` steps of the body, which is told where it is."""
        every = kinds if isinstance(kinds, list) else [kinds] * len(start)
        width = self.lanes if step is None else step
        if width == 1:
            return self._run("0", count, every, start, body)
        return self._run("0", count, every, start, lambda i, s: body(self.code.binary("mul", INDEX, i, width), s))

    def _run(
        self,
        start: str,
        end: str,
        kinds: list[Lanes],
        carried: list[str],
        body: Callable[[str, list[str]], list[str]],
    ) -> list[str]:
        known, self.corners = self.corners, dict(self.corners)
        after = self.code.loop(start, end, kinds, carried, body)
        self.corners = known  # what is only known inside
        return after

    def ranged(self, size: int, step: int, body: Callable[[str, int], None]) -> None:
        """Rounds first to last of an outer loop over so many rows or columns, of which each takes a step."""
        full, rest = divmod(size, step)
        code = self.code
        if full:
            end = code.intrinsic("umin", INDEX, "%last", full)
            self.loop("%first", end, lambda i: body(code.binary("mul", INDEX, i, step), step))
        if rest:
            behind = code.let(f"icmp ugt i64 %last, {full}")
            once = code.let(f"zext i1 {behind} to i64")
            self.loop("0", once, lambda _: body(str(full * step), rest))
