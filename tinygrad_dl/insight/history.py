"""How a value came about: operations and values as they ran, whoever recorded them.

A graph keeps only what its rules read. The other values are computed again, from the leaves and constants, when
somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._source import Line
from ..graph import Leaf, Node, Output
from ..primitive import Primitive
from ..scope import Path

Index = tuple[int, ...]


@dataclass(eq=False)
class Quantity:
    """A value of a computation. array: None where it is not known. made_by: the operation that gave it, or None for
    what came from outside. node: the graph's, if it has one. name: its own, or a parameter's in its model."""

    array: Any
    made_by: Operation | None = None
    node: Node | None = None
    name: str | None = None

    @property
    def leaf(self) -> Leaf | None:
        """The leaf that it is."""
        return self.node if isinstance(self.node, Leaf) else None

    @property
    def title(self) -> str:
        """What to call it."""
        if self.made_by is not None:
            return self.made_by.op.name
        return self.name or ("leaf" if self.leaf is not None else "constant")

    def at(self, index: Index | None) -> float | None:
        """One element, if it is known."""
        if self.array is None or index is None:
            return None
        return float(np.asarray(self.array)[index])

    def spoilt(self) -> bool:
        """Is any element NaN or infinite?"""
        return self.array is not None and not bool(np.isfinite(self.array).all())


@dataclass(eq=False)
class Operation:
    """One operation as it ran. given: its operands, or a function that finds them, for a graph may reach far back.
    output: its result, if it is known. result: which of several it is."""

    op: Primitive
    given: list[Quantity] | Callable[[], list[Quantity]]
    static: dict[str, Any]
    line: Line | None
    path: Path | None
    output: Any = None
    result: int = 0

    @property
    def operands(self) -> list[Quantity]:
        if callable(self.given):
            self.given = self.given()
        return self.given


class Recorded:
    """The values and operations of a graph."""

    def __init__(self) -> None:
        self._values: dict[Node, Any] = {}

    def quantity(
        self, node: Node | None, array: Any = None, name: str | None = None, path: Path | None = None
    ) -> Quantity:
        """The value of a node, or a constant; path: of the module that read it."""
        if node is None:
            return Quantity(array, name=name)
        array = self.value(node) if array is None else array
        if isinstance(node, Leaf):
            return Quantity(array, node=node, name=node.name or _attribute(node, path))
        return Quantity(array, self.operation(node, array), node)

    def operation(self, node: Node, output: Any = None) -> Operation:
        """What a node recorded."""
        result, node = node.index if isinstance(node, Output) else 0, node.operation
        op: Any = node.primitive
        return Operation(op, lambda: self._operands(node), node.static, node.line, node.path, output, result)

    def _operands(self, node: Node) -> list[Quantity]:
        names = node.names or {}
        return [
            self.quantity(parent, None if arg is parent else arg, names.get(i), node.path)
            for i, (arg, parent) in enumerate(zip(node.args, node.parents, strict=True))
        ]

    def value(self, node: Node) -> Any:
        """The value of a node, or None: its leaf may have been overwritten, or be gone."""
        waiting, needed = [node], set()
        while waiting:
            n = waiting.pop()
            if n in needed or n in self._values:
                continue
            needed.add(n)
            if n.output is None and not isinstance(n, Leaf):
                pairs = zip(n.args, n.parents, strict=True) if n.primitive else [(p, p) for p in n.parents]
                waiting += [p for a, p in pairs if p is not None and a is p]
        for n in sorted(needed, key=lambda n: n.order):
            self._values[n] = self._compute(n)
        return self._values[node]

    def _compute(self, node: Node) -> Any:
        if isinstance(node, Leaf):
            tensor = node.tensor()
            return node.output if tensor is None else tensor.data
        if node.output is not None:
            return node.output
        if isinstance(node, Output):
            results = self._values[node.operation]
            return None if results is None else results[node.index]
        for parent in node.parents:
            if isinstance(parent, Leaf) and parent.stamp > node.order:
                return None
        args = [
            self._values[p] if p is not None and a is p else a for a, p in zip(node.args, node.parents, strict=True)
        ]
        if any(a is None and p is not None for a, p in zip(args, node.parents, strict=True)):
            return None
        op: Any = node.primitive
        return quietly(lambda: op.kernel(*args, **node.static))


def _attribute(leaf: Leaf, path: Path | None) -> str | None:
    """A parameter's name: of the running module's attribute that holds it."""
    module, tensor = path and path.module(), leaf.tensor()
    if module is None or tensor is None:
        return None
    return next((f"{path}.{name}" for name, value in vars(module).items() if value is tensor), None)


def quietly(f: Any) -> Any:
    """What a kernel or rule gives, or None if it cannot run; without NumPy's warnings."""
    try:
        with np.errstate(all="ignore"):
            return f()
    except Exception:
        return None


