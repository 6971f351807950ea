"""The records of a computation: one Node per operation, a Leaf where gradients arrive.

A Node holds ndarrays and its parents' Nodes, never Tensors, so that a graph has no reference cycles and
goes away with the last Tensor that needs it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import count
from sys import getrefcount
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._source import Line, user_line
from .scope import Path

if TYPE_CHECKING:
    from ._tensor import Tensor
    from .primitive import Primitive

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
SEVERAL = np.dtype(np.void)  # stands for the dtype of an operation with several results
SMALL = 4  # values and gradients of up to so many elements outlive the backward pass, for pictures

next_order = count(1).__next__
last_write = 0  # `next_order` at the last `assign` to any leaf


class Handle:
    """What the engine knows of a Tensor; the class that users see is built on it in `_tensor.py`."""

    __slots__ = ("__weakref__", "_grad", "data", "name", "node")
    data: Array
    node: Node | None
    name: str | None
    _grad: Tensor | None


result: type[Tensor]  # the class that operations return
_empty: Any = object.__new__


def set_result(cls: type[Tensor]) -> None:
    """Name the class that operations return."""
    global result
    result = cls


def wrap(data: Array, node: Node | None = None) -> Tensor:
    """A Tensor around an array, without a copy or a check."""
    tensor: Tensor = _empty(result)
    tensor.data = data
    tensor.node = node
    tensor.name = tensor._grad = None
    return tensor


def is_floating(value: Any) -> bool:
    """Is it an array of a dtype through which gradients flow?"""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


class Node:
    """One recorded operation, as plain data."""

    __slots__ = (
        "__weakref__", "args", "code", "dtype", "grad", "instruction", "names", "order", "origin", "output", "parents",
        "path", "primitive", "retain", "saved", "shape", "spent", "static",
    )  # fmt: skip

    primitive: Primitive | None
    parents: Sequence[Node | None]
    args: Sequence[Any]  # arrays and scalars; the parent Node for what no rule reads, or was let go
    static: dict[str, Any]
    saved: Any  # what a fused forward left for its backward
    path: Path | None  # of the running module
    names: dict[int, str] | None  # of constant arguments, by position
    code: CodeType  # with the instruction, the user's line
    instruction: int
    order: int  # of creation, which is a topological order
    output: Any  # kept if a rule reads it, or if it is small
    shape: tuple[int, ...]  # of the output; () of several
    dtype: np.dtype[Any]  # of the output; SEVERAL
    origin: Leaf | None  # the leaf whose memory the output views
    grad: Any  # kept if small or asked for
    retain: int  # keep `grad`: 1 because it is small, 2 because `retain_grad` asked for it
    spent: Line | None  # the line whose backward consumed this node

    def _place(self, array: Array, parents: Sequence[Node], line: Line, path: Path | None) -> None:
        """Fill in a node that is no operation. (Operations are filled in where they are recorded.)"""
        self.primitive = self.saved = self.names = self.output = self.origin = self.grad = self.spent = None
        self.parents, self.args, self.static, self.path, self.retain = parents, [], {}, path, 0
        self.code, self.instruction = line
        self.shape, self.dtype, self.order = array.shape, array.dtype, next_order()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def several(self) -> bool:
        """Has it several results? Each is an Output, and it has no value of its own."""
        return self.dtype is SEVERAL

    @property
    def operation(self) -> Node:
        """The node of the operation that gave this value."""
        return self

    @property
    def line(self) -> Line:
        return self.code, self.instruction

    def release(self, line: Line) -> None:
        """Let go of the arrays of the graph after backward. Small outputs stay, for pictures; so do constants,
        which are mostly the caller's own data."""
        self.spent = line
        self.saved = None
        if self.retain != 1:
            self.output = None
        args, parents = self.args, self.parents
        if len(parents) == 2:  # written out: 0.06 µs less
            a, b = parents
            x, y = args
            self.args = x if a is None else a, y if b is None else b
        else:
            self.args = [a if p is None else p for a, p in zip(args, parents, strict=True)]


class Leaf(Node):
    """Where gradients arrive. Holds the engine's only reference to a Tensor, a weak one; for pictures it keeps
    the name, and a small value, when the Tensor is gone."""

    __slots__ = ("added", "carried", "name", "stamp", "tensor", "written")

    def __init__(self, tensor: Tensor) -> None:
        self._place(tensor.data, (), user_line(), None)
        self.tensor = weakref.ref(tensor)
        self.name = tensor.name
        if tensor.data.size <= SMALL:
            self.output, self.retain = tensor.data, 1
        self.stamp = 0  # the creation counter at the last `assign`
        self.written: Line | None = None  # its line
        self.added = self.carried = 0  # the stamp when `.grad` was last added to; how many writes it has outlived so

    def overwritten(self) -> None:
        """Note that the tensor no longer has the value that recorded operations saw."""
        global last_write
        last_write = self.stamp = next_order()
        self.written = user_line()
        tensor = self.tensor()
        if self.retain and tensor is not None:
            self.output = tensor.data


class Output(Node):
    """One result of an operation with several; its one parent is that operation's Node."""

    __slots__ = ("index", "siblings")

    def __init__(self, parent: Node, index: int, siblings: Sequence[Array]) -> None:
        self._place(siblings[index], (parent,), parent.line, parent.path)
        self.index, self.siblings = index, len(siblings)
        if siblings[index].size <= SMALL:
            self.output = siblings[index]

    @property
    def operation(self) -> Node:
        return self.parents[0]  # type: ignore[return-value]


def behind(roots: Sequence[Node]) -> list[Node]:
    """All nodes that lead to the roots, in the order in which they were made."""
    found, stack = set(roots), list(roots)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=lambda node: node.order)


def _references(handle: Handle) -> int:
    return getrefcount(handle.data)


def _alone() -> int:
    handle = Handle()
    handle.data = np.empty(1)
    return _references(handle)


_ALONE = _alone()  # differs between Python versions


class Holder(Protocol):
    """Who keeps arrays of state, and reads them anew all the same: a compiled program between its runs."""

    def holds(self, array: Array) -> int:
        """How many references it has to an array."""


_holders: tuple[weakref.ref[Holder], ...] = ()  # replaced as a whole, since other threads may be reading it


def add_holder(holder: Holder) -> None:
    """From now on until it is gone, it may hold arrays."""
    global _holders
    _holders = *(other for other in _holders if other() is not None), weakref.ref(holder)


def _held(array: Array) -> int:
    return sum(holder.holds(array) for reference in _holders if (holder := reference()) is not None)


def unshared(handle: Handle) -> bool:
    """Does the handle's array own its memory, and does nobody else refer to it (no view, graph or variable), but for
    holders?"""
    if handle.data.base is not None:
        return False
    more = _references(handle) - _ALONE
    return not more or more == _held(handle.data)
