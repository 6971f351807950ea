"""In which forms matrix products are computed: with their axes in another order, and as sums where one is a vector."""

from __future__ import annotations

import math
from collections.abc import Callable

from .. import ops
from .lowering import basic_name
from .passes import axes_order
from .program import Instruction, Program, Value
from .rewriting import Rewriter, instead

LEAST = 2**15  # numbers of a matrix, whose product with a vector is a sum: a smaller one is as quick as a product


def is_product(step: Instruction) -> bool:
    """Of matrices, or of batches of them?"""
    return basic_name(step) == "matmul" and all(x.ndim >= 2 for x in step.inputs)


def turned_products(program: Program) -> dict[Value, tuple[Value, list[int]]]:
    """Products that are only read with their axes in another order, in which they can be written: what reads them so,
    and the order."""
    readers: dict[Value, list[Instruction]] = {}
    for step in program.body:
        for x in step.inputs:
            readers.setdefault(x, []).append(step)
    given = set(program.outputs)
    found = {}
    for step in program.body:
        y = step.outputs[0]
        if not is_product(step) or y in given or y not in readers:
            continue
        orders = [axes_order(s) if basic_name(s) == "transpose" else [] for s in readers[y]]
        order = orders[0]
        if order and order[-1] >= y.ndim - 2 and orders.count(order) == len(orders):
            found[y] = readers[y][0].outputs[0], order
    return found


def summed_products(program: Program, lowers: Callable[[Instruction], bool]) -> Program:
    """Products of a matrix with a vector as sums of products of numbers, and products of a column with a row without:
    so one kernel computes them together with what stands beside them, and a matrix is read once for both directions of
    a linear model, by several threads. lowers: is an instruction computed by the backend itself?"""
    new = Rewriter(program)
    makers = program.makers()
    for old in program.body:
        step = new.step(old)
        if not is_product(step) or step.outputs[0].ndim > 2 or not step.outputs[0].size or not lowers(step):
            new.body.append(step)
            continue
        (m, k), n = step.inputs[0].shape, step.outputs[0].shape[1]
        if k == 1:
            new.body.append(instead(step, ops.multiply, step.inputs, step.outputs[0]))
        elif min(m, n) == 1 and k * max(m, n) >= LEAST:
            new.body += _summed(step, makers)
        else:
            new.body.append(step)
    return new.done()


def _summed(step: Instruction, makers: dict[Value, Instruction]) -> list[Instruction]:
    """A matrix times a vector. The matrix is taken as it lies."""
    first, second = step.inputs
    y = step.outputs[0]
    (matrix, vector), axis = ((first, second), 1) if y.shape[1] == 1 else ((second, first), 0)
    maker = makers.get(matrix)
    if maker is not None and basic_name(maker) == "transpose" and maker.inputs[0].ndim == 2:
        matrix, axis = maker.inputs[0], 1 - axis
    size = math.prod(vector.shape)
    factor = Value((size, 1) if axis == 0 else (1, size), vector.dtype)
    product = Value(matrix.shape, y.dtype)
    total = Value(tuple(n for i, n in enumerate(matrix.shape) if i != axis), y.dtype)
    return [
        instead(step, ops.reshape, [vector], factor, shape=factor.shape),
        instead(step, ops.multiply, [matrix, factor], product),
        instead(step, ops.sum, [product], total, axis=axis, keepdims=False),
        instead(step, ops.reshape, [total], y, shape=y.shape),
    ]