def changed(operation: Operation, position: int, mask: Any) -> Any:
    """The elements of a result that depend on an operand's in the mask, or None if that is not known.

    NaN is put in their place, which spreads wherever the value is used; in the place of whole numbers, others of them.
    """
    arrays = [q.array for q in operation.operands]
    if any(a is None and q.node is not None for a, q in zip(arrays, operation.operands, strict=True)):
        return None

    def run() -> Any:
        result = operation.op.kernel(*arrays, **operation.static)
        return result[operation.result] if isinstance(result, tuple) else result

    before, given = None, np.asarray(arrays[position])
    other = np.nan
    if given.dtype.kind != "f":
        before, other = quietly(run), np.where(given == given.max(), given.min(), given.max())
    arrays[position] = np.where(mask, other, given)
    after = quietly(run)
    return None if after is None else np.isnan(after) if before is None else after != before


def pulled(operation: Operation, g: Any, position: int) -> Any:
    """The gradient of one operand for the gradient g of the result, as the operation's own rule gives it, or None."""
    op, static = operation.op, operation.static
    arrays = [q.node if q.array is None else q.array for q in operation.operands]  # a node stands in for what is unread

    def pull() -> Any:
        y, saved, incoming = operation.output, None, g
        if op.forward is not None:
            y, saved = op.forward(*arrays, **static)
            if isinstance(y, tuple):
                incoming = tuple(g if i == operation.result else None for i in range(len(y)))
        elif y is None:
            y = op.kernel(*arrays, **static)
        return op.vjp(incoming, y, saved, arrays, static, [position])[position]

    return quietly(pull)


def element(operation: Operation, index: Index, position: int) -> Index | None:
    """The element of an operand that an element of the result comes from: of several, the first that is not finite,
    else the one that counts most. None if it has no part in it."""
    array = operation.operands[position].array
    shape = np.shape(array)
    if operation.op.elementwise:
        return tuple(0 if n == 1 else k for n, k in zip(shape, index[len(index) - len(shape) :], strict=True))
    if operation.output is None or array is None or not shape:
        return () if array is not None and not shape else None
    unit = np.zeros(operation.output.shape, operation.output.dtype)
    unit[index] = 1
    share = pulled(operation, unit, position)
    if share is None or not np.any(share != 0):
        return index if shape == operation.output.shape else None
    bad = (share != 0) & ~np.isfinite(array)
    with np.errstate(all="ignore"):
        weight = bad if bad.any() else np.abs(np.nan_to_num(array * share, nan=0.0))
    return tuple(int(i) for i in np.unravel_index(np.argmax(weight), shape))


def back_to_inputs(quantity: Quantity, index: Index | None) -> Iterator[tuple[Quantity, Index | None]]:
    """A value, the operand that it owes most to, and so on, back to what came from outside."""
    while True:
        yield quantity, index
        operation = quantity.made_by
        if operation is None or index is None:
            return
        found = [(q, element(operation, index, i)) for i, q in enumerate(operation.operands) if q.array is not None]
        found = [(q, at) for q, at in found if at is not None and np.asarray(q.array).dtype.kind == "f"]
        if not found:
            return
        quantity, index = max(found, key=_matters)


def _matters(place: tuple[Quantity, Index | None]) -> tuple[bool, bool, float]:
    """What was not finite before, then what has a history, then what is largest."""
    quantity, index = place
    value = quantity.at(index)
    known = value is not None and np.isfinite(value)
    return not known, quantity.made_by is not None or quantity.leaf is not None, abs(value) if known else 0.0  # type: ignore[arg-type]


def users(roots: Sequence[Node], below: Node) -> dict[Node, list[Node]]:
    """For each node from the roots down to `below`, the nodes whose parent it is."""
    found: dict[Node, list[Node]] = {root: [] for root in roots}
    stack = list(found)
    while stack:
        node = stack.pop()
        for parent in node.parents:
            if parent is None or parent.order < below.order:
                continue
            if parent not in found:
                found[parent] = []
                stack.append(parent)
            found[parent].append(node)
    return found
