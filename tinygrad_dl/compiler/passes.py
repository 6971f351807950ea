"""Passes: functions from a Program to a simpler one that means the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..graph import Array
from ..nn import objectives
from ..ops._arguments import axes_of
from .joining import joined
from .layout import REDUCTIONS, is_elementwise
from .lowering import basic_name, bounded, lower
from .program import Instruction, Literal, Program, Value, execute
from .rewriting import Rewriter, instead
from .structure import same_number

FOLDED = 65536  # elements: larger results are not computed in advance


def simplify(program: Program) -> Program:
    """Every pass, in order."""
    for rewrite in (lowered, unbroadcast, batched, joined, folded, shared, live, checked_first):
        program = rewrite(program)
    return program


def lowered(program: Program) -> Program:
    """Composite instructions as basic ones."""
    new = Rewriter(program)
    todo = list(reversed(program.body))
    while todo:
        step = new.step(todo.pop())
        if step.op in REDUCTIONS and not step.inputs[0].ndim:  # of which NumPy takes an axis
            step.static = {**step.static, "axis": None}
        found = lower(step, new.constants)
        if found is None:
            new.body.append(step)
        else:
            parts, standing = found
            new.instead.update(standing)
            todo.extend(reversed(parts))
    return new.done()


CHECKS = (objectives._safe, bounded)  # which raise for wrong labels and indices


def unbroadcast(program: Program) -> Program:
    """Elementwise operations broadcast by themselves; views and casts that change nothing go."""
    new = Rewriter(program)
    made: dict[Value, Instruction] = {}
    for old in program.body:
        step = new.step(old)
        same = _unchanged(step, made)
        if same is not None:
            new.instead[step.outputs[0]] = same
            continue
        if is_elementwise(step):
            step.args = _narrow(step, made)
        new.body.append(step)
        made.update((v, step) for v in step.outputs)
    return new.done()


def _unchanged(step: Instruction, made: dict[Value, Instruction]) -> Value | None:
    """The argument that a step gives back as it is."""
    y, x = step.outputs[0], step.args[0] if step.args else None
    if not isinstance(x, Value):
        return None
    if step.op in (ops.reshape, ops.broadcast_to) and x.shape == y.shape:
        return x
    if step.op is ops.astype and x.dtype == y.dtype:
        return x
    if step.op in (ops.multiply, ops.divide) and _is_one(step.args[1]) and _like(x, y):
        return x
    if step.op is ops.multiply and _is_one(x) and _like(step.args[1], y):
        return step.args[1]  # type: ignore[return-value]
    if step.op is ops.transpose and axes_order(step) == list(range(y.ndim)):
        return x
    before = made.get(x)
    if step.op is bounded and _are_classes(x, made):
        return x
    if step.op is ops.reshape and before is not None and before.op is ops.reshape:
        step.args = before.args
        return _unchanged(step, {})
    if step.op is ops.transpose and before is not None and before.op is ops.transpose:
        first, second = axes_order(before), axes_order(step)
        step.args, step.static = before.args, {"axes": tuple(first[i] for i in second)}
        return _unchanged(step, {})
    return None


def _are_classes(x: Value, made: dict[Value, Instruction]) -> bool:
    """Are these labels as `nll_loss` has looked at them, to pick from what they are classes of?"""
    step = made.get(x)
    while step is not None and step.op in (ops.reshape, ops.astype):
        step = made.get(step.inputs[0])
    return step is not None and step.op is objectives._safe


def axes_order(step: Instruction) -> list[int]:
    """The axes of its argument, as a transposition puts them."""
    axes = step.static.get("axes")
    n = step.outputs[0].ndim
    return list(reversed(range(n))) if axes is None else [a % n for a in axes]


def _is_one(arg: Value | Literal) -> bool:
    return not isinstance(arg, Value | bool) and arg == 1


def _like(x: Any, y: Value) -> bool:
    return isinstance(x, Value) and x.shape == y.shape and x.dtype == y.dtype


def _narrow(step: Instruction, made: dict[Value, Instruction]) -> tuple[Value | Literal, ...]:
    """Arguments before they were broadcast, where the others have the full shape all the same."""
    args = list(step.args)
    for i, arg in enumerate(args):
        before = made.get(arg) if isinstance(arg, Value) else None
        if before is not None and before.op is ops.broadcast_to:
            source = before.args[0]
            shapes = [a.shape for a in (*args[:i], source, *args[i + 1 :]) if isinstance(a, Value)]
            if np.broadcast_shapes(*shapes) == step.outputs[0].shape:
                args[i] = source
    return tuple(args)


def batched(program: Program) -> Program:
    """A sum of products over a batch is one product, along the batch as well: so is a weight's gradient."""
    new = Rewriter(program)
    made, reads = program.makers(), program.uses()
    for old in program.body:
        once = old.op is ops.sum and len(old.inputs) == 1 and reads[old.inputs[0]] == 1
        product = made.get(old.inputs[0]) if once else None
        factors = _batch_factors(old, product, made) if product is not None else None
        if factors is None:
            new.body.append(new.step(old))
            continue
        parts = []
        for x in factors:
            flat = Value((math.prod(x.shape[:-1]), x.shape[-1]), x.dtype)
            new.body.append(instead(old, ops.reshape, [new.now(x)], flat, shape=flat.shape))
            parts.append(flat)
        turned = Value(parts[0].shape[::-1], parts[0].dtype)
        new.body.append(instead(old, ops.transpose, parts[:1], turned, axes=(1, 0)))
        new.body.append(instead(old, ops.matmul, [turned, parts[1]], old.outputs[0]))
    return new.done()


