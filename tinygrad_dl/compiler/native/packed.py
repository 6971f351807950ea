"""`Packed`: products of large matrices as text of LLVM functions, by the blocks of Goto and van de Geijn (2008, Anatomy
of high-performance matrix multiplication).

Both factors are copied into the order in which they are read. The first becomes panels of as many rows as a tile of
the result has, one number of each row after the other; the second becomes strips as wide as a vector. While all panels
pass by, some strips stay in the second cache, and each panel stays there while these do.

A tile is high and one vector wide, so each number of a panel is needed once, by one multiplication that reads it from
memory itself. Wider tiles spread a number in a register first, for several multiplications. A core that somebody else
computes on as well, as on rented machines, is short of instructions first: there a tile of 28 × 16 reaches 146 of
171 GFLOP/s, one of 14 × 32 that spreads 128, and alone on the core they are as quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..axes import Node
from .calling import function
from .codegen import Written
from .ir import Lanes
from .matrices import INDEX, POINTER, Matrix, MatrixCode, Place
from .turning import turned

HEIGHT = 28  # rows of a tile at most: with a vector of the second factor they fit in 32 registers
DEPTH = 2048  # of a piece of the inner size at most
STRIPS = 2**19  # bytes of strips that are done together: a quarter of the second cache
PANELS = 2**22  # bytes of panels of one block of rows, and how many rows it has at least: strips are copied for each
ROWS = 504
AHEAD = 16  # of the inner size, between what a tile reads and what is fetched for it

Range = tuple[str, str]


def even(size: int, most: int) -> int:
    """The size of as few parts as there have to be, all about as large."""
    return -(-size // -(-size // most))


@dataclass(slots=True)
class _Factor:
    """One that is copied in parts: rows of the first factor, columns of the second, of which each has `step` and the
    last what is left of `size`. matrix: its rows are these, its columns the inner size. target: where copies go."""

    matrix: Matrix
    size: int
    step: int
    target: str
    each: int  # elements of a part's copy


class Packed(MatrixCode):
    """The text of a product."""

    def __init__(self, product: Node) -> None:
        super().__init__(product.dtype.itemsize)
        self.product = product
        m, self.k, self.n = product.shape
        self.depth = -(-even(self.k, DEPTH) // self.lanes) * self.lanes
        height = even(m, HEIGHT)
        first, second = product.transposed
        a = Matrix("%a", 1, m) if first else Matrix("%a", self.k, 1)
        b = Matrix("%b", self.k, 1) if second else Matrix("%b", 1, self.n)
        self.rows = _Factor(a, m, height, "%panels", height * self.k)
        self.columns = _Factor(b, self.n, self.lanes, "%strips", self.lanes * self.depth)
        self.block = even(-(-m // height), max(PANELS // (self.rows.each * self.itemsize), ROWS // height))
        self.together = max(1, STRIPS // (self.columns.each * self.itemsize))
        self.helpers: dict[str, str] = {}  # functions that it calls

    def write(self) -> Written:
        """Tasks share out rows if there are more of them, else columns; each copies all of the other factor."""
        self.code.declares.add("declare i64 @llvm.umin.i64(i64, i64)")
        panels, strips = (-(-factor.size // factor.step) for factor in (self.rows, self.columns))
        mine = ("%first", "%last")
        if self.rows.size > self.n:
            self._panels(mine, ("0", str(strips)))
        else:
            self._panels(("0", str(panels)), mine)
        sizes = [self.block * self.rows.each + self.lanes, min(self.together, strips) * self.columns.each + self.lanes]
        text = function(["%a", "%b", "%y", "%panels", "%strips"], [], self.code.text())
        text += "".join(self.helpers.values())
        pointers = [*self.product.nodes[:2], self.product]
        units = panels if self.rows.size > self.n else strips
        return Written(text, self.code.declares, pointers, [size * self.itemsize for size in sizes], units)

    def _panels(self, panels: Range, strips: Range) -> None:
        """Blocks of panels, one after another."""

        def block(panels: Range) -> None:
            self._copy(self.rows, panels, "0", str(self.k))
            self._blocks(strips, self.together, lambda strips: self._strips(panels, strips))

        self._blocks(panels, self.block, block)

    def _strips(self, panels: Range, strips: Range) -> None:
        """All of a block of panels times some strips, by pieces of the inner size."""

        def piece(number: str) -> None:
            code = self.code
            start = code.binary("mul", INDEX, number, self.depth)
            left = code.binary("sub", INDEX, self.k, start)
            depth = code.let(f"call i64 @llvm.umin.i64(i64 {left}, i64 {self.depth})")
            adds = "true" if self.product.shows is not None else code.icmp("ne", INDEX, number, 0)
            self._copy(self.columns, strips, start, depth)

            def panel(i: str, rows: int) -> None:
                a = self._after(self._part(self.rows, i, panels), start, rows)

                def strip(j: str, columns: int) -> None:
                    b = self._part(self.columns, j, strips)
                    y = self.step(
                        self._after("%y", i, self.rows.step * self.n), code.binary("mul", INDEX, j, self.lanes)
                    )
                    name = self._tile(rows, columns)
                    code.do(f"call void {name}(ptr {a}, ptr {b}, i64 {depth}, ptr {y}, i1 {adds})")

                self._each(self.columns, strips, strip)

            self._each(self.rows, panels, panel)

        self.loop("0", str(-(-self.k // self.depth)), piece)

    # ---- parts

    def _blocks(self, where: Range, step: int, body: Callable[[Range], None]) -> None:
        """A range, so many at a time."""
        code, (start, end) = self.code, where
        above = code.binary("add", INDEX, code.binary("sub", INDEX, end, start), step - 1)

        def block(number: str) -> None:
            first = code.binary("add", INDEX, start, code.binary("mul", INDEX, number, step))
            last = code.binary("add", INDEX, first, step)
            body((first, code.let(f"call i64 @llvm.umin.i64(i64 {last}, i64 {end})")))

        self.loop("0", code.binary("udiv", INDEX, above, step), block)

    def _each(self, factor: _Factor, where: Range, body: Callable[[str, int], None]) -> None:
        """Every part in a range, and how many rows or columns it has."""
        full, rest = divmod(factor.size, factor.step)
        most = self.code.let(f"call i64 @llvm.umin.i64(i64 {where[1]}, i64 {full})")
        self.loop(where[0], most, lambda i: body(i, factor.step))
        if rest:
            self.loop(str(full), where[1], lambda i: body(i, rest))

    def _after(self, pointer: str, number: str, size: int) -> str:
        """Behind so many things of a size."""
        return self.step(pointer, self.code.binary("mul", INDEX, number, size))

    def _part(self, factor: _Factor, number: str, where: Range) -> str:
        """Where a part's copy is, among those of a range."""
        return self._after(factor.target, self.code.binary("sub", INDEX, number, where[0]), factor.each)

    # ---- copies

    def _copy(self, factor: _Factor, where: Range, start: str, depth: str) -> None:
        """A piece of the inner size of some parts, a number of each row or column of a part after the other."""

        def copied(at: str) -> None:
            inner = self.code.binary("add", INDEX, at, start)

            def part(number: str, size: int) -> None:
                lanes, first = Lanes(self.kind, size), self.code.binary("mul", INDEX, number, factor.step)
                x = self.load(lanes, factor.matrix, (first, 0), (inner, 0))
                self.store(lanes, x, Matrix(self._part(factor, number, where), size, 1), (at, 0), ("0", 0))

            self._each(factor, where, part)

        if factor.matrix.row == 1:
            self.loop("0", depth, copied)
        else:
            self._each(
                factor, where, lambda i, size: self._turned(factor, i, size, self._part(factor, i, where), start, depth)
            )

    def _turned(self, factor: _Factor, number: str, size: int, target: str, start: str, depth: str) -> None:
        """Rows of a part as columns. What is written beyond them is written over next, so the last ones come first."""
        code, first = self.code, self.code.binary("mul", INDEX, number, factor.step)
        whole, rest = (code.binary(f"u{verb}", INDEX, depth, self.lanes) for verb in ("div", "rem"))
        end = code.binary("add", INDEX, whole, code.let(f"zext i1 {code.icmp('ne', INDEX, rest, 0)} to i64"))
        for row in reversed(range(0, size, self.lanes)):
            rows = min(self.lanes, size - row)
            block = partial(self._turned_block, factor, (first, row), (rows, size), start, target)
            self.loop("0", whole, partial(block, self.lanes))
            if self.k % self.lanes:
                self.loop(whole, end, partial(block, self.k % self.lanes))

    def _turned_block(
        self, factor: _Factor, corner: Place, sizes: tuple[int, int], start: str, target: str, columns: int, i: str
    ) -> None:
        """Some rows of a part, of which all are so many, in the i-th columns that a vector holds."""
        code, (rows, size) = self.code, sizes
        name = f"@NAME.turn{rows}x{columns}.{factor.matrix.row}.{size}"
        if name not in self.helpers:
            self.helpers[name] = turned(name, self.kind, self.lanes, rows, columns, (factor.matrix.row, size))
        at = code.binary("mul", INDEX, i, self.lanes)
        source = self.address(factor.matrix, corner, (code.binary("add", INDEX, at, start), 0))
        code.do(f"call void {name}(ptr {source}, ptr {self.step(self._after(target, at, size), corner[1])})")

    # ---- tiles

    def _tile(self, rows: int, columns: int) -> str:
        """The symbol of the function of a tile."""
        name = f"@NAME.tile{rows}x{columns}"
        if name not in self.helpers:
            tile = _Tile(self.itemsize, rows, columns, self.n)
            self.helpers[name] = tile.write(name)
            self.code.declares |= tile.code.declares
        return name


