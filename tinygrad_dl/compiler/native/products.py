"""`write_product`: narrow matrix products as text of LLVM functions; OpenBLAS does the others.

One of up to 16 columns as the last layer of a classifier has runs at a quarter of OpenBLAS's speed there (28 of
110 GFLOP/s for 256 × 784 × 10). Results are tiles in registers: of dot products along the inner size where both
factors lie so, else of vectors along the columns. Like kernels, products take a range of rounds of their outer
loop, so that threads can share them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..axes import Node
from .codegen import Written
from .ir import Code, Lanes

NARROW = 16  # rows or columns at most
UNROLLED = 128  # rows at most where the outer loop runs along the columns
_REGISTERS = 24  # that hold a tile
_INDEX = Lanes("i64")


def is_narrow(product: Node) -> bool:
    """Is it better computed here than by OpenBLAS? Few columns, or few rows, or a short sum of not too many rows."""
    m, k, n = product.shape
    first, second = product.transposed
    if second:
        return not first and min(m, n) <= NARROW
    return n <= 64 // product.dtype.itemsize or (m <= UNROLLED and min(m, k) <= NARROW)


def write_product(product: Node) -> Written:
    """The text of a narrow product."""
    return _Writer(product).write()


@dataclass(slots=True)
class _Matrix:
    """A pointer, and the distances between rows and between columns."""

    pointer: str
    row: int
    column: int


class _Writer:
    def __init__(self, product: Node) -> None:
        self.product, self.code = product, Code()
        self.m, self.k, self.n = product.shape
        first, second = product.transposed
        self.kind = "float" if product.dtype.itemsize == 4 else "double"
        self.lanes = 64 // product.dtype.itemsize
        self.a = _Matrix("%a", 1, self.m) if first else _Matrix("%a", self.k, 1)
        self.b = _Matrix("%b", 1, self.k) if second else _Matrix("%b", self.n, 1)
        self.y = _Matrix("%y", self.n, 1)
        self.along = second  # the inner size
        if second and self.n > NARROW:  # it is the transposed product that has few columns
            self.y = _Matrix("%y", 1, self.n)
            self.a, self.b = _Matrix("%b", self.k, 1), _Matrix("%a", 1, self.k)
            self.m, self.n = self.n, self.m
        self.height, self.width = self._tile()

    def _tile(self) -> tuple[int, int]:
        """Rows and columns of a tile; columns are vectors where the loop does not run along the inner size."""
        if self.along:
            columns = -(-self.n // -(-self.n // 6))
            return max(1, min(self.m, _REGISTERS // (columns + 1))), columns
        if self.n <= self.lanes:
            return min(self.m, _REGISTERS // 2), 1
        vectors = 2 if self.m <= _REGISTERS // 2 else 1
        return min(self.m, _REGISTERS // vectors), vectors

    def write(self) -> Written:
        body: Callable[[str, int], None] = self._rows if self.n <= self.lanes else self._columns
        size, step = (self.m, self.height) if self.n <= self.lanes else (self.n, self.width * self.lanes)
        if self.along:
            body, size, step = self._dots, self.m, self.height
        full, rest = divmod(size, step)
        code = self.code
        code.declares.add("declare i64 @llvm.umin.i64(i64, i64)")
        code.do(f"%end = call i64 @llvm.umin.i64(i64 %last, i64 {full})")
        if full:
            self._loop("%first", "%end", lambda i: body(code.binary("mul", _INDEX, i, step), step))
        if rest:
            code.do(f"%behind = icmp ugt i64 %last, {full}")
            code.do("%once = zext i1 %behind to i64")
            self._loop("0", "%once", lambda _: body(str(full * step), rest))
        arguments = "ptr %a, ptr %b, ptr %y, i64 %first, i64 %last"
        text = f"define void @NAME({arguments}) {{\nentry:\n{code.text()}\n  ret void\n}}\n"
        return Written(text, code.declares, [*self.product.nodes, self.product], [], True, full + bool(rest))

    def _dots(self, row: str, rows: int) -> None:
        """Some rows of the result, tile by tile."""
        for column in range(0, self.n, self.width):
            columns = min(self.width, self.n - column)
            sums = self._reduced(row, rows, column, columns)
            for (i, j), x in sums.items():
                self._store(Lanes(self.kind), x, self.y, (row, i), ("0", column + j))

    def _reduced(self, row: str, rows: int, column: int, columns: int) -> dict[tuple[int, int], str]:
        lanes, left = Lanes(self.kind, self.lanes), self.k % self.lanes
        places = [(i, j) for i in range(rows) for j in range(columns)]

        def add(at: tuple[str, int], lanes: Lanes, sums: list[str]) -> list[str]:
            xs = [self._load(lanes, self.a, (row, i), at) for i in range(rows)]
            ys = [self._load(lanes, self.b, at, ("0", column + j)) for j in range(columns)]
            return [self.code.fma(lanes, xs[i], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        zeros = [lanes.constant(0.0)] * len(places)
        sums = self._carried(self.k // self.lanes, lanes, zeros, lambda at, s: add((at, 0), lanes, s))
        found = [self._across(lanes, s, 0.0) for s in sums]
        if left:
            lanes = Lanes(self.kind, left)
            parts = add(("0", self.k - left), lanes, [lanes.constant(0.0)] * len(places))
            found = [self._across(lanes, s, f) for s, f in zip(parts, found, strict=True)]
        return dict(zip(places, found, strict=True))

    def _across(self, lanes: Lanes, x: str, start: str | float) -> str:
        one = Lanes(self.kind)
        if lanes.width == 1:
            return self.code.fadd(one, start, x)
        name = f"@llvm.vector.reduce.fadd.{lanes.suffix}"
        self.code.declares.add(f"declare {self.kind} {name}({self.kind}, {lanes.type})")
        call = f"call reassoc {self.kind} {name}({self.kind} {one.operand(start)}, {lanes.type} {x})"
        return self.code.let(call)

    def _rows(self, row: str, rows: int) -> None:
        """Some rows of the result, each one vector."""
        self._vectors((row, 0), rows, "0", [self.n])

    def _columns(self, column: str, columns: int) -> None:
        """Some columns of the result, tile by tile."""
        widths = [self.lanes] * (columns // self.lanes) + ([columns % self.lanes] if columns % self.lanes else [])
        for row in range(0, self.m, self.height):
            self._vectors(("0", row), min(self.height, self.m - row), column, widths)

    def _vectors(self, row: tuple[str, int], rows: int, column: str, widths: list[int]) -> None:
        """A tile of the result: a sum over the inner size of a column's numbers times a row's vectors."""
        kinds = [Lanes(self.kind, w) for w in widths]
        places = [(i, j) for i in range(rows) for j in range(len(kinds))]

        def add(at: str, sums: list[str]) -> list[str]:
            ys = [self._load(kind, self.b, (at, 0), (column, j * self.lanes)) for j, kind in enumerate(kinds)]
            xs = [self._load(Lanes(self.kind), self.a, (row[0], row[1] + i), (at, 0)) for i in range(rows)]
            wide = {(i, kind): self._spread(xs[i], kind) for i in range(rows) for kind in set(kinds)}
            return [
                self.code.fma(kinds[j], wide[i, kinds[j]], ys[j], s) for (i, j), s in zip(places, sums, strict=True)
            ]

        zeros = [kinds[j].constant(0.0) for _, j in places]
        sums = self._carried(self.k, [kinds[j] for _, j in places], zeros, add, 1)
        for (i, j), x in zip(places, sums, strict=True):
            self._store(kinds[j], x, self.y, (row[0], row[1] + i), (column, j * self.lanes))

    def _spread(self, x: str, lanes: Lanes) -> str:
        if lanes.width == 1:
            return x
        one = self.code.let(f"insertelement {lanes.type} poison, {self.kind} {x}, i64 0")
        zeros = f"<{lanes.width} x i32> zeroinitializer"
        return self.code.let(f"shufflevector {lanes.type} {one}, {lanes.type} poison, {zeros}")

    # ---- memory and loops

    def _address(self, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> str:
        fixed = row[1] * matrix.row + column[1] * matrix.column
        parts = [(row[0], matrix.row), (column[0], matrix.column)]
        index = str(fixed)
        for name, distance in parts:
            if name != "0":
                index = self.code.binary("add", _INDEX, self.code.binary("mul", _INDEX, name, distance), index)
        return self.code.let(f"getelementptr {self.kind}, ptr {matrix.pointer}, i64 {index}")

    def _load(self, lanes: Lanes, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> str:
        address = self._address(matrix, row, column)
        return self.code.let(f"load {lanes.type}, ptr {address}, align {self.product.dtype.itemsize}")

    def _store(self, lanes: Lanes, x: str, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> None:
        address = self._address(matrix, row, column)
        self.code.do(f"store {lanes.type} {x}, ptr {address}, align {self.product.dtype.itemsize}")

    def _loop(self, start: str, end: str, body: Callable[[str], None]) -> None:
        self._run(start, end, [], [], lambda i, _: body(i) or [])  # type: ignore[func-returns-value]

    def _carried(
        self,
        count: int,
        kinds: Lanes | list[Lanes],
        start: list[str],
        body: Callable[[str, list[str]], list[str]],
        step: int | None = None,
    ) -> list[str]:
        """Registers after `count` steps of the body, which is told where it is."""
        every = kinds if isinstance(kinds, list) else [kinds] * len(start)
        width = self.lanes if step is None else step
        if not count:
            return start
        return self._run("0", str(count), every, start, lambda i, s: body(self.code.binary("mul", _INDEX, i, width), s))

    def _run(
        self, start: str, end: str, kinds: list[Lanes], carried: list[str], body: Callable[[str, list[str]], list[str]]
    ) -> list[str]:
        code = self.code
        name, index = code.fresh("l"), code.fresh("%i")
        inside = [code.fresh("%c") for _ in carried]
        outside, code.lines = code.lines, []
        after = body(index, inside)
        lines, code.lines = code.lines, outside
        code.do(f"br label %{name}.before")
        code.label(f"{name}.before")
        code.do(f"br label %{name}.head")
        code.label(f"{name}.head")
        code.do(f"{index} = phi i64 [{start}, %{name}.before], [{index}.next, %{name}.end]")
        for kind, here, a, b in zip(kinds, inside, carried, after, strict=True):
            code.do(f"{here} = phi {kind.type} [{a}, %{name}.before], [{b}, %{name}.end]")
        code.do(f"{index}.more = icmp ult i64 {index}, {end}")
        code.do(f"br i1 {index}.more, label %{name}.body, label %{name}.after")
        code.label(f"{name}.body")
        code.lines += lines
        code.do(f"br label %{name}.end")
        code.label(f"{name}.end")
        code.do(f"{index}.next = add i64 {index}, 1")
        code.do(f"br label %{name}.head")
        code.label(f"{name}.after")
        return inside
