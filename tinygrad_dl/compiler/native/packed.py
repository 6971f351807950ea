"""`Packed`: products of large matrices as text of LLVM functions, by the blocks of Goto and van de Geijn (2008, Anatomy
of high-performance matrix multiplication).

Both factors are copied into the order in which they are read. The first becomes panels of as many rows as a tile of
the result has, one number of each row after the other; the second becomes strips as wide as a vector. While all panels
pass by, some strips stay in the second cache, and each panel stays there while these do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from ..axes import Node
from .calling import Written, function, whole
from .ir import INDEX, Lanes
from .matrices import Matrix
from .tiles import Tiles, tile_size
from .turning import Turning

DEPTH = 1024  # of a piece of the inner size at most
STRIPS = 2**19  # bytes of strips that are done together: a quarter of the second cache
PANELS = 2**22  # bytes of panels of one block of rows, for each of which strips are copied
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

    def __init__(self, node: Node) -> None:
        super().__init__(node.dtype.itemsize)
        self.node = node
        m, self.k, self.n = node.product.shape
        self.depth = -(-even(self.k, DEPTH) // self.lanes) * self.lanes
        while 0 < self.k % self.depth < self.lanes < self.k:  # too little is left to be turned
            self.depth += self.lanes
        vectors, rows = tile_size()
        height, width = min(m, rows), vectors * self.lanes
        first, second = node.product.transposed
        far_a, far_b, self.far = node.product.apart
        a = Matrix("%a", 1, far_a) if first else Matrix("%a", far_a, 1)
        b = Matrix("%b", far_b, 1) if second else Matrix("%b", 1, far_b)
        self.rows = _Factor(a, m, height, "%panels", height * self.depth)
        self.columns = _Factor(b, self.n, width, "%strips", width * self.depth)
        self.block = even(-(-m // height), PANELS // (self.rows.each * self.itemsize))
        self.together = max(1, STRIPS // (self.columns.each * self.itemsize))

    def write(self) -> Written:
        """Tasks share out rows if there are more of them, else columns; each copies all of the other factor."""
        panels, strips = (-(-factor.size // factor.step) for factor in (self.rows, self.columns))
        mine = ("%first", "%last")
        if self.rows.size > self.n:
            self._panels(mine, ("0", str(strips)))
        else:
            self._panels(("0", str(panels)), mine)
        sizes = [self.block * self.rows.each + self.lanes, min(self.together, strips) * self.columns.each + self.lanes]
        text = function(["%a", "%b", "%y", "%panels", "%strips"], [], self.code.text())
        pointers = [*self.node.nodes[:2], self.node]
        units = panels if self.rows.size > self.n else strips
        return Written(text, self.code.declares, pointers, [size * self.itemsize for size in sizes], units, self.calls)

    def _panels(self, panels: Range, strips: Range) -> None:
        """Blocks of panels, one after another, and pieces of the inner size."""

        def block(panels: Range) -> None:
            def piece(number: str) -> None:
                start = self.code.binary("mul", INDEX, number, self.depth)
                left = self.code.binary("sub", INDEX, str(self.k), start)
                depth = self.code.intrinsic("umin", INDEX, left, self.depth)
                self._copy(self.rows, panels, start, depth)
                self._blocks(strips, self.together, lambda strips: self._strips(panels, strips, start, depth))

            self.loop("0", str(-(-self.k // self.depth)), piece)

        self._blocks(panels, self.block, block)

    def _strips(self, panels: Range, strips: Range, start: str, depth: str) -> None:
        """A piece of a block of panels times that of some strips."""
        self._copy(self.columns, strips, start, depth)
        adds = "true" if self.node.shows is not None else self.code.icmp("ne", INDEX, start, 0)

        def panel(i: str, rows: int) -> None:
            a = self._part(self.rows, i, panels)

            def strip(j: str, columns: int) -> None:
                b = self._part(self.columns, j, strips)
                y = self.after(self.after("%y", i, self.rows.step * self.far), j, self.columns.step)
                given = f"ptr {a}", f"ptr {b}", f"i64 {depth}", f"ptr {y}", f"i64 {self.far}", f"i1 {adds}"
                self.call(_tile(self.itemsize, rows, columns), *given)

            self._each(self.columns, strips, strip)

        self._each(self.rows, panels, panel)

    # ---- parts

    def _blocks(self, where: Range, step: int, body: Callable[[Range], None]) -> None:
        """A range, so many at a time."""
        code, (start, end) = self.code, where
        above = code.binary("add", INDEX, code.binary("sub", INDEX, end, start), step - 1)

        def block(number: str) -> None:
            first = code.binary("add", INDEX, start, code.binary("mul", INDEX, number, step))
            last = code.binary("add", INDEX, first, step)
            body((first, code.intrinsic("umin", INDEX, last, end)))

        self.loop("0", code.binary("udiv", INDEX, above, step), block)

    def _each(self, factor: _Factor, where: Range, body: Callable[[str, int], None]) -> None:
        """Every part in a range, and how many rows or columns it has."""
        full, rest = divmod(factor.size, factor.step)
        most = self.code.intrinsic("umin", INDEX, where[1], full)
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


@cache
def _tile(itemsize: int, rows: int, columns: int) -> str:
    """A function of where a panel and a strip are, how deep they are, where a tile of the result is, how far its rows
    are apart, and whether it is added to."""
    body = Tiles(itemsize)
    code, kinds = body.code, body.kinds(columns)
    ys = [Matrix(body.after("%y", "%row", i), 0, 1) for i in range(rows)]
    for y in ys:
        code.fetch(y.pointer, writes=True, cache=2)
    panel, strip = Matrix("%panel", 1, rows), Matrix("%strip", columns, 1)
    start = [lanes.constant(0.0) for _ in ys for lanes in kinds]
    sums = iter(body.tile(panel, rows, strip, ("0", 0), columns, "%depth", start, AHEAD))
    masks = [code.spread(lanes.mask, "%adds") for lanes in kinds]  # of one bit's choice LLVM makes a branch for each
    for y in ys:
        for j, (lanes, mask) in enumerate(zip(kinds, masks, strict=True)):
            place = ("0", 0), ("0", j * body.lanes)
            before = code.select(lanes, mask, body.load(lanes, y, *place), 0.0)
            body.store(lanes, code.fadd(lanes, next(sums), before), y, *place)
    opening = "define void @NAME(ptr %panel, ptr %strip, i64 %depth, ptr %y, i64 %row, i1 %adds) {"
    return whole(f"{opening}\n{code.text()}\n  ret void\n}}\n", code.declares)
