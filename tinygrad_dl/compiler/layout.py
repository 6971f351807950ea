"""In which order the elements of each value of a program lie in memory, if its inputs and constants lie in C order.

NumPy keeps the order of an elementwise operation's arguments, and the order decides how a sum is added up: a
buffer in another order would give other last digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import Array
from ..ops import index as _index
from ..ops._arguments import axes_of
from .program import Instruction, Program, Value

VIEWS = (ops.reshape, ops.transpose)
REDUCTIONS = (ops.sum, ops.mean, ops.max, ops.min, ops.prod)
WHERE = ops.choice._where
GETITEM, SCATTER_ADD, SETITEM = _index._getitem, _index.scatter_add, _index._setitem


def is_elementwise(step: Instruction) -> bool:
    """Does each element of the one output depend on one element of each argument, broadcast?"""
    return len(step.outputs) == 1 and (step.op.elementwise or step.op in (WHERE, ops.astype))


def is_view(step: Instruction) -> bool:
    """Does the result only show memory of its argument (or, rarely, a copy)?"""
    return step.op in VIEWS or (step.op is GETITEM and len(step.args) == 1)


def prototypes(program: Program) -> dict[Value, Array]:
    """For each value an array of its shape, dtype and order, of arbitrary content."""
    found = {v: np.empty(v.shape, v.dtype) for v in (*program.inputs, *program.constants)}
    for step in program.body:
        arrays = [found[v] for v in step.inputs]
        y = step.outputs[0]
        if is_view(step):
            found[y] = np.asarray(step.op.kernel(arrays[0], **step.static))
        elif is_elementwise(step):
            found[y] = _elementwise(arrays, y)
        elif step.op in (SETITEM, ops.copy):
            found[y] = _elementwise(arrays[:1], y)
        elif step.op in REDUCTIONS:
            found[y] = _reduced(arrays[0], y, step.static)
        else:
            found.update((v, np.empty(v.shape, v.dtype)) for v in step.outputs)
    return found


def order_of(array: Array) -> tuple[int, ...]:
    """The axes from the outermost in memory to the innermost."""
    axes = range(array.ndim)
    return tuple(axes) if array.flags.c_contiguous else tuple(sorted(axes, key=lambda i: -abs(array.strides[i])))


def ordered(shape: Sequence[int], dtype: Any, order: Sequence[int]) -> Array:
    """An array whose axes lie in memory in an order."""
    outside_in = np.empty([shape[i] for i in order], dtype)
    return outside_in.transpose(np.argsort(order))


def _elementwise(arrays: list[Array], y: Value) -> Array:
    if all(a.flags.c_contiguous and a.shape == y.shape for a in arrays):
        return np.empty(y.shape, y.dtype)
    flags: Any = [["readonly"]] * len(arrays) + [["writeonly", "allocate"]]
    dtypes = [*[a.dtype for a in arrays], y.dtype]
    iterator = np.nditer([*arrays, None], ["zerosize_ok"], flags, dtypes, order="K")
    return iterator.operands[-1]


def _reduced(x: Array, y: Value, static: dict[str, Any]) -> Array:
    gone = axes_of(static.get("axis"), x.ndim)
    left = [i for i in order_of(x) if i not in gone]
    if static.get("keepdims"):
        return ordered(y.shape, y.dtype, [*left, *gone])
    numbers = sorted(left)
    return ordered(y.shape, y.dtype, [numbers.index(i) for i in left])
