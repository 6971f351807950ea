"""`write_product`: matrix products of up to middle size as text of LLVM functions; OpenBLAS does the others.

Where a classifier's last layer has 10 columns, OpenBLAS runs at a third of its speed, and in small layers a transposed
second factor costs it time (`python -m benchmarks products`). Above some 60 million multiplications it is faster.

Results are tiles in registers: of dot products along the inner size where the result has few columns and both factors
lie so, else of vectors along the columns. A height that divides the rows leaves no second kind of tile to compile. Of
large factors, a strip of the second is copied to be contiguous, turned if it lies transposed, and the inner size and
the rows are cut so that what is read again stays in the second cache (Goto and van de Geijn 2008, Anatomy of
high-performance matrix multiplication). Like kernels, products take a range of rounds of their outer loop, so that
threads can share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..axes import Node
from .calling import function
from .codegen import Written
from .dots import Dots
from .ir import Lanes
from .matrices import INDEX, Matrix
from .turning import turned

NARROW = 16  # columns at most of a tile of dot products
LARGEST = 2**26  # multiplications: 512 × 784 × 2048 runs at 124 GFLOP/s here, and at 140 in OpenBLAS
DIRECT = 2**15  # elements of a second factor that is small enough to be read where it lies
DEPTH = 384  # of a piece of the inner size at most: a strip of it is 48 KB
BLOCKS = 40  # tiles of rows that are done for one strip after another: their part of the first factor is 800 KB
_REGISTERS = 24  # that hold a tile


def is_ours(product: Node) -> bool:
    """Is it computed here? What has both factors transposed is OpenBLAS's in any case."""
    m, k, n = product.shape
    return not all(product.transposed) and m * k * n <= LARGEST


def write_product(product: Node) -> Written:
    """The text of a product."""
    return _Writer(product).write()


@dataclass(slots=True)
class _Piece:
    """A part of the inner size. is_first: a register that says so, None if it is all there is. rest: what is left of
    the inner size behind whole vectors; last: 1 for the piece that has it, else 0."""

    start: str
    depth: str
    is_first: str | None
    rest: int
    last: str | None


