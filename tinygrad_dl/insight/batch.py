"""Which values have a row for each sample of the batch.

The size of an axis tells nothing: a weight may have as many rows as the batch. A value has a row for each sample if its
rows come, one by one, from the rows of the data, and go, one by one, into the rows that the loss adds up. Whether an
operation keeps rows apart is found by changing some rows of its operand: only the same rows of the result may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from ..graph import Array, Node
from .flow import Flow, Use, ancestors, below
from .history import Operation, changed

MIXING = "batch_norm"  # its row k belongs to the operand's, although its statistics read them all


class Batch:
    """rows: the values with a row for each sample, up to the loss, and whether they come from data alone. n: how many
    samples. certain: is it known which rows are a sample's? None of these without a value that reads data."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.rows, self.n, self.certain = flow, dict[Node, bool](), 0, True
        shared: set[Any] | None = None
        for last in flow.nodes:
            if not self._is_last(last) or not reads_data(last):
                continue
            rows, data = self._rows(last)
            shared = data if shared is None else shared & data
            self.certain &= self.n in (0, last.shape[0]) and flow.target not in rows and bool(shared)
            self.n = last.shape[0]
            self.rows.update(rows)

    def _is_last(self, node: Node) -> bool:
        """Is it the last value with several elements before the loss, on one of the ways?"""
        return prod(node.shape) > 1 and any(prod(use.node.shape) == 1 for use in self.flow.uses[node])

    def _rows(self, last: Node) -> tuple[dict[Node, bool], set[Any]]:
        """The values whose rows go one by one into those of the last, and the memory of the data among them."""
        operands: dict[Node, list[Node]] = {}
        data: set[Any] = set()
        plain: set[Node] = set()  # whose operations read data themselves
        waiting = [last]
        while waiting:
            node = waiting.pop()
            if node in operands:
                continue
            operands[node] = []
            for q in self._with_rows(node, last.shape[0]):
                if q.node is None:
                    data.add(q.array.__array_interface__["data"][0])
                    plain.add(node)
                else:
                    operands[node].append(q.node)
                    waiting.append(q.node)
        rows: dict[Node, bool] = {}
        for node in sorted(operands, key=lambda n: n.order):
            rows[node] = (node in plain or bool(operands[node])) and all(rows[p] for p in operands[node])
        return rows, data

    def _with_rows(self, node: Node, n: int) -> Iterator[Any]:
        """The operands of a value's operation whose rows it keeps apart."""
        if node.primitive is None and not below(node):
            return
        operation = self.flow.operation(node)
        for position, q in enumerate(operation.operands):
            if np.shape(q.array)[:1] == (n,) and np.size(q.array) and _keeps_rows(operation, position, n):
                yield q

    def beside(self, use: Use) -> bool:
        """Is what one use gives to the gradient sure to come from no sample?"""
        operation = self.flow.operation(use.node)
        others = [q for i, q in enumerate(operation.operands) if i != use.position]
        return operation.op.name in ("add", "subtract") or not any(_is_data(q.node, q.array) for q in others)


def reads_data(node: Node) -> bool:
    """Is an array without gradient among what a value was computed from?"""
    return any(
        parent is None and np.ndim(arg) > 0
        for n in ancestors(node)
        for arg, parent in zip(n.args, n.parents, strict=False)
    )


def _is_data(node: Node | None, array: Any) -> bool:
    return np.ndim(array) > 0 if node is None else reads_data(node)


def _keeps_rows(operation: Operation, position: int, n: int) -> bool:
    """Does row k of the result depend on row k of an operand, and on no other of its rows?

    Rows k and j differ in one of the bits of their numbers, so of the rows with a bit, and of those without it, one lot
    has k and not j."""
    if operation.op.name == MIXING and position == 0:
        return True
    numbers = np.arange(n)
    every = _rows_changed(operation, position, numbers >= 0)
    if every is None or not every.any():
        return False
    lots = (numbers >> bit & 1 == one for bit in range((n - 1).bit_length()) for one in (0, 1))
    changes = ((lot, _rows_changed(operation, position, lot)) for lot in lots)
    return all(found is not None and not np.any(found & ~lot) for lot, found in changes)


def _rows_changed(operation: Operation, position: int, rows: Array) -> Any:
    """The rows of a result that change with these rows of an operand, or None if it has not as many."""
    shape = (-1,) + (1,) * (operation.operands[position].array.ndim - 1)
    found = changed(operation, position, rows.reshape(shape))
    return found.reshape(len(rows), -1).any(axis=1) if found is not None and np.shape(found)[:1] == rows.shape else None
