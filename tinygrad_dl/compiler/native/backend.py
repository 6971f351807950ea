"""`build`: a program as machine code, called as `Program.run` is.

Kernels and matrix products are called in order by one generated function, which takes a table of pointers;
what is neither runs as NumPy in between, on the same memory. New values of states are written over the old ones.

On x86 denormal numbers are zero meanwhile: averages of gradients that have become zero decay into them, and
arithmetic on them takes 20 times as long (Adam on 8,192 parameters 75 instead of 4 µs).
"""

from __future__ import annotations

import ctypes
import platform
import weakref
from collections.abc import Callable
from itertools import groupby
from operator import is_
from sys import getrefcount
from typing import Any

import numpy as np

from ..axes import Node
from ..fuse import Kernel, fuse
from ..lowering import basic_name
from ..numpy_backend import build as build_numpy
from ..program import Array, Instruction, Program, Value, execute
from ..trace import trace_axes
from . import engine
from .codegen import Written, write_kernel
from .memory import ALIGNMENT, aligned, place
from .operations import can_lower
from .plan import Step, plan, root

_X86 = platform.machine().lower() in ("x86_64", "amd64")
_FLAGS = {False: 111, True: 112}  # CBLAS: as it lies, transposed
_ROW_MAJOR = 101
_CONTROLS = [f"declare void @llvm.x86.sse.{name}mxcsr(ptr)" for name in ("st", "ld")] if _X86 else []
_WITHOUT_DENORMALS: tuple[tuple[str, ...], tuple[str, ...]] = (
    (
        "  %was = alloca i32",
        "  %now = alloca i32",
        "  call void @llvm.x86.sse.stmxcsr(ptr %was)",
        "  %control = load i32, ptr %was",
        f"  %zeroing = or i32 %control, {0x8040}",  # denormal results are zero, and denormal operands are
        "  store i32 %zeroing, ptr %now",
        "  call void @llvm.x86.sse.ldmxcsr(ptr %now)",
    ),
    ("  call void @llvm.x86.sse.ldmxcsr(ptr %was)",),
)
RELEASED = 50_000_000  # operations of a product's size from which on other Python threads may run meanwhile


def _lowers(step: Instruction) -> bool:
    if basic_name(step) == "matmul" and can_lower(step):
        return engine.product_routine(step.outputs[0].dtype.name) is not None
    return can_lower(step)


