"""`Dots`: the part of a matrix product whose result has few columns: tiles of dot products along the inner size."""

from __future__ import annotations

from .ir import INDEX, Lanes
from .matrices import Matrix, MatrixCode


class Dots(MatrixCode):
    """y = a b, of an inner size k and n columns, which are done `width` at a time; added to y if `adds`."""

    a: Matrix
    b: Matrix
    y: Matrix
    k: int
    n: int
    width: int
    adds: bool

    def dots(self, row: str, rows: int) -> None:
        """Some rows of the result, tile by tile."""
        full, rest = divmod(self.n, self.width)
        end = str(full)
        self.loop("0", end, lambda i: self._tile_of_dots(row, rows, self.code.binary("mul", INDEX, i, self.width)))
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
                    x = self.code.fadd(one, x, self.load(one, self.y, (row, i), (column, j)))
                self.store(one, x, self.y, (row, i), (column, j))

    def _multiplied(self, corner: tuple[str, str], places: list[tuple[int, int]]) -> list[str]:
        """For each place of a tile a vector, whose lanes add up to it."""
        lanes, left = Lanes(self.kind, self.lanes), self.k % self.lanes
        row, column = corner

        def add(at: tuple[str, int], lanes: Lanes, sums: list[str]) -> list[str]:
            xs = {i: self.load(lanes, self.a, (row, i), at) for i in dict(places)}
            ys = {j: self.load(lanes, self.b, at, (column, j)) for j in {j: i for i, j in places}}
            return [self.code.fma(lanes, xs[i], ys[j], s) for (i, j), s in zip(places, sums, strict=True)]

        zeros = [lanes.constant(0.0)] * len(places)
        sums = self.carried(str(self.k // self.lanes), lanes, zeros, lambda at, s: add((at, 0), lanes, s))
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
