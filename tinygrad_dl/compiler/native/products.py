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

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..axes import Node
from .calling import function
from .codegen import Written
from .ir import Code, Lanes
from .turning import turned

NARROW = 16  # columns at most of a tile of dot products
LARGEST = 2**26  # multiplications: 512 × 784 × 2048 runs at 124 GFLOP/s here, and at 140 in OpenBLAS
DIRECT = 2**15  # elements of a second factor that is small enough to be read where it lies
DEPTH = 384  # of a piece of the inner size at most: a strip of it is 48 KB
BLOCKS = 40  # tiles of rows that are done for one strip after another: their part of the first factor is 800 KB
_REGISTERS = 24  # that hold a tile
_INDEX = Lanes("i64")


def is_ours(product: Node) -> bool:
    """Is it computed here? What has both factors transposed is OpenBLAS's in any case."""
    m, k, n = product.shape
    return not all(product.transposed) and m * k * n <= LARGEST


def write_product(product: Node) -> Written:
    """The text of a product."""
    return _Writer(product).write()


@dataclass(slots=True)
class _Matrix:
    """A pointer, and the distances between rows and between columns."""

    pointer: str
    row: int
    column: int


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


class _Writer:
    def __init__(self, product: Node) -> None:
        self.product, self.code = product, Code()
        self.helpers: dict[str, str] = {}  # functions that it calls
        self.corners: dict[tuple[str, str, str], str] = {}  # addresses that are known where the text has come to
        self.m, self.k, self.n = product.shape
        first, second = product.transposed
        self.kind = "float" if product.dtype.itemsize == 4 else "double"
        self.lanes = 64 // product.dtype.itemsize
        self.a = _Matrix("%a", 1, self.m) if first else _Matrix("%a", self.k, 1)
        self.b = _Matrix("%b", 1, self.k) if second else _Matrix("%b", self.n, 1)
        self.y = _Matrix("%y", self.n, 1)
        self.adds = product.shows is not None
        self.along = second and min(self.m, self.n) <= NARROW  # the inner size
        if self.along and self.n > NARROW:  # it is the transposed product that has few columns
            self.y = _Matrix("%y", 1, self.n)
            self.a, self.b = _Matrix("%b", self.k, 1), _Matrix("%a", 1, self.k)
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
            self._range(size, step, self._dots)
        elif by_rows and not self.copies:
            whole = _Piece("0", str(self.k), None, 0, None)
            self._range(
                size, step, lambda row, rows: self._vectors((row, 0), rows, ("0", 0), [self.n], self.b, whole, ("0", 0))
            )
        else:
            self._panels()
            size, step = self.n, self.strip
        depth = _even(self.k, DEPTH) + self.lanes
        scratch = [depth * self.strip * self.product.dtype.itemsize] if self.copies else []
        text = function(["%a", "%b", "%y", *["%s0"] * self.copies], [], self.code.text())
        text += "".join(self.helpers.values())
        pointers = [*self.product.nodes[:2], self.product]
        return Written(text, self.code.declares, pointers, scratch, -(-size // step))

    def _range(self, size: int, step: int, body: Callable[[str, int], None]) -> None:
        """Rounds first to last of an outer loop over so many rows or columns, of which each takes a step."""
        full, rest = divmod(size, step)
        code = self.code
        if full:
            end = code.let(f"call i64 @llvm.umin.i64(i64 %last, i64 {full})")
            self._loop("%first", end, lambda i: body(code.binary("mul", _INDEX, i, step), step))
        if rest:
            behind = code.let(f"icmp ugt i64 %last, {full}")
            once = code.let(f"zext i1 {behind} to i64")
            self._loop("0", once, lambda _: body(str(full * step), rest))

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
            start = code.binary("mul", _INDEX, number, depth)
            left = code.binary("sub", _INDEX, self.k, start)
            length = code.let(f"call i64 @llvm.umin.i64(i64 {left}, i64 {depth})")
            last = code.let(f"zext i1 {code.icmp('ule', _INDEX, left, depth)} to i64")
            self._piece(_Piece(start, length, code.icmp("eq", _INDEX, number, 0), self.k % self.lanes, last))

        self._loop("0", str(-(-self.k // depth)), piece)

    def _piece(self, piece: _Piece) -> None:
        full, rest = divmod(self.m, self.height)
        if full:
            self._loop("0", str(-(-full // BLOCKS)), partial(self._block, full, piece))
        if rest:
            self._range(self.n, self.strip, partial(self._strip, piece, ("0", full * self.height), rest))

    def _block(self, full: int, piece: _Piece, number: str) -> None:
        """A block of tiles of full height: of one strip of columns after another."""
        code = self.code
        start = code.binary("mul", _INDEX, number, BLOCKS)
        end = code.let(f"call i64 @llvm.umin.i64(i64 {code.binary('add', _INDEX, start, BLOCKS)}, i64 {full})")
        self._range(self.n, self.strip, partial(self._strip, piece, (start, end), self.height))

    def _strip(
        self, piece: _Piece, where: tuple[str, int] | tuple[str, str], rows: int, column: str, columns: int
    ) -> None:
        """Some columns of one tile, or of a range of tiles."""
        widths = [self.lanes] * (columns // self.lanes) + ([columns % self.lanes] if columns % self.lanes else [])
        b, place = self.b, (column, 0)
        if self.copies:
            (self._turn if self.b.row == 1 else self._copy)(column, widths, piece)
            b, place = _Matrix("%s0", self.strip, 1), ("0", 0)

        def tile(row: tuple[str, int]) -> None:
            self._vectors(row, rows, (column, 0), widths, b, piece, place)

        start, end = where
        if isinstance(end, str):
            self._loop(start, end, lambda i: tile((self.code.binary("mul", _INDEX, i, rows), 0)))
        else:
            tile((start, end))

    def _copy(self, column: str, widths: list[int], piece: _Piece) -> None:
        """A strip of the second factor, made contiguous."""
        target = _Matrix("%s0", self.strip, 1)

        def row(i: str) -> None:
            at = self.code.binary("add", _INDEX, i, piece.start)
            for j, width in enumerate(widths):
                lanes = Lanes(self.kind, width)
                x = self._load(lanes, self.b, (at, 0), (column, j * self.lanes))
                self._store(lanes, x, target, (i, 0), ("0", j * self.lanes))

        self._loop("0", piece.depth, row)

    def _turn(self, column: str, widths: list[int], piece: _Piece) -> None:
        """A strip of the second factor, of which a column is contiguous in memory, as contiguous rows."""
        code, size = self.code, self.lanes

        def block(at: str, length: int) -> None:
            row = code.binary("add", _INDEX, at, piece.start)
            for j, width in enumerate(widths):
                name = f"@NAME.turn{width}x{length}"
                if name not in self.helpers:
                    self.helpers[name] = turned(name, self.kind, size, width, length, (self.k, self.strip))
                source = self._address(self.b, (row, 0), (column, j * size))
                target = self._address(_Matrix("%s0", self.strip, 1), (at, 0), ("0", j * size))
                code.do(f"call void {name}(ptr {source}, ptr {target})")

        whole = code.binary("udiv", _INDEX, piece.depth, size)
        self._loop("0", whole, lambda i: block(code.binary("mul", _INDEX, i, size), size))
        if piece.rest:
            behind = code.binary("mul", _INDEX, whole, size)
            self._loop("0", piece.last or "1", lambda _: block(behind, piece.rest))

    # ---- tiles

    def _dots(self, row: str, rows: int) -> None:
        """Some rows of the result, tile by tile."""
        full, rest = divmod(self.n, self.width)
        end = str(full)
        self._loop("0", end, lambda i: self._tile_of_dots(row, rows, self.code.binary("mul", _INDEX, i, self.width)))
        if rest:
            self._tile_of_dots(row, rows, str(full * self.width), rest)

    def _tile_of_dots(self, row: str, rows: int, column: str, columns: int | None = None) -> None:
        one = Lanes(self.kind)
        places = [(i, j) for i in range(rows) for j in range(columns or self.width)]
        vectors = self._multiplied((row, column), places)
        for start in range(0, len(places), self.lanes):
            sums = self._summed(vectors[start : start + self.lanes])
            for number, (i, j) in enumerate(places[start : start + self.lanes]):
                x = self.code.let(f"extractelement <{self.lanes} x {self.kind}> {sums}, i64 {number}")
                if self.adds:
                    x = self.code.fadd(one, x, self._load(one, self.y, (row, i), (column, j)))
                self._store(one, x, self.y, (row, i), (column, j))

    def _multiplied(self, corner: tuple[str, str], places: list[tuple[int, int]]) -> list[str]:
        """For each place of a tile a vector, whose lanes add up to it."""
        lanes, left = Lanes(self.kind, self.lanes), self.k % self.lanes
        row, column = corner

        def add(at: tuple[str, int], lanes: Lanes, sums: list[str]) -> list[str]:
            xs = {i: self._load(lanes, self.a, (row, i), at) for i in dict(places)}
            ys = {j: self._load(lanes, self.b, at, (column, j)) for j in {j: i for i, j in places}}
            return [self.code.fma(lanes, xs[i], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        zeros = [lanes.constant(0.0)] * len(places)
        sums = self._carried(str(self.k // self.lanes), lanes, zeros, lambda at, s: add((at, 0), lanes, s))
        if left:
            part = Lanes(self.kind, left)
            rest = add(("0", self.k - left), part, [part.constant(0.0)] * len(places))
            wide = [self._widened(part, lanes, x) for x in rest]
            sums = [self.code.fadd(lanes, x, y) for x, y in zip(sums, wide, strict=True)]
        return sums

    def _widened(self, part: Lanes, lanes: Lanes, x: str) -> str:
        """With zeros behind."""
        if part.width == 1:
            return self.code.let(f"insertelement {lanes.type} zeroinitializer, {part.kind} {x}, i64 0")
        chosen = ", ".join(f"i32 {min(i, part.width)}" for i in range(lanes.width))
        return self.code.let(
            f"shufflevector {part.type} {x}, {part.type} zeroinitializer, <{lanes.width} x i32> <{chosen}>"
        )

    def _summed(self, vectors: list[str]) -> str:
        """A vector of the sums of each one's lanes: of two vectors the halves are added, then their halves."""
        lanes = Lanes(self.kind, self.lanes)
        half = self.lanes // 2
        found = vectors + [lanes.constant(0.0)] * (self.lanes - len(vectors))
        while half:
            parts: list[list[int]] = [[], []]
            for start in range(0, lanes.width, 2 * half):
                for n, part in enumerate(parts):
                    own = [start + n * half + i for i in range(half)]
                    part += [*own, *(i + lanes.width for i in own)]
            found = [self._halves(lanes, x, y, parts) for x, y in zip(found[:half], found[half:], strict=True)]
            half //= 2
        return found[0]

    def _halves(self, lanes: Lanes, x: str, y: str, parts: list[list[int]]) -> str:
        masks = (", ".join(f"i32 {i}" for i in part) for part in parts)
        text = f"shufflevector {lanes.type} {x}, {lanes.type} {y}, <{lanes.width} x i32>"
        first, second = (self.code.let(f"{text} <{mask}>") for mask in masks)
        return self.code.fadd(lanes, first, second)

    def _vectors(
        self,
        row: tuple[str, int],
        rows: int,
        column: tuple[str, int],
        widths: list[int],
        b: _Matrix,
        piece: _Piece,
        place: tuple[str, int],
    ) -> None:
        """A tile of the result: a sum over a piece of the inner size of a column's numbers times a row's vectors, which
        stand at `place` of b. Pieces after the first add to what is there."""
        code, kinds = self.code, [Lanes(self.kind, w) for w in widths]
        places = [(i, j) for i in range(rows) for j in range(len(kinds))]

        def add(at: str, sums: list[str]) -> list[str]:
            inner = at if piece.start == "0" else code.binary("add", _INDEX, at, piece.start)
            first = inner if b is self.b else at
            ys = [
                self._load(kind, b, (first, 0), (place[0], place[1] + j * self.lanes)) for j, kind in enumerate(kinds)
            ]
            xs = [self._load(Lanes(self.kind), self.a, (row[0], row[1] + i), (inner, 0)) for i in range(rows)]
            wide = {(i, kind): self._spread(xs[i], kind) for i in range(rows) for kind in set(kinds)}
            return [code.fma(kinds[j], wide[i, kinds[j]], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        def at(i: int, j: int) -> tuple[tuple[str, int], tuple[str, int]]:
            return (row[0], row[1] + i), (column[0], column[1] + j * self.lanes)

        before = [kinds[j].constant(0.0) for _, j in places]
        if self.adds or piece.is_first is not None:
            there = [self._load(kinds[j], self.y, *at(i, j)) for i, j in places]
            if not self.adds:
                pairs = zip(places, before, there, strict=True)
                there = [
                    code.let(f"select i1 {piece.is_first}, {kinds[j].type} {zero}, {kinds[j].type} {y}")
                    for (_, j), zero, y in pairs
                ]
            before = there
        sums = self._carried(piece.depth, [kinds[j] for _, j in places], before, add, 1)
        for (i, j), x in zip(places, sums, strict=True):
            self._store(kinds[j], x, self.y, *at(i, j))

    def _spread(self, x: str, lanes: Lanes) -> str:
        if lanes.width == 1:
            return x
        one = self.code.let(f"insertelement {lanes.type} poison, {self.kind} {x}, i64 0")
        zeros = f"<{lanes.width} x i32> zeroinitializer"
        return self.code.let(f"shufflevector {lanes.type} {one}, {lanes.type} poison, {zeros}")

    # ---- memory and loops

    def _address(self, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> str:
        """Of an element: from the corner that registers name, which is looked for once, by a number of elements."""
        key = matrix.pointer, row[0], column[0]
        if key not in self.corners:
            index = "0"
            for name, distance in ((row[0], matrix.row), (column[0], matrix.column)):
                if name != "0":
                    part = name if distance == 1 else self.code.binary("mul", _INDEX, name, distance)
                    index = part if index == "0" else self.code.binary("add", _INDEX, index, part)
            self.corners[key] = matrix.pointer if index == "0" else self._step(matrix.pointer, index)
        offset = row[1] * matrix.row + column[1] * matrix.column
        return self._step(self.corners[key], offset) if offset else self.corners[key]

    def _step(self, pointer: str, elements: str | int) -> str:
        return self.code.let(f"getelementptr {self.kind}, ptr {pointer}, i64 {elements}")

    def _load(self, lanes: Lanes, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> str:
        address = self._address(matrix, row, column)
        return self.code.let(f"load {lanes.type}, ptr {address}, align {self.product.dtype.itemsize}")

    def _store(self, lanes: Lanes, x: str, matrix: _Matrix, row: tuple[str, int], column: tuple[str, int]) -> None:
        address = self._address(matrix, row, column)
        self.code.do(f"store {lanes.type} {x}, ptr {address}, align {self.product.dtype.itemsize}")

    def _loop(self, start: str, end: str, body: Callable[[str], None]) -> None:
        def carrying_nothing(i: str, _: list[str]) -> list[str]:
            body(i)
            return []

        self._run(start, end, [], [], carrying_nothing)

    def _carried(
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
        return self._run("0", count, every, start, lambda i, s: body(self.code.binary("mul", _INDEX, i, width), s))

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