class _Tile(MatrixCode):
    """Sums over the inner size of a panel's numbers times a strip's vectors."""

    def __init__(self, itemsize: int, rows: int, columns: int, row: int) -> None:
        super().__init__(itemsize)
        self.rows, self.wide, self.y = rows, Lanes(self.kind, columns), Matrix("%y", row, 1)

    def write(self, name: str) -> str:
        code, wide, rows = self.code, self.wide, range(self.rows)
        strip = Matrix("%strip", wide.width, 1)
        for i in rows:
            self._fetch(self.address(self.y, ("0", i), ("0", 0)), writes=1, cache=2)

        def add(at: str, carried: list[str]) -> list[str]:
            panel, *sums = carried
            for line in range(0, self.rows, self.lanes):
                self._fetch(self.step(panel, AHEAD * self.rows + line), writes=0, cache=3)
            vector = self.load(wide, strip, (at, 0), ("0", 0))
            numbers = [self.load(Lanes(self.kind), Matrix(panel, 1, 1), ("0", i), ("0", 0)) for i in rows]
            after = [code.fma(wide, code.spread(wide, x), vector, s) for x, s in zip(numbers, sums, strict=True)]
            return [code.opaque(self.step(panel, self.rows)), *after]

        start = [code.opaque("%panel")] + [wide.constant(0.0)] * self.rows
        _, *sums = self.carried("%depth", [POINTER] + [wide] * self.rows, start, add, 1)
        for i, x in zip(rows, sums, strict=True):
            y = code.fadd(wide, x, self.load(wide, self.y, ("0", i), ("0", 0)))
            self.store(wide, code.let(f"select i1 %adds, {wide.type} {y}, {wide.type} {x}"), self.y, ("0", i), ("0", 0))
        opening = f"define void {name}(ptr %panel, ptr %strip, i64 %depth, ptr %y, i1 %adds) {{"
        return f"{opening}\n{code.text()}\n  ret void\n}}\n"

    def _fetch(self, address: str, writes: int, cache: int) -> None:
        self.code.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.code.do(f"call void @llvm.prefetch.p0(ptr {address}, i32 {writes}, i32 {cache}, i32 1)")
