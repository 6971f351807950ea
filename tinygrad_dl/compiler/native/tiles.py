"""`Tiles`: the heart of a matrix product, sums in registers that are a tile of the result.

A core that somebody else computes on as well, as on rented machines, is short of instructions first. With registers of
64 bytes a multiplication spreads a number from memory itself, so tiles are high and one vector wide: each number is
needed once, and none is spread in a register. There such a tile reaches 146 of 171 GFLOP/s, one of 14 rows and two
vectors 128; alone on the core they are as quick. Zen 5 is an exception (`tile_size`).
"""

from __future__ import annotations

from functools import partial

from . import engine
from .ir import INDEX, Lanes
from .matrices import POINTER, Matrix, MatrixCode, Place

LINE = 64  # bytes of a line of the cache
# Steps in one round of a tile's loop and products of vectors in it, at most. Where a core is shared, to count and to
# move on once in 48 products instead of 12 saves a tenth; alone it is as quick.
TIMES, PRODUCTS = 4, 48


def tile_size() -> tuple[int, int]:
    """The vectors in a row of a tile, and its rows at most.

    With smaller registers one of them is needed to spread a number, so two vectors share it. Zen 5 loads as many in a
    cycle as it multiplies: tiles of 28 rows, which load more, reach 460 GFLOP/s on two cores, others 510."""
    size, number = engine.registers()
    if size == 64:
        return (2, 13) if engine.processor() == "znver5" else (1, number - 4)
    return 2, number // 2 - 2


class Tiles(MatrixCode):
    """Matrix code that adds up tiles."""

    def kinds(self, columns: int) -> list[Lanes]:
        """The vectors that some columns are."""
        return [Lanes(self.kind, min(self.lanes, columns - start)) for start in range(0, columns, self.lanes)]

    def tile(
        self, a: Matrix, rows: int, b: Matrix, column: Place, columns: int, depth: str, y: list[str], ahead: int = 0
    ) -> list[str]:
        """y, a register for each row and vector of a tile, and the products of numbers of a and vectors of b along the
        inner size: of a from where it begins, of b in these columns. ahead: of the inner size, between what is read of
        a and what is fetched."""
        code, one, kinds = self.code, Lanes(self.kind), self.kinds(columns)
        places = [(i, j) for i in range(rows) for j in range(len(kinds))]

        def add(times: int, _: str, carried: list[str]) -> list[str]:
            here, there, *sums = carried
            for line in range(0, times * rows if ahead else 0, LINE // self.itemsize):
                code.fetch(self.step(here, ahead * a.column + line), cache=3)
            numbers = Matrix(here, a.row, a.column)
            row = Matrix(there, b.row, b.column)
            for k in range(times):
                vectors = [self.load(lanes, row, ("0", k), ("0", j * self.lanes)) for j, lanes in enumerate(kinds)]
                xs = [self.load(one, numbers, ("0", i), ("0", k)) for i in range(rows)]
                spread = {(i, lanes): code.spread(lanes, xs[i]) for i in range(rows) for lanes in set(kinds)}
                sums = [
                    code.fma(kinds[j], spread[i, kinds[j]], vectors[j], s)
                    for (i, j), s in zip(places, sums, strict=True)
                ]
            return [code.opaque(self.step(here, times * a.column)), code.opaque(self.step(there, times * b.row)), *sums]

        carried = [POINTER, POINTER] + [kinds[j] for _, j in places]
        found = [code.opaque(a.pointer), code.opaque(self.address(b, ("0", 0), column)), *y]
        for count, times in self._rounds(depth, len(places)):
            found = self.carried(count, carried, found, partial(add, times), 1)
        return found[2:]

    def _rounds(self, depth: str, products: int) -> list[tuple[str, int]]:
        """Loops along the inner size: how often, and how many steps at a time."""
        times = max(1, min(TIMES, PRODUCTS // products))
        if times == 1:
            return [(depth, 1)]
        if depth.isdigit():
            known = ((int(depth) // times, times), (int(depth) % times, 1))
            return [(str(count), size) for count, size in known if count]
        return [(self.code.binary(verb, INDEX, depth, times), n) for verb, n in (("udiv", times), ("urem", 1))]
