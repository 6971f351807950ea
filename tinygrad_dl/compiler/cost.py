"""What a program costs: floating-point operations, bytes that it must move, kernels, peak memory for buffers."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ops
from .passes import is_elementwise
from .program import Instruction, Program, Value

_VIEWS = (ops.reshape, ops.transpose)


@dataclass(frozen=True)
class Cost:
    """rows: operation, how often, FLOPs, bytes read and written if each ran alone. Prints as a table.

    flops: a multiplication and an addition each count one, as does any function of an element. peak: bytes of
    intermediate arrays that live at the same time, inputs and outputs apart."""

    rows: list[tuple[str, int, int, int]]
    kernels: int
    peak: int

    @property
    def flops(self) -> int:
        return sum(flops for _, _, flops, _ in self.rows)

    @property
    def bytes(self) -> int:
        return sum(moved for _, _, _, moved in self.rows)

    def __str__(self) -> str:
        lines = [f"{'operation':20}{'number':>8}{'MFLOP':>12}{'MB':>10}"]
        total = ("in all", sum(n for _, n, _, _ in self.rows), self.flops, self.bytes)
        for name, number, flops, moved in [*self.rows, total]:
            lines.append(f"{name:20}{number:8}{flops / 1e6:12.3f}{moved / 1e6:10.3f}")
        return "\n".join([*lines, f"{self.kernels} kernels, {self.peak / 1e6:.3f} MB of buffers at the peak"])


def cost(program: Program, kernels: int) -> Cost:
    """The cost of a program that a backend runs as so many kernels."""
    rows: dict[str, list[int]] = {}
    for step in program.body:
        row = rows.setdefault(step.op.name, [0, 0, 0])
        moved = 0 if step.op in _VIEWS else sum(v.nbytes for v in (*step.inputs, *step.outputs))
        for i, n in enumerate((1, flops(step), moved)):
            row[i] += n
    table = [(name, number, work, moved) for name, (number, work, moved) in rows.items()]
    return Cost(sorted(table, key=lambda row: (-row[2], -row[3])), kernels, _peak(program))


def flops(step: Instruction) -> int:
    """Of one instruction; opaque ones count one for each element of their outputs."""
    if step.op in _VIEWS or step.op is ops.broadcast_to:
        return 0
    if step.op is ops.matmul:
        return 2 * step.outputs[0].size * step.inputs[0].shape[-1]
    size = sum(v.size for v in step.outputs)
    return size if is_elementwise(step) else max(size, *(v.size for v in step.inputs), 0)


def _peak(program: Program) -> int:
    """The most that intermediate arrays hold at one time, views counted with what they view."""
    base: dict[Value, Value] = {}
    last: dict[Value, int] = {}
    for i, step in enumerate(program.body):
        for v in step.outputs:
            base[v] = base.get(step.inputs[0], step.inputs[0]) if step.op in _VIEWS else v
        for v in (*step.inputs, *step.outputs):
            last[base.get(v, v)] = i
    ends: dict[int, list[Value]] = {}
    for v, i in last.items():
        ends.setdefault(i, []).append(v)
    kept = {*program.inputs, *program.constants, *(base.get(v, v) for v in program.outputs)}
    now = peak = 0
    for i, step in enumerate(program.body):
        now += sum(v.nbytes for v in step.outputs if base[v] is v and v not in kept)
        peak = max(peak, now)
        now -= sum(v.nbytes for v in ends.get(i, ()) if v not in kept)
    return peak
