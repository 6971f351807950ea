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
from functools import cache
from itertools import accumulate

from ..axes import Node
from . import engine
from .calling import function, whole
from .codegen import Written
from .ir import Lanes
from .matrices import INDEX, POINTER, Matrix, MatrixCode
from .turning import Turning

DEPTH = 1024  # of a piece of the inner size at most
STRIPS = 2**19  # bytes of strips that are done together: a quarter of the second cache
PANELS = 2**22  # bytes of panels of one block of rows, and how many rows it has at least: strips are copied for each
ROWS = 504
LINE = 64  # bytes of a line of the cache
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


class Packed(Turning):
    """The text of a product."""

    def __init__(self, product: Node) -> None:
        super().__init__(product.dtype.itemsize)
        self.product = product
        m, self.k, self.n = product.shape
        self.depth = -(-even(self.k, DEPTH) // self.lanes) * self.lanes
        while 0 < self.k % self.depth < self.lanes < self.k:  # too little is left to be turned
            self.depth += self.lanes
        vectors, rows = _tile_size(*engine.registers())
        height, width = min(m, rows), vectors * self.lanes
        first, second = product.transposed
        a = Matrix("%a", 1, m) if first else Matrix("%a", self.k, 1)
        b = Matrix("%b", self.k, 1) if second else Matrix("%b", 1, self.n)
        self.rows = _Factor(a, m, height, "%panels", height * self.k)
        self.columns = _Factor(b, self.n, width, "%strips", width * self.depth)
        self.block = even(-(-m // height), max(PANELS // (self.rows.each * self.itemsize), ROWS // height))
        self.together = max(1, STRIPS // (self.columns.each * self.itemsize))

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
        pointers = [*self.product.nodes[:2], self.product]
        units = panels if self.rows.size > self.n else strips
        return Written(text, self.code.declares, pointers, [size * self.itemsize for size in sizes], units, self.calls)

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
                a = self.after(self._part(self.rows, i, panels), start, rows)

                def strip(j: str, columns: int) -> None:
                    b = self._part(self.columns, j, strips)
                    y = self.after(self.after("%y", i, self.rows.step * self.n), j, self.columns.step)
                    given = f"ptr {a}", f"ptr {b}", f"i64 {depth}", f"ptr {y}", f"i64 {self.n}", f"i1 {adds}"
                    self.call(_tile(self.itemsize, rows, (*self.widths(columns),)), *given)

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

    def _part(self, factor: _Factor, number: str, where: Range) -> str:
        """Where a part's copy is, among those of a range."""
        return self.after(factor.target, self.code.binary("sub", INDEX, number, where[0]), factor.each)

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

        def turned(number: str, size: int) -> None:
            first = self.code.binary("mul", INDEX, number, factor.step)
            self.turn(factor.matrix, first, size, start, depth, self._part(factor, number, where), size)

        if factor.matrix.row == 1:
            self.loop("0", depth, copied)
        else:
            self._each(factor, where, turned)


def _tile_size(size: int, number: int) -> tuple[int, int]:
    """The vectors in a row of a tile and its rows, for so many registers of so many bytes. Of 64 bytes, multiplications
    spread a number from memory themselves; of fewer, a register is needed for that, and then two vectors share it."""
    return (1, number - 4) if size == 64 else (2, number // 2 - 2)


@cache
def _tile(itemsize: int, rows: int, widths: tuple[int, ...]) -> str:
    """A function of where a panel and a strip are, how deep they are, where a tile of the result is, how far its rows
    are apart, and whether it is added to: sums over the inner size of a panel's numbers times a strip's vectors."""
    body = MatrixCode(itemsize)
    code, one, kinds = body.code, Lanes(body.kind), [Lanes(body.kind, width) for width in widths]
    line, starts = LINE // body.itemsize, [*accumulate(widths, initial=0)]
    places = [(i, j) for i in range(rows) for j in range(len(widths))]
    code.declares.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")

    def fetch(address: str, writes: int, cache: int) -> None:
        code.do(f"call void @llvm.prefetch.p0(ptr {address}, i32 {writes}, i32 {cache}, i32 1)")

    ys = [Matrix(body.after("%y", "%row", i), 0, 1) for i in range(rows)]
    for y in ys:
        fetch(y.pointer, 1, 2)

    def add(at: str, carried: list[str]) -> list[str]:
        panel, *sums = carried
        for number in range(0, rows, line):
            fetch(body.step(panel, AHEAD * rows + number), 0, 3)
        strip = Matrix("%strip", starts[-1], 1)
        vectors = [body.load(lanes, strip, (at, 0), ("0", start)) for lanes, start in zip(kinds, starts, strict=False)]
        numbers = [body.load(one, Matrix(panel, 1, 1), ("0", i), ("0", 0)) for i in range(rows)]
        spread = {(i, lanes): code.spread(lanes, numbers[i]) for i in range(rows) for lanes in set(kinds)}
        after = [code.fma(kinds[j], spread[i, kinds[j]], vectors[j], s) for (i, j), s in zip(places, sums, strict=True)]
        return [code.opaque(body.step(panel, rows)), *after]

    start = [code.opaque("%panel")] + [kinds[j].constant(0.0) for _, j in places]
    _, *sums = body.carried("%depth", [POINTER] + [kinds[j] for _, j in places], start, add, 1)
    masks = [code.spread(lanes.mask, "%adds") for lanes in kinds]  # of one bit's choice LLVM makes a branch for each
    for (i, j), x in zip(places, sums, strict=True):
        there = ("0", 0), ("0", starts[j])
        before = code.select(kinds[j], masks[j], body.load(kinds[j], ys[i], *there), 0.0)
        body.store(kinds[j], code.fadd(kinds[j], x, before), ys[i], *there)
    opening = "define void @NAME(ptr %panel, ptr %strip, i64 %depth, ptr %y, i64 %row, i1 %adds) {"
    return whole(f"{opening}\n{code.text()}\n  ret void\n}}\n", code.declares)
