"""`build`: a program as machine code, called as `Program.run` is.

Kernels and matrix products are called in order by one generated function, which takes a table of pointers;
what is neither runs as NumPy in between, on the same memory. New values of states are written over the old ones.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

from ...graph import Array
from ..axes import Node, root
from ..fuse import fuse
from ..lowering import basic_name
from ..numpy_backend import build as build_numpy
from ..program import Instruction, Program, execute
from ..trace import trace_axes
from . import blas, driver, engine, pool, words
from .builtin import builtin, callable_code
from .calling import Written
from .checked import is_checked, write_checked
from .codegen import write_kernel
from .driver import Tables
from .memory import Arena
from .moving import write_moves
from .operations import can_lower
from .places import Places
from .plan import Step, plan
from .products import is_ours, write_product
from .rounds import COARSE, FINE, Round, groups, is_native, share, stretches
from .running import Calls, Part
from .trial import Trial

RELEASED = 1000.0  # microseconds, about, from which on other Python threads may run meanwhile


def _lowers(step: Instruction) -> bool:
    if basic_name(step) == "matmul" and can_lower(step):
        return blas.product_symbol(step.outputs[0].dtype.name) is not None
    return can_lower(step)


class Native(Calls):
    """A program that has been compiled, and what was thought out for it.

    arena: memory that it shares with programs that never run at the same time."""

    def __init__(self, program: Program, arena: Arena | None = None) -> None:
        self.threads = pool.threads()
        with engine.Compilation() as compilation:  # begins with what is known, while the rest is thought out
            self.graph = trace_axes(program, _lowers)
            written, code = self._products(compilation)
            runner = driver.runner(compilation, self.threads)
            fused = fuse(self.graph)
            self.plan = plan(program, self.graph, fused)
            self.kernels = len(fused.kernels)
            self.places = Places(program, self.graph, self.plan)
            late = set(self.plan.overwrites)
            for kernel in fused.kernels:
                written[kernel] = write_kernel(kernel, self.graph, late)
                code[kernel] = _begun(compilation, written[kernel])
            units = {step: w.units for step, w in written.items()}
            steps = groups(self.plan.order, self.plan.overwrites)
            self.rounds, fine = (
                [share(group, self.graph, units, self.threads, sharing) for group in steps]
                for sharing in (COARSE, FINE)
            )
            if arena is None or not all(map(is_native, self.plan.order)):
                arena = Arena()  # where Python runs in between, it may run one of those programs
            self.places.place([self.rounds, fine], written, arena)
            slow = sum(task.time for each in self.rounds for task in each.tasks) > RELEASED
            entry = callable_code(compilation, runner, release=slow)
            words.begin(compilation)
            addresses = compilation.addresses([entry, *code.values()])
        code_at = dict(zip(code, addresses[1:], strict=True))
        table = ctypes.addressof(self.places.table)
        self.tables = Tables(code_at, written, table, self.places.pointers, self.threads)
        super().__init__(program, self.places, self._parts(addresses[0], fine))

    def _products(self, compilation: engine.Compilation) -> tuple[dict[Step, Written], dict[Step, str]]:
        """What is no kernel: the functions of our own, and the symbols of all."""
        written: dict[Step, Written] = {}
        code: dict[Step, str] = {}
        same: dict[Any, tuple[Written, str]] = {}  # as there are in layers of equal size
        for node in self.graph.nodes:
            if is_checked(node):
                written[node] = write_checked(node)
                code[node] = _begun(compilation, written[node])
            elif node.kind == "move":
                written[node] = write_moves(node, self.graph.size(node.layout))
                code[node] = _begun(compilation, written[node])
            elif node.kind == "gemm" and is_ours(node):
                key = node.product, node.dtype, node.shows is not None
                if key not in same:
                    one = write_product(node)
                    same[key] = one, _begun(compilation, one)
                one, code[node] = same[key]
                written[node] = replace(one, pointers=[*node.nodes[:2], node])
            elif node.kind == "gemm":
                code[node] = driver.product(compilation, node.dtype.name)
        return written, code

    def _parts(self, entry: int, fine: list[Round]) -> list[Part]:
        """What runs the rounds in order: machine code, and NumPy in between."""
        parts: list[Part] = []
        for native, group in groupby(zip(self.rounds, fine, strict=True), lambda pair: _is_native(pair[0])):
            if native:
                parts.append(self._call(entry, *map(list, zip(*group, strict=True))))
            else:
                parts += [Part(self._numpy(each.first)) for each, _ in group]
        return parts

    def _call(self, entry: int, coarse: list[Round], fine: list[Round]) -> Part:
        """A run of rounds that are machine code. What it says of wrong integers, NumPy says in words."""
        ways = [coarse] if all(a.cuts == b.cuts for a, b in zip(coarse, fine, strict=True)) else [coarse, fine]
        runs = [builtin(entry, self.tables.run(way)) for way in ways]
        start = runs[0] if len(runs) == 1 else Trial(runs)
        first = [each[0].first for each in stretches(coarse)]
        numpy = {i: self._numpy(step) for i, step in enumerate(first, 1) if is_checked(step)}
        return Part(start, numpy, self.threads if any(each.shared for way in ways for each in way) else 0)

    def _numpy(self, node: Any) -> Callable[[list[Array]], None]:
        """An instruction that NumPy runs, its results copied to where they are planned."""
        step = node.instruction
        assert step is not None
        outputs = [node] + [n for n in self.graph.nodes if n.instruction is step and n.nodes[:1] == [node]]
        pairs = zip(node.args, step.args, strict=True)
        given = [self.places.at(root(a), v.shape) if isinstance(a, Node) else (None, a, ()) for a, v in pairs]
        targets = [self.places.at(root(y), v.shape) for y, v in zip(outputs, step.outputs, strict=True)]
        kernel, static, single = step.op.kernel, step.static, len(outputs) == 1

        def run(arrays: list[Array]) -> None:
            args = [fixed if slot is None else arrays[slot].reshape(shape) for slot, fixed, shape in given]
            try:
                results = kernel(*args, **static)
            except Exception:
                results = execute(step, args)  # raises it again, with the operation and the line
            if single:
                results = (results,)
            for (slot, fixed, shape), result in zip(targets, results, strict=True):
                if result.shape != shape:
                    raise RuntimeError(f"compile: {step.op.name} gave {shape} as it was recorded, now {result.shape}")
                (fixed if slot is None else arrays[slot].reshape(shape))[...] = result

        return run


def _begun(compilation: engine.Compilation, written: Written) -> str:
    """The symbol of a function that is compiled from now on."""
    for text in written.calls:
        compilation.add(text)
    return compilation.add(written.text, written.declares)


def _is_native(each: Round) -> bool:
    return all(is_native(task.step) for task in each.tasks)


def build(program: Program, arena: Arena | None = None) -> Callable[[list[Array]], list[Array]]:
    """The program as machine code, with the contract of `Program.run`.

    Outputs in `program.updates` may be written into the memory of the input that they replace; all others are
    arrays of their own. Two threads must not run it at once, nor another program with the same arena. A program with
    empty arrays runs as NumPy."""
    values = [*program.inputs, *(v for step in program.body for v in step.outputs)]
    return Native(program, arena) if all(v.size for v in values) else build_numpy(program)