def _even(size: int, most: int) -> int:
    """The size of as few parts as there have to be, all about as large."""
    return -(-size // -(-size // most))


class _Writer(Dots):
    def __init__(self, product: Node) -> None:
        super().__init__(product.dtype.itemsize)
        self.product = product
        self.helpers: dict[str, str] = {}  # functions that it calls
        self.m, self.k, self.n = product.shape
        first, second = product.transposed
        self.a = Matrix("%a", 1, self.m) if first else Matrix("%a", self.k, 1)
        self.b = Matrix("%b", 1, self.k) if second else Matrix("%b", self.n, 1)
        self.y = Matrix("%y", self.n, 1)
        self.adds = product.shows is not None
        self.along = second and min(self.m, self.n) <= NARROW  # the inner size
        if self.along and self.n > NARROW:  # it is the transposed product that has few columns
            self.y = Matrix("%y", 1, self.n)
            self.a, self.b = Matrix("%b", self.k, 1), Matrix("%a", 1, self.k)
            self.m, self.n = self.n, self.m
        self.copies = not self.along and (second or self.n * self.k > DIRECT)
        self.height, self.width = self._tile()
        self.strip = self.width * self.lanes

    def _tile(self) -> tuple[int, int]:
        """Rows and columns of a tile; columns are vectors where the loop does not run along the inner size."""
        if self.along:
            columns = _even(self.n, 6)
            return _even(self.m, _REGISTERS // (columns + 1)), columns
        vectors = 2 if self.n > self.lanes else 1
        most = _REGISTERS // 2
        fitting = (height for height in range(most, most // 2, -1) if self.m % height == 0)
        return next(fitting, _even(self.m, most)), vectors

    def write(self) -> Written:
        self.code.declares.add("declare i64 @llvm.umin.i64(i64, i64)")
        by_rows = self.along or self.n <= self.lanes
        size, step = (self.m, self.height) if by_rows else (self.n, self.strip)
        if self.along:
            self.ranged(size, step, self.dots)
        elif by_rows and not self.copies:
            whole = _Piece("0", str(self.k), None, 0, None)
            self.ranged(
                size, step, lambda row, rows: self._vectors((row, 0), rows, ("0", 0), [self.n], self.b, whole, ("0", 0))
            )
        else:
            self._panels()
            size, step = self.n, self.strip
        depth = _even(self.k, DEPTH) + self.lanes
        scratch = [depth * self.strip * self.itemsize] if self.copies else []
        text = function(["%a", "%b", "%y", *["%s0"] * self.copies], [], self.code.text())
        text += "".join(self.helpers.values())
        pointers = [*self.product.nodes[:2], self.product]
        return Written(text, self.code.declares, pointers, scratch, -(-size // step))

    # ---- panels

    def _panels(self) -> None:
        """The result by pieces of the inner size, blocks of rows, strips of columns and tiles, from the outside."""
        if self.k <= DEPTH:
            self._piece(_Piece("0", str(self.k), None, self.k % self.lanes, None))
            return
        depth = _even(self.k, DEPTH)
        depth += -depth % self.lanes

        def piece(number: str) -> None:
            code = self.code
            start = code.binary("mul", INDEX, number, depth)
            left = code.binary("sub", INDEX, self.k, start)
            length = code.let(f"call i64 @llvm.umin.i64(i64 {left}, i64 {depth})")
            last = code.let(f"zext i1 {code.icmp('ule', INDEX, left, depth)} to i64")
            self._piece(_Piece(start, length, code.icmp("eq", INDEX, number, 0), self.k % self.lanes, last))

        self.loop("0", str(-(-self.k // depth)), piece)

    def _piece(self, piece: _Piece) -> None:
        full, rest = divmod(self.m, self.height)
        if full:
            self.loop("0", str(-(-full // BLOCKS)), partial(self._block, full, piece))
        if rest:
            self.ranged(self.n, self.strip, partial(self._strip, piece, ("0", full * self.height), rest))

    def _block(self, full: int, piece: _Piece, number: str) -> None:
        """A block of tiles of full height: of one strip of columns after another."""
        code = self.code
        start = code.binary("mul", INDEX, number, BLOCKS)
        end = code.let(f"call i64 @llvm.umin.i64(i64 {code.binary('add', INDEX, start, BLOCKS)}, i64 {full})")
        self.ranged(self.n, self.strip, partial(self._strip, piece, (start, end), self.height))

    def _strip(
        self, piece: _Piece, where: tuple[str, int] | tuple[str, str], rows: int, column: str, columns: int
    ) -> None:
        """Some columns of one tile, or of a range of tiles."""
        widths = [self.lanes] * (columns // self.lanes) + ([columns % self.lanes] if columns % self.lanes else [])
        b, place = self.b, (column, 0)
        if self.copies:
            (self._turn if self.b.row == 1 else self._copy)(column, widths, piece)
            b, place = Matrix("%s0", self.strip, 1), ("0", 0)

        def tile(row: tuple[str, int]) -> None:
            self._vectors(row, rows, (column, 0), widths, b, piece, place)

        start, end = where
        if isinstance(end, str):
            self.loop(start, end, lambda i: tile((self.code.binary("mul", INDEX, i, rows), 0)))
        else:
            tile((start, end))

    def _copy(self, column: str, widths: list[int], piece: _Piece) -> None:
        """A strip of the second factor, made contiguous."""
        target = Matrix("%s0", self.strip, 1)

        def row(i: str) -> None:
            at = self.code.binary("add", INDEX, i, piece.start)
            for j, width in enumerate(widths):
                lanes = Lanes(self.kind, width)
                x = self.load(lanes, self.b, (at, 0), (column, j * self.lanes))
                self.store(lanes, x, target, (i, 0), ("0", j * self.lanes))

        self.loop("0", piece.depth, row)

    def _turn(self, column: str, widths: list[int], piece: _Piece) -> None:
        """A strip of the second factor, of which a column is contiguous in memory, as contiguous rows."""
        code, size = self.code, self.lanes

        def block(at: str, length: int) -> None:
            row = code.binary("add", INDEX, at, piece.start)
            for j, width in enumerate(widths):
                name = f"@NAME.turn{width}x{length}"
                if name not in self.helpers:
                    self.helpers[name] = turned(name, self.kind, size, width, length, (self.k, self.strip))
                source = self.address(self.b, (row, 0), (column, j * size))
                target = self.address(Matrix("%s0", self.strip, 1), (at, 0), ("0", j * size))
                code.do(f"call void {name}(ptr {source}, ptr {target})")

        whole = code.binary("udiv", INDEX, piece.depth, size)
        self.loop("0", whole, lambda i: block(code.binary("mul", INDEX, i, size), size))
        if piece.rest:
            behind = code.binary("mul", INDEX, whole, size)
            self.loop("0", piece.last or "1", lambda _: block(behind, piece.rest))

    # ---- tiles

    def _vectors(
        self,
        row: tuple[str, int],
        rows: int,
        column: tuple[str, int],
        widths: list[int],
        b: Matrix,
        piece: _Piece,
        place: tuple[str, int],
    ) -> None:
        """A tile of the result: a sum over a piece of the inner size of a column's numbers times a row's vectors, which
        stand at `place` of b. Pieces after the first add to what is there."""
        code, kinds = self.code, [Lanes(self.kind, w) for w in widths]
        places = [(i, j) for i in range(rows) for j in range(len(kinds))]

        def add(at: str, sums: list[str]) -> list[str]:
            inner = at if piece.start == "0" else code.binary("add", INDEX, at, piece.start)
            first = inner if b is self.b else at
            ys = [self.load(kind, b, (first, 0), (place[0], place[1] + j * self.lanes)) for j, kind in enumerate(kinds)]
            xs = [self.load(Lanes(self.kind), self.a, (row[0], row[1] + i), (inner, 0)) for i in range(rows)]
            wide = {(i, kind): code.spread(kind, xs[i]) for i in range(rows) for kind in set(kinds)}
            return [code.fma(kinds[j], wide[i, kinds[j]], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        def at(i: int, j: int) -> tuple[tuple[str, int], tuple[str, int]]:
            return (row[0], row[1] + i), (column[0], column[1] + j * self.lanes)

        before = [kinds[j].constant(0.0) for _, j in places]
        if self.adds or piece.is_first is not None:
            there = [self.load(kinds[j], self.y, *at(i, j)) for i, j in places]
            if not self.adds:
                pairs = zip(places, before, there, strict=True)
                there = [
                    code.let(f"select i1 {piece.is_first}, {kinds[j].type} {zero}, {kinds[j].type} {y}")
                    for (_, j), zero, y in pairs
                ]
            before = there
        sums = self.carried(piece.depth, [kinds[j] for _, j in places], before, add, 1)
        for (i, j), x in zip(places, sums, strict=True):
            self.store(kinds[j], x, self.y, *at(i, j))
