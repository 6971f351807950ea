"""`write_product`: matrix products as text of LLVM functions, in the form that suits the shape.

Where a classifier's last layer has 10 columns, OpenBLAS runs at a third of its speed, and in small layers a transposed
second factor costs it time; above some 30 million multiplications copies of both factors pay (`packed.py`), and with
registers of 64 bytes these are quicker than OpenBLAS too: `python -m benchmarks products`. With registers of 32 bytes
large products take 1.0 to 1.1 of its time, so they are left to it.

Results are tiles in registers: of dot products along the inner size where the result has few columns and both factors
lie so, else of vectors along the columns. A height that divides the rows leaves no second kind of tile to compile. Of
a factor that is not small, a strip is copied to be contiguous, turned if it lies transposed. Like kernels, products
take a range of rounds of their outer loop, so that threads can share them.
"""

from __future__ import annotations

from ..axes import Node
from . import engine
from .calling import function
from .codegen import Written
from .dots import Dots
from .ir import Lanes
from .matrices import INDEX, Matrix, Place
from .packed import Packed, even
from .turning import Turning

NARROW = 16  # columns at most of a tile of dot products
LARGE = 2**25  # multiplications
DIRECT = 2**15  # elements of a second factor that is small enough to be read where it lies


def is_ours(product: Node) -> bool:
    """Is it computed here? Else by OpenBLAS."""
    return engine.registers()[0] == 64 or not _is_large(product)


def _is_large(product: Node) -> bool:
    m, k, n = product.shape
    return m * k * n > LARGE


def write_product(product: Node) -> Written:
    """The text of a product."""
    narrow = product.transposed == (False, True) and min(product.shape[0], product.shape[2]) <= NARROW
    packed = all(product.transposed) or (_is_large(product) and not narrow)
    return (Packed(product) if packed else _Writer(product)).write()


class _Writer(Dots, Turning):
    def __init__(self, product: Node) -> None:
        super().__init__(product.dtype.itemsize)
        self.product = product
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
        """Rows and columns of a tile, which takes three quarters of the registers; columns are vectors where the loop
        does not run along the inner size."""
        most = engine.registers()[1] * 3 // 4
        if self.along:
            columns = even(self.n, 6)
            return even(self.m, most // (columns + 1)), columns
        vectors = 2 if self.n > self.lanes else 1
        most //= 2
        fitting = (height for height in range(most, most // 2, -1) if self.m % height == 0)
        return next(fitting, even(self.m, most)), vectors

    def write(self) -> Written:
        self.code.declares.add("declare i64 @llvm.umin.i64(i64, i64)")
        by_rows = self.along or (self.n <= self.lanes and not self.copies)
        size, step = (self.m, self.height) if by_rows else (self.n, self.strip)
        if self.along:
            self.ranged(size, step, self.dots)
        elif by_rows:
            self.ranged(
                size, step, lambda row, rows: self._vectors((row, 0), rows, ("0", 0), [self.n], self.b, ("0", 0))
            )
        else:
            self.ranged(size, step, self._strip)
        scratch = [(self.k * self.strip + self.lanes) * self.itemsize] if self.copies else []
        text = function(["%a", "%b", "%y", *["%s0"] * self.copies], [], self.code.text())
        pointers = [*self.product.nodes[:2], self.product]
        return Written(text, self.code.declares, pointers, scratch, -(-size // step), self.calls)

    # ---- strips

    def _strip(self, column: str, columns: int) -> None:
        """Some columns of the result: tiles of full height, and what is left."""
        widths = self.widths(columns)
        b, place = self.b, (column, 0)
        if self.copies:
            if self.product.transposed[1]:
                self.turn(Matrix("%b", self.k, 1), column, columns, "0", str(self.k), "%s0", self.strip)
            else:
                self._copy(column, widths)
            b, place = Matrix("%s0", self.strip, 1), ("0", 0)

        def tile(row: tuple[str, int], rows: int) -> None:
            self._vectors(row, rows, (column, 0), widths, b, place)

        full, rest = divmod(self.m, self.height)
        if full:
            height = self.height
            self.loop("0", str(full), lambda i: tile((self.code.binary("mul", INDEX, i, height), 0), height))
        if rest:
            tile(("0", full * self.height), rest)

    def _copy(self, column: str, widths: list[int]) -> None:
        """A strip of the second factor, made contiguous."""
        target = Matrix("%s0", self.strip, 1)

        def row(i: str) -> None:
            for j, width in enumerate(widths):
                lanes = Lanes(self.kind, width)
                x = self.load(lanes, self.b, (i, 0), (column, j * self.lanes))
                self.store(lanes, x, target, (i, 0), ("0", j * self.lanes))

        self.loop("0", str(self.k), row)

    # ---- tiles

    def _vectors(self, row: Place, rows: int, column: Place, widths: list[int], b: Matrix, place: Place) -> None:
        """A tile of the result: a sum over the inner size of a column's numbers times a row's vectors, which stand at
        `place` of b."""
        code, kinds = self.code, [Lanes(self.kind, w) for w in widths]
        places = [(i, j) for i in range(rows) for j in range(len(kinds))]

        def add(at: str, sums: list[str]) -> list[str]:
            ys = [self.load(kind, b, (at, 0), (place[0], place[1] + j * self.lanes)) for j, kind in enumerate(kinds)]
            xs = [self.load(Lanes(self.kind), self.a, (row[0], row[1] + i), (at, 0)) for i in range(rows)]
            wide = {(i, kind): code.spread(kind, xs[i]) for i in range(rows) for kind in set(kinds)}
            return [code.fma(kinds[j], wide[i, kinds[j]], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        def at(i: int, j: int) -> tuple[Place, Place]:
            return (row[0], row[1] + i), (column[0], column[1] + j * self.lanes)

        before = [self.load(kinds[j], self.y, *at(i, j)) if self.adds else kinds[j].constant(0.0) for i, j in places]
        sums = self.carried(str(self.k), [kinds[j] for _, j in places], before, add, 1)
        for (i, j), x in zip(places, sums, strict=True):
            self.store(kinds[j], x, self.y, *at(i, j))
