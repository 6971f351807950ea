"""`joined`: a sum of parts that fill an array, each zero elsewhere, is these joined: the gradient of what was split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .. import ops
from ..ops import index as _index
from ..ops import join as _join
from .program import Instruction, Program, Value
from .rewriting import Rewriter, instead

Box = list[tuple[int, int]]  # along each axis the first element of a part, and the one behind it


def joined(program: Program) -> Program:
    """Whole sums, with all that is added up on the way to them; what else that is comes after the parts."""
    new, uses = Rewriter(program), program.uses()
    made = program.makers()
    once = {v for v, number in uses.items() if number == 1}
    inner = {v for step in program.body if _is_sum(step) for v in step.inputs} & once
    for old in program.body:
        y = old.outputs[0]
        terms = _terms(old, made, once) if _is_sum(old) and y not in inner else []
        parts = [(box, v) for v in terms if (box := _box(made.get(v))) is not None]
        axis = _filled([box for box, _ in parts], y.shape)
        if axis is None:
            new.body.append(new.step(old))
            continue
        pieces = []
        for box, v in sorted(parts, key=lambda part: part[0][axis]):
            piece, shape = new.now(made[v].inputs[0]), tuple(end - start for start, end in box)
            if piece.shape != shape:
                flat, piece = piece, Value(shape, y.dtype)
                new.body.append(instead(old, ops.reshape, [flat], piece, shape=shape))
            pieces.append(piece)
        rest = [new.now(v) for v in terms if _box(made.get(v)) is None]
        sums = [*(Value(y.shape, y.dtype) for _ in rest), y]
        new.body.append(instead(old, _join._join, pieces, sums[0], axis=axis))
        for (before, after), term in zip(pairwise(sums), rest, strict=True):
            new.body.append(instead(old, ops.add, [before, term], after))
    return new.done()


def _is_sum(step: Instruction) -> bool:
    """Of two arrays, neither of them broadcast or cast?"""
    kinds = [(v.shape, v.dtype) for v in (*step.inputs, *step.outputs)]
    return step.op is ops.add and len(kinds) == 3 and kinds.count(kinds[0]) == 3


def _terms(step: Instruction, made: Mapping[Value, Instruction], once: set[Value]) -> list[Value]:
    """What a sum adds up, sums that only it reads included."""
    found, todo = list[Value](), [*step.inputs]
    while todo:
        v = todo.pop(0)
        if v in once and v in made and _is_sum(made[v]):
            todo[:0] = made[v].inputs
        else:
            found.append(v)
    return found


def _box(step: Instruction | None) -> Box | None:
    """Where an instruction puts its argument, if it makes all else zero."""
    if step is None or step.op is not _index.scatter_add or len(step.inputs) != 1:
        return None
    index, shape = step.static["index"], step.static["shape"]
    if any(i is None for i in index):
        return None
    before = next((n for n, i in enumerate(index) if i is ...), len(index))
    behind = index[before + 1 :]
    whole = [slice(None)] * (len(shape) - before - len(behind))
    bounds = [
        i.indices(n) if isinstance(i, slice) else (i % n, i % n + 1, 1)
        for i, n in zip([*index[:before], *whole, *behind], shape, strict=True)
    ]
    box = [(start, end) for start, end, _ in bounds]
    fits = math.prod(max(end - start, 0) for start, end in box) == step.inputs[0].size > 0
    return box if fits and all(by == 1 for *_, by in bounds) else None


def _filled(boxes: Sequence[Box], shape: Sequence[int]) -> int | None:
    """The axis along which boxes lie side by side and fill an array; None if they do not."""
    for axis, n in enumerate(shape):
        ends = sorted(box[axis] for box in boxes)
        tiles = len(ends) > 1 and all(a[1] == b[0] for a, b in pairwise([(0, 0), *ends, (n, n)]))
        if tiles and all(box[i] == (0, m) for box in boxes for i, m in enumerate(shape) if i != axis):
            return axis
    return None