def _batch_factors(total: Instruction, product: Instruction, made: dict[Value, Instruction]) -> list[Value] | None:
    """What a sum over all batch axes of aᵀ @ b is made of: a and b, of the same batch."""
    y, axes = product.outputs[0], total.static.get("axis")
    others = {name for name, value in total.static.items() if value and name != "axis"}
    if product.op is not ops.matmul or others or axes is None or y.dtype.kind != "f":
        return None
    a, b = product.args
    turned = made.get(a) if isinstance(a, Value) else None
    every = sorted(axes_of(axes, y.ndim))
    if turned is None or turned.op is not ops.transpose or not isinstance(b, Value) or every != [*range(y.ndim - 2)]:
        return None
    source, swapped = turned.args[0], [*range(y.ndim - 2), y.ndim - 1, y.ndim - 2]
    if not isinstance(source, Value) or axes_order(turned) != swapped or source.shape[:-1] != b.shape[:-1] or not every:
        return None
    return [source, b]


def folded(program: Program) -> Program:
    """What depends on constants only is a constant."""
    new = Rewriter(program)
    for old in program.body:
        step = new.step(old)
        known = all(v in new.constants for v in step.inputs)
        if not known or any(v.size > FOLDED for v in step.outputs):
            new.body.append(step)
            continue
        arrays = execute(step, [new.constants[a] if isinstance(a, Value) else a for a in step.args])
        for v, array in zip(step.outputs, arrays, strict=True):
            new.constants[v] = array
    return new.done()


def shared(program: Program) -> Program:
    """Equal instructions are run once; equal constants are kept once."""
    new = Rewriter(program)
    arrays: dict[Any, Value] = {}
    for v, array in program.constants.items():
        first = arrays.setdefault((array.shape, array.dtype.str, array.tobytes()), v)
        if first is not v:
            new.instead[v] = first
            del new.constants[v]
    seen: dict[Any, Instruction] = {}
    for old in program.body:
        step = new.step(old)
        key = step.op, _alike(step.args), _alike(step.static)
        first_step = seen.setdefault(key, step)
        if first_step is step:
            new.body.append(step)
        else:
            new.instead.update(zip(step.outputs, first_step.outputs, strict=True))
    return new.done()


def _alike(value: Any) -> Any:
    """What is equal only for arguments that compute the same."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, tuple | list):
        return type(value), *map(_alike, value)
    if isinstance(value, dict):
        return tuple((key, _alike(value[key])) for key in sorted(value))
    if isinstance(value, slice):
        return slice, *map(_alike, (value.start, value.stop, value.step))
    if isinstance(value, bool | int | float | complex | str | np.generic | np.dtype):
        return type(value), same_number(value)
    return id(value)


def live(program: Program) -> Program:
    """Only what leads to an output, and looks at integers that may be wrong."""
    needed = set(program.outputs)
    body: list[Instruction] = []
    for step in reversed(program.body):
        if needed.intersection(step.outputs) or step.op in CHECKS:
            needed.update(step.inputs)
            body.append(step)
    constants: dict[Value, Array] = {v: a for v, a in program.constants.items() if v in needed}
    return Program(program.inputs, constants, body[::-1], program.outputs, program.updates)


def checked_first(program: Program) -> Program:
    """What only NumPy can run, and needs nothing but inputs, comes first: such are checks of arguments, which are to
    fail before a backend has written over anything."""
    given: dict[Value, tuple[Instruction, ...]] = dict.fromkeys(program.inputs, ())  # and inputs in other shapes
    first: set[Instruction] = set()
    for step in program.body:
        if step.inputs and given.keys() >= set(step.inputs):
            if step.op is ops.reshape:
                given[step.outputs[0]] = (*given[step.inputs[0]], step)
            elif not basic_name(step):
                first.update((step, *(view for v in step.inputs for view in given[v])))
    body = sorted(program.body, key=lambda step: step not in first)
    return Program(program.inputs, program.constants, body, program.outputs, program.updates)