class Native:
    """A program that has been compiled. Call it with one array per input.

    An output that updates an input may be that input's array, written over; every other one is new."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = trace_axes(program, _lowers)
        fused = fuse(self.graph)
        self.plan = plan(program, self.graph, fused)
        self.kernels = len(fused.kernels)
        self.slots: dict[Node, int] = {}
        self.fixed: dict[Node, Array] = {}  # memory that stays: constants and what lies in the arena
        self._place_outputs()
        late = set(self.plan.overwrites)
        written = {step: write_kernel(step, self.graph, late) for step in self.plan.order if isinstance(step, Kernel)}
        self._place_memory(written)
        self.parts = self._parts(written)
        self._prepare()

    def _prepare(self) -> None:
        """What each call needs, looked up once."""
        values = self.program.outputs
        self.seen: list[weakref.ref[Array]] = [weakref.ref(_NOTHING)] * len(
            self.program.inputs
        )  # the arrays that the table points at
        self.expected = [(v.shape, v.dtype) for v in self.program.inputs]
        self.given = [_NOTHING] * len(values)  # outputs of the last call: memory to use again if nobody has them
        self.states = {j for _, j in self.written_over}
        self.blank: list[Any] = [None] * len(values)
        self.blank_constants = [_NOTHING] * len(self.graph.constants)
        self.new_memory = [(i, self.slots[node], values[i].shape, values[i].dtype) for i, node in self.fresh]

    # ---- memory

    def _place_outputs(self) -> None:
        """Which outputs are new arrays, written directly, and which are copies of other memory."""
        self.fresh: list[tuple[int, Node]] = []
        self.written_over: list[tuple[int, int]] = []
        self.copied: list[tuple[int, Node]] = []
        inputs = {node: j for j, node in enumerate(self.graph.inputs)}
        owners: set[Node] = set()
        for i, output in enumerate(self.graph.outputs):
            node = root(output)
            old = self.plan.overwrites.get(node)
            if old is not None and self.program.updates.get(i) == inputs[old]:
                self.written_over.append((i, inputs[old]))
            elif old is None and node.kind != "input" and node not in owners:
                owners.add(node)
                self.fresh.append((i, node))
            else:
                self.copied.append((i, node))
        self.early = [(i, node) for i, node in self.copied if node.kind == "input"]
        self.copied = [(i, node) for i, node in self.copied if node.kind != "input"]

    def _place_memory(self, written: dict[Kernel, Written]) -> None:
        graph = self.graph
        for node in (*graph.inputs, *graph.constants, *(node for _, node in self.fresh)):
            self.slots[node] = len(self.slots)
        for node, old in self.plan.overwrites.items():
            self.slots[node] = self.slots[old]
        kept = [n for n in self.plan.lives if n not in self.slots]
        offsets, size = place([(self._bytes(n), *self.plan.lives[n]) for n in kept])
        scratch = max((sum(map(aligned, w.scratch)) for w in written.values()), default=0)
        block = np.empty(size + scratch + ALIGNMENT, np.uint8)
        start = -block.ctypes.data % ALIGNMENT
        self.arena = block[start : start + size + scratch]
        count = max(self.slots.values(), default=-1) + 1
        for number, (node, offset) in enumerate(zip(kept, offsets, strict=True), count):
            self.slots[node] = number
            self.fixed[node] = self.arena[offset : offset + self._bytes(node)].view(node.dtype)
        for node, array in graph.constants.items():
            self.fixed[node] = np.ascontiguousarray(array).reshape(-1)
        self.scratch_slots: dict[int, int] = {}
        count += len(kept)
        self.pointers: dict[Kernel, list[int]] = {}
        for kernel, w in written.items():
            slots = [self.slots[root(n)] for n in w.pointers]
            offset = size
            for n in w.scratch:
                slots.append(self.scratch_slots.setdefault(offset, count + len(self.scratch_slots)))
                offset += aligned(n)
            self.pointers[kernel] = slots
        self.table = (ctypes.c_size_t * (count + len(self.scratch_slots)))()
        self.address = ctypes.addressof(self.table)
        for node, array in self.fixed.items():
            self.table[self.slots[node]] = array.ctypes.data
        for offset, slot in self.scratch_slots.items():
            self.table[slot] = self.arena.ctypes.data + offset

    def _bytes(self, node: Node) -> int:
        return self.graph.size(node.layout) * node.dtype.itemsize

    # ---- code

    def _parts(self, written: dict[Kernel, Written]) -> list[Callable[[list[Array]], None]]:
        """Functions that run the steps in order: machine code, and NumPy in between."""
        texts = [w.text for w in written.values()]
        addresses = dict(zip(texts, engine.functions(texts, _declares(written)), strict=True))
        code = {kernel: addresses[w.text] for kernel, w in written.items()}
        drivers = []
        parts: list[Callable[[list[Array]], None] | None] = []
        for native, group in groupby(self.plan.order, lambda s: isinstance(s, Kernel) or s.kind == "gemm"):
            if native:
                drivers.append(self._driver(list(group), code))
                parts.append(None)
            else:
                parts += [self._numpy(step) for step in group if isinstance(step, Node)]
        slow = any(self.graph.size(s.layout) * s.shape[1] > RELEASED for s in self.plan.order if isinstance(s, Node))
        kind = ctypes.CFUNCTYPE if slow else ctypes.PYFUNCTYPE
        entries = iter([kind(None, ctypes.c_void_p)(a) for a in engine.functions(drivers, _CONTROLS)])
        return [self._call(next(entries)) if part is None else part for part in parts]

    def _call(self, entry: Any) -> Callable[[list[Array]], None]:
        return lambda arrays: entry(self.address)

    def _driver(self, steps: list[Step], code: dict[Kernel, int]) -> str:
        lines: list[str] = []
        loaded: dict[int, str] = {}

        def pointer(slot: int) -> str:
            if slot not in loaded:
                loaded[slot] = f"%b{slot}"
                lines.append(f"  %a{slot} = getelementptr ptr, ptr %table, i64 {slot}")
                lines.append(f"  %b{slot} = load ptr, ptr %a{slot}")
            return f"ptr {loaded[slot]}"

        for step in steps:
            if isinstance(step, Kernel):
                arguments = [pointer(slot) for slot in self.pointers[step]]
                arguments += [f"i64 {self.graph.size(step.rows)}", f"i64 {self.graph.size(step.columns)}"]
                address: int | None = code[step]
            else:
                a, b, y = (pointer(self.slots[root(n)]) for n in (*step.nodes, step))
                arguments = _product(step, a, b, y)
                address = engine.product_routine(step.dtype.name)
            lines.append(f"  call void inttoptr (i64 {address} to ptr)({', '.join(arguments)})")
        before, after = _WITHOUT_DENORMALS if _X86 else ((), ())
        body = "\n".join([*before, *lines, *after])
        return f"define void @NAME(ptr %table) {{\n{body}\n  ret void\n}}\n"

    def _numpy(self, node: Node) -> Callable[[list[Array]], None]:
        """An instruction that NumPy runs, its results copied to where they are planned."""
        step = node.instruction
        assert step is not None
        outputs = [node] + [n for n in self.graph.nodes if n.instruction is step and n.nodes[:1] == [node]]
        shapes = [a.shape if isinstance(a, Value) else None for a in step.args]

        def run(arrays: list[Array]) -> None:
            args = [
                self._memory(root(a), arrays).reshape(shape) if isinstance(a, Node) else a
                for a, shape in zip(node.args, shapes, strict=True)
            ]
            for y, result in zip(outputs, execute(step, args), strict=True):
                self._memory(y, arrays)[...] = result.reshape(-1)

        return run

    def _memory(self, node: Node, arrays: list[Array]) -> Array:
        array = self.fixed.get(node)
        return arrays[self.slots[node]].reshape(-1) if array is None else array

    # ---- running

    def __call__(self, arrays: list[Array]) -> list[Array]:
        """The program's outputs. Raises ValueError for arrays of other number, shape or dtype."""
        if len(arrays) != len(self.seen) or not all(map(is_, arrays, [ref() for ref in self.seen])):
            arrays = self._admit(arrays)
        table, outputs = self.table, self.blank.copy()
        memory = [*arrays, *self.blank_constants]
        for i, node in self.early:
            outputs[i] = self._copy(i, node, memory)
        for i, slot, shape, dtype in self.new_memory:
            array = self.given[i]
            if getrefcount(array) > _OURS:
                array = np.empty(shape, dtype)
                table[slot] = array.__array_interface__["data"][0]
                if i not in self.program.updates:
                    self.given[i] = array
            outputs[i] = array
            memory.append(array)
        for part in self.parts:
            part(memory)
        for i, j in self.written_over:
            outputs[i] = arrays[j]
        for i, node in self.copied:
            outputs[i] = self._copy(i, node, memory)
        return outputs

    def _copy(self, i: int, node: Node, memory: list[Array]) -> Array:
        return self._memory(node, memory).copy().reshape(self.program.outputs[i].shape)

    def _admit(self, arrays: list[Array]) -> list[Array]:
        """Point the table at new inputs: what is not contiguous, or shall be written and cannot be, is copied."""
        if len(arrays) != len(self.seen):
            self.program.check(arrays)
        found = list(arrays)
        for j, (array, seen) in enumerate(zip(arrays, self.seen, strict=True)):
            if array is not seen():
                shape, dtype = self.expected[j]
                if array.shape != shape or array.dtype != dtype:
                    self.program.check(arrays)
                flags = array.flags
                if not flags.carray if j in self.states else not (flags.c_contiguous and flags.aligned):
                    found[j] = np.array(array, order="C")
                self.table[j] = found[j].__array_interface__["data"][0]
                self.seen[j] = weakref.ref(found[j])
        return found


