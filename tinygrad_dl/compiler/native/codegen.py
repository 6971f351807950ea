"""`write_kernel`: one kernel as text of an LLVM function, in explicit vectors.

Columns are taken in tiles of 32 floats or 16 doubles and one tile of exactly the columns that are left; values
that do not vary along the columns are scalars. Each value is written where it varies, so nothing is left to
hoist; sums are carried in registers. The function's arguments are pointers to the inputs, the outputs and the
scratch memory, then the numbers of rows and columns, so that kernels of equal structure are equal text. The first
and the last round of the outer loop to do are arguments, too, but in small kernels that a sum leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..axes import Graph, Node
from ..fuse import Kernel
from ..loop_nest import WIDEST
from . import operations
from .batches import write_batch
from .calling import Written, function
from .ir import INDEX
from .kernel_values import KernelValues
from .registers import Register, lanes_of, literal, padded, slice_of
from .rounds import duration
from .schedule import FUNCTION, INNER, OUTER
from .totals import MOST, write_parts

PART = 0.9  # microseconds, about, of a part of a kernel that totals leave


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tiles: how many, how wide, and the first column."""

    count: int | str
    width: int
    start: int | str


class _Writer(KernelValues):
    def __init__(self, kernel: Kernel, graph: Graph, late: Iterable[Node]) -> None:
        super().__init__(kernel, graph, late)
        self.partial: dict[tuple[Node, int], Register] = {}  # totals so far, per tile width's piece
        stored_once = any(self.plan.level[n] == FUNCTION for n in self.plan.stored)
        cut = bool(kernel.outer) and not stored_once
        self.parts = 1  # in which totals are summed up
        if cut and self.plan.totals and not kernel.batch:
            self.parts = min(MOST, self.rounds, int(duration(kernel, graph) / PART))
        self.shared = cut and (self.parts > 1 or not self.plan.totals)

    def pieces(self) -> list[Piece]:
        """How the columns are cut. Kernels of one flat axis end in single elements: any size is one function."""
        n, tile = self.columns, self.tile
        count, start = ("%share", "%begin") if self.shared else ("%tiles", 0)
        if not self.kernel.columns:
            return [Piece(1, 1, 0)]
        if not self.kernel.columns_inside and not self.kernel.rows:
            return [Piece(count, tile, start), Piece("%rest" if self.shared else "%left", 1, "%tiled")]
        if self.kernel.columns_inside and n <= WIDEST:
            return [Piece(1, n, 0)]
        if self.kernel.columns_inside:
            count, start = "%tiles", 0
        full = [Piece(count, tile, start)] if n >= tile else []
        once = "%once" if self.shared and not self.kernel.columns_inside else 1
        return full + ([Piece(once, n % tile, "%tiled" if full else 0)] if n % tile else [])

    def loop(
        self, count: int | str, carried: Sequence[Register], body: Callable[[str, list[Register]], list[Register]]
    ) -> list[Register]:
        """Run the body `count` times; it is told its number and the registers that it carries on.

        These are as wide as a power of two: LLVM carries a vector of 10 or 100 numbers from block to block one by one,
        and summing up rows of 100 takes three times as long."""
        wide = [padded(self.code, r) for r in carried]

        def registers(names: Sequence[str]) -> list[Register]:
            found = [Register(name, r.lanes, r.dtype) for name, r in zip(names, wide, strict=True)]
            return [slice_of(self.code, r, 0, own.lanes.width) for r, own in zip(found, carried, strict=True)]

        def step(index: str, names: list[str]) -> list[str]:
            return [padded(self.code, r).name for r in body(index, registers(names))]

        kinds, names = [r.lanes for r in wide], [r.name for r in wide]
        return registers(self.code.loop("0", str(count), kinds, names, step))

    def tile_at(self, piece: Piece, index: str) -> None:
        self.width = piece.width
        self.column = str(piece.start)
        if piece.count not in (1, "%once"):
            offset = self.code.binary("mul", INDEX, index, piece.width)
            self.column = offset if piece.start == 0 else self.code.binary("add", INDEX, offset, self.column)

    def write(self) -> Written:
        kernel, code = self.kernel, self.code
        code.do(f"%tiles = udiv i64 %columns, {self.tile}")
        code.do(f"%tiled = mul i64 %tiles, {self.tile}")
        code.do("%left = sub i64 %columns, %tiled")
        if self.shared:
            self.share()
        pieces = self.pieces()
        for node in self.plan.stored:
            if self.plan.level[node] == FUNCTION:
                self.natural(node)  # before the loops store anything
        rows = Piece("%span", 1, "%first") if self.shared else Piece("%rows" if kernel.rows else 1, 1, 0)
        outer = [rows] if kernel.columns_inside else pieces
        for number, piece in enumerate(outer):
            keys = [
                (n, i)
                for n in self.plan.totals
                for i in (range(len(pieces)) if kernel.columns_inside else [number])
                if i == 0 or not kernel.columns_inside or self.plan.level[n.nodes[0]] == INNER
            ]
            widths = [pieces[i].width if self.wide(n.nodes[0]) else 1 for n, i in keys]
            starts = [self.start(n, w) for (n, _), w in zip(keys, widths, strict=True)]

            def body(index: str, carried: list[Register], piece: Piece = piece, number: int = number) -> list[Register]:
                self.enter(OUTER)
                self.partial.update(zip(keys, carried, strict=True))  # noqa: B023
                if kernel.columns_inside:
                    self.row = code.binary("add", INDEX, index, "%first") if self.shared else index
                else:
                    self.tile_at(piece, index)
                self.outer_body(pieces if kernel.columns_inside else [], number)
                return [self.partial[k] for k in keys]  # noqa: B023

            self.partial.update(zip(keys, self.loop(piece.count, starts, body), strict=True))
        self.finish()
        return self.written()

    def share(self) -> None:
        """Rounds first to last of the outer loop: rows, or tiles of columns and behind them what is left."""
        for line in (
            "%span = sub i64 %last, %first",
            "%end = call i64 @llvm.umin.i64(i64 %last, i64 %tiles)",
            "%begin = mul i64 %first, " + str(self.tile),
            "%full = sub i64 %end, %first",
            "%behind = icmp ugt i64 %last, %tiles",
            "%none = icmp ugt i64 %first, %tiles",
            "%share = select i1 %none, i64 0, i64 %full",
            "%once = zext i1 %behind to i64",
            "%rest = select i1 %behind, i64 %left, i64 0",
        ):
            self.code.do(line)
        self.code.declares.add("declare i64 @llvm.umin.i64(i64, i64)")

    @property
    def rounds(self) -> int:
        """Of the outer loop."""
        return self.rows if self.kernel.columns_inside else -(-self.columns // self.tile)

    def start(self, node: Node, width: int) -> Register:
        return literal(lanes_of(node.dtype, width), node.dtype, operations.identity(node.name, node.dtype))

    def outer_body(self, pieces: list[Piece], number: int) -> None:
        inner = pieces or [Piece("%rows" if self.kernel.rows else 1, 0, 0)]
        for stage in range(self.plan.stages):
            folds, totals, stores = self.plan.sinks(stage)
            if folds or totals or stores:
                parts: list[Register] = []
                for i, piece in enumerate(inner):
                    found = self.run(stage, piece, folds, totals, stores, i if pieces else number)
                    parts = [
                        operations.combine(self.code, n.name, a, b) if parts else b
                        for n, a, b in zip(folds, parts or found, found, strict=True)
                    ]
                for node, register in zip(folds, parts, strict=True):
                    self.memo[OUTER][node, register.lanes.width] = register
        key = 0 if pieces else number
        for node in self.plan.totals:
            x = node.nodes[0]
            if self.plan.level[x] != INNER:
                before = self.partial[node, key]
                self.partial[node, key] = operations.combine(self.code, node.name, before, self.natural(x))
        self.store([n for n in self.plan.stored if self.plan.level[n] == OUTER])

    def run(
        self, stage: int, piece: Piece, folds: list[Node], totals: list[Node], stores: list[Node], number: int
    ) -> list[Register]:
        """One stage over one piece: the partial results of its folds."""
        self.now = stage
        columns = self.kernel.columns_inside
        if columns:
            self.width = piece.width
        starts = [self.start(n, self.width if self.wide(n.nodes[0]) else 1) for n in folds]
        starts += [self.partial[n, number] for n in totals]

        def body(index: str, carried: list[Register]) -> list[Register]:
            if not self.straight:
                self.enter(INNER)
            if columns:
                self.tile_at(piece, index)
            else:
                self.row = index
            found = [
                operations.combine(self.code, n.name, c, self.natural(n.nodes[0]))
                for n, c in zip((*folds, *totals), carried, strict=True)
            ]
            self.store(stores)
            for node in self.scratch:
                if self.plan.saved[node] == stage:
                    self.put(self.natural(node), self.scratch[node], self.scratch_index())
            return found

        after = self.loop(piece.count, starts, body)
        self.partial.update({(n, number): r for n, r in zip(totals, after[len(folds) :], strict=True)})
        results = after[: len(folds)]
        return [operations.across(self.code, n.name, r) if columns else r for n, r in zip(folds, results, strict=True)]

    def finish(self) -> None:
        """What is known after the loops."""
        self.buffers = [self.code.lines] * 3
        for node in self.plan.totals:
            parts = [r for (n, _), r in self.partial.items() if n is node]
            if not self.wide(node):
                parts = [operations.across(self.code, node.name, r) for r in parts]
            result = parts[0]
            for part in parts[1:]:
                result = operations.combine(self.code, node.name, result, part)
            self.put(result, self.pointer[node], None)
        self.store([n for n in self.plan.stored if self.plan.level[n] == FUNCTION])

    def written(self) -> Written:
        pointers = [*self.pointer.values(), *self.scratch.values()]
        text = function(pointers, ["%rows", "%columns"], self.code.text())
        elements = self.columns if self.kernel.columns_inside else self.rows * self.tile
        sizes = [elements * node.dtype.itemsize for node in self.scratch]
        units = self.rounds if self.shared else 1
        return Written(text, self.code.declares, self.pointers, sizes, units, numbers=[self.rows, self.columns])


def write_kernel(kernel: Kernel, graph: Graph, late: Iterable[Node] = ()) -> Written:
    """The text of a kernel. late: outputs that overwrite an input."""
    writer = _Writer(kernel, graph, late)
    one = writer.write()
    if writer.parts > 1:
        return write_parts(one, writer.plan.totals, graph, writer.parts)
    if not kernel.batch:
        return one
    batch = set(kernel.batch)
    sizes = [graph.size([a for a in n.layout if a not in batch]) * n.dtype.itemsize for n in one.pointers]
    apart = [size if batch <= set(n.layout) else 0 for n, size in zip(one.pointers, sizes, strict=True)]
    return write_batch(one, [(graph.size(kernel.batch), apart)])
