"""`turned_products`: matrix products of a program that may as well be written with their axes in another order."""

from __future__ import annotations

from .lowering import basic_name
from .passes import axes_order
from .program import Instruction, Program, Value


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