_NOTHING: Array = np.empty(0)


def _ours() -> int:
    """The references to an array that a list and a local variable hold."""
    given = [np.empty(0)]
    array = given[0]
    return getrefcount(array)


_OURS = _ours()  # differs between Python versions


def _declares(written: dict[Kernel, Written]) -> list[str]:
    return sorted({d for w in written.values() for d in w.declares})


def _product(node: Node, a: str, b: str, y: str) -> list[str]:
    """The arguments of CBLAS for a matrix product."""
    m, k, n = node.shape
    first, second = node.transposed
    kind = "float" if node.dtype == np.float32 else "double"
    flags = [f"i32 {x}" for x in (_ROW_MAJOR, _FLAGS[first], _FLAGS[second])]
    sizes = [f"i64 {x}" for x in (m, n, k)]
    left, right = f"i64 {m if first else k}", f"i64 {k if second else n}"
    return [*flags, *sizes, f"{kind} 1.0", a, left, b, right, f"{kind} 0.0", y, f"i64 {n}"]


def build(program: Program) -> Callable[[list[Array]], list[Array]]:
    """The program as machine code, with the contract of `Program.run`.

    Outputs in `program.updates` may be written into the memory of the input that they replace; all others are
    arrays of their own. Two threads must not run it at once. A program with empty arrays runs as NumPy."""
    values = [*program.inputs, *(v for step in program.body for v in step.outputs)]
    return Native(program) if all(v.size for v in values) else build_numpy(program)
