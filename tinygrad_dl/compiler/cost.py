"""What a program costs: floating-point operations, bytes that it must move, kernels, memory for what lies between."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ops
from .kernels import Kernels
from .layout import GETITEM, SCATTER_ADD, SETITEM, is_elementwise, is_view
from .memory import Lifetimes
from .moves import moves
from .program import Instruction, Program, Value

_MOVES = (ops.broadcast_to, ops.copy, GETITEM, SETITEM)


@dataclass(frozen=True)
class Cost:
    """rows: of each operation its name, how often it stands in the program, FLOPs, and bytes read and written if each
    runs alone. kernels, products, copies, alone: into how many fused kernels, matrix products, operations that copy or
    look up and operations of NumPy's the native backend puts them; moved: bytes read and written then. peak: bytes of
    intermediate arrays that are needed at the same time, inputs and outputs apart, if each operation runs alone.
    Prints as a table."""

    rows: list[tuple[str, int, int, int]]
    kernels: int
    products: int
    copies: int
    alone: int
    moved: int
    peak: int

    @property
    def flops(self) -> int:
        return sum(flops for _, _, flops, _ in self.rows)

    @property
    def bytes(self) -> int:
        return sum(moved for _, _, _, moved in self.rows)

    def __str__(self) -> str:
        total = ("in all", sum(n for _, n, _, _ in self.rows), self.flops, self.bytes)
        lines = [f"{'operation':20}{'number':>8}{'FLOPs':>18}{'bytes':>18}"]
        lines += [f"{name:20}{number:8,}{work:18,}{moved:18,}" for name, number, work, moved in (*self.rows, total)]
        lines.append(f"{'in all, fused':46}{self.moved:18,}")
        lines.append(f"{'intermediate arrays at the peak, not fused':46}{self.peak:18,}")
        parts = {"kernels": self.kernels, "matrix products": self.products, "copies": self.copies}
        lines.append(", ".join(f"{name}: {n}" for name, n in (parts | {"run as NumPy": self.alone}).items()))
        return "\n".join(lines)


def cost(program: Program) -> Cost:
    """The cost of a program."""
    rows: dict[str, list[int]] = {}
    for step in program.body:
        row = rows.setdefault(step.op.name, [0, 0, 0])
        for i, n in enumerate((1, flops(step), _bytes(step))):
            row[i] += n
    table = [(name, number, work, moved) for name, (number, work, moved) in rows.items()]
    kernels = Kernels(program)
    return Cost(
        sorted(table, key=lambda row: (-row[2], -row[3])),
        len(kernels.found),
        kernels.products,
        kernels.copies,
        kernels.alone,
        kernels.bytes(),
        _peak(program),
    )


def flops(step: Instruction) -> int:
    """Of one instruction: a multiplication and an addition count one each, as does any function of an element.

    A reduction counts the elements that it takes in, what only moves elements nothing, and an operation that is known
    to NumPy alone one for each element of its largest array."""
    if is_view(step) or step.op in _MOVES or moves(step):
        return 0
    if step.op is ops.matmul:
        return 2 * step.outputs[0].size * step.inputs[0].shape[-1]
    if step.op is SCATTER_ADD:
        return step.inputs[0].size
    size = sum(v.size for v in step.outputs)
    return size if is_elementwise(step) else max([size, *(v.size for v in step.inputs)])


def _bytes(step: Instruction) -> int:
    """Read and written; of a view none, of what is picked out only that."""
    if is_view(step):
        return 0
    written = sum(v.nbytes for v in step.outputs)
    if step.op is GETITEM:
        return 2 * written + sum(v.nbytes for v in step.inputs[1:])
    return written + sum(v.nbytes for v in set(step.inputs))


def _peak(program: Program) -> int:
    """The most that intermediate arrays hold at one time, views counted with what they view."""
    lifetimes = Lifetimes(program, lambda step: step.inputs if is_view(step) else ())
    kept = {owner for v in program.outputs for owner in lifetimes.memory[v]}
    ending = lifetimes.ending()
    now = peak = 0
    counted: set[Value] = set()
    for i, step in enumerate(program.body):
        new = [] if is_view(step) else [v for v in step.outputs if v not in kept]
        counted.update(new)
        now += sum(v.nbytes for v in new)
        peak = max(peak, now)
        now -= sum(v.nbytes for v in ending.get(i, ()) if v in counted)
    return peak
