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

import math

from ..axes import Node
from ..matrix_product import Product
from . import engine
from .batches import write_batch
from .calling import Written, function
from .dots import Dots
from .ir import INDEX, Lanes
from .matrices import Matrix, Place
from .packed import Packed, even
from .tiles import Tiles, tile_size
from .turning import Turning

# Sums at least in a tile, if there are rows: two begin at a time, and each takes four or five times as long. Eight
# (registers of 32 bytes, 64 rows) are as quick on a core of one's own, on one that is shared they take 1.3 of the time.
SUMS = 10
NARROW = 16  # columns at most of a tile of dot products
HIGH = 16  # tiles, from which on they are shared out by rows: 5000 x 48 takes 0.72 of the time on two cores
LARGE = 2**25  # multiplications
DIRECT = 2**15  # elements of a second factor that is small enough to be read where it lies


def is_ours(node: Node) -> bool:
    """Is it computed here? Else by OpenBLAS."""
    return bool(node.product.batch) or engine.registers()[0] == 64 or not _is_large(node.product)


def _is_large(product: Product) -> bool:
    return math.prod(product.shape) > LARGE


def write_product(node: Node) -> Written:
    """The text of a product, or of a batch of them."""
    product, (rows, _, columns) = node.product, node.product.shape
    narrow = product.transposed == (False, True) and min(rows, columns) <= NARROW
    packed = all(product.transposed) or (_is_large(product) and not narrow)
    one = (Packed(node) if packed else _Writer(node)).write()
    size = node.dtype.itemsize
    return write_batch(one, [(n, [far * size for far in f]) for n, f in product.batch]) if product.batch else one


class _Writer(Dots, Tiles, Turning):
    def __init__(self, node: Node) -> None:
        super().__init__(node.dtype.itemsize)
        self.node = node
        self.m, self.k, self.n = node.product.shape
        first, second = node.product.transposed
        far_a, self.far_b, far_y = node.product.apart
        self.a = Matrix("%a", 1, far_a) if first else Matrix("%a", far_a, 1)
        self.b = Matrix("%b", 1, self.far_b) if second else Matrix("%b", self.far_b, 1)
        self.y = Matrix("%y", far_y, 1)
        self.adds = node.shows is not None
        self.along = second and min(self.m, self.n) <= NARROW  # the inner size
        if self.along and self.n > NARROW:  # it is the transposed product that has few columns
            self.y = Matrix("%y", 1, far_y)
            self.a, self.b = Matrix("%b", self.far_b, 1), Matrix("%a", 1, far_a)
            self.m, self.n = self.n, self.m
        self.height, self.width = self._tile()
        again = self.m > self.height and self.n * self.k > DIRECT  # is it read again, from further away?
        self.copies = not self.along and (second or again)
        self.strip = self.width * self.lanes

    def _tile(self) -> tuple[int, int]:
        """Rows and columns of a tile; columns are vectors where the loop does not run along the inner size."""
        if self.along:
            columns, registers = even(self.n, 6), engine.registers()[1] * 3 // 4
            return even(self.m, registers // (columns + 1)), columns
        vectors, most = tile_size()
        least = max(most // 2 + 1, SUMS // vectors)
        fitting = (height for height in range(most, least - 1, -1) if self.m % height == 0)
        return next(fitting, even(self.m, most)), min(vectors, -(-self.n // self.lanes))

    def write(self) -> Written:
        """Tasks share out rows, or columns where a strip is copied. Rows also of a high result, which falls into even
        parts, and where the first factor lies transposed, in the gradient of a weight: they are contiguous, as the
        parts of the optimizer's step are that read them."""
        gradient = self.node.product.transposed[0] and self.m > self.height
        rows = gradient or self.n <= self.lanes or self.m >= HIGH * self.height
        by_rows = self.along or (rows and not self.copies)
        size, step = (self.m, self.height) if by_rows else (self.n, self.strip)
        if self.along:
            self.ranged(size, step, self.dots)
        elif by_rows:
            self.ranged(size, step, self._row)
        else:
            self.ranged(size, step, self._strip)
        scratch = [(self.k * self.strip + self.lanes) * self.itemsize] if self.copies else []
        text = function(["%a", "%b", "%y", *["%s0"] * self.copies], [], self.code.text())
        pointers = [*self.node.nodes[:2], self.node]
        return Written(text, self.code.declares, pointers, scratch, -(-size // step), self.calls)

    def _row(self, row: str, rows: int) -> None:
        """Some rows of the result, strip by strip."""

        def tile(column: Place, columns: int) -> None:
            self._tiled((row, 0), rows, column, columns, self.b, column)

        full, rest = divmod(self.n, self.strip)
        if full:
            self.loop("0", str(full), lambda i: tile((self.code.binary("mul", INDEX, i, self.strip), 0), self.strip))
        if rest:
            tile(("0", full * self.strip), rest)

    # ---- strips

    def _strip(self, column: str, columns: int) -> None:
        """Some columns of the result: tiles of full height, and what is left."""
        b, place = self.b, (column, 0)
        if self.copies:
            if self.node.product.transposed[1]:
                self.turn(Matrix("%b", self.far_b, 1), column, columns, "0", str(self.k), "%s0", self.strip)
            else:
                self._copy(column, columns)
            b, place = Matrix("%s0", self.strip, 1), ("0", 0)

        def tile(row: Place, rows: int) -> None:
            self._tiled(row, rows, (column, 0), columns, b, place)

        full, rest = divmod(self.m, self.height)
        if full:
            height = self.height
            self.loop("0", str(full), lambda i: tile((self.code.binary("mul", INDEX, i, height), 0), height))
        if rest:
            tile(("0", full * self.height), rest)

    def _copy(self, column: str, columns: int) -> None:
        """A strip of the second factor, made contiguous."""
        target, lanes = Matrix("%s0", self.strip, 1), Lanes(self.kind, columns)

        def row(i: str) -> None:
            self.store(lanes, self.load(lanes, self.b, (i, 0), (column, 0)), target, (i, 0), ("0", 0))

        self.loop("0", str(self.k), row)

    def _tiled(self, row: Place, rows: int, column: Place, columns: int, b: Matrix, place: Place) -> None:
        """A tile of the result. Its columns of the second factor stand at `place` of b."""
        kinds = self.kinds(columns)
        places = [
            (lanes, (row[0], row[1] + i), (column[0], column[1] + j * self.lanes))
            for i in range(rows)
            for j, lanes in enumerate(kinds)
        ]
        before = [self.load(lanes, self.y, *at) if self.adds else lanes.constant(0.0) for lanes, *at in places]
        a = Matrix(self.address(self.a, row, ("0", 0)), self.a.row, self.a.column)
        sums = self.tile(a, rows, b, place, columns, str(self.k), before)
        for (lanes, *at), x in zip(places, sums, strict=True):
            self.store(lanes, x, self.y, *at)
