"""`operator`: an operation of two arguments as a Tensor's operator, such as `a + b`."""

from __future__ import annotations

from collections.abc import Callable
from sys import _getframe
from typing import TYPE_CHECKING, Any

from . import graph
from . import scope as _scope
from ._source import USER_FILES, explain, user_frame, user_line
from .graph import SMALL, Handle, Node, _empty, next_order
from .primitive import _FLOAT32, Primitive, _ndarray, _unrecorded
from .scope import current

if TYPE_CHECKING:
    from ._tensor import Tensor

_NO_STATIC: dict[str, Any] = {}


def operator(op: Primitive) -> tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]:
    """The methods for `tensor op other` and `other op tensor`: the call and the record written out for two
    arguments, which saves 0.5 and 0.17 of 3.3 µs."""
    kernel, record, rules, drops, keeps = op.kernel, op._record, op.vjps, op.drops, op.keeps_output

    def method(self: Any, other: Any) -> Any:
        if _scope.observers and (observer := _scope.observer()) is not None:
            return observer.call(op, (self, other), _NO_STATIC)
        a: Any = self.data
        b, parent, names = other, None, None
        if isinstance(other, Handle):
            b, parent = other.data, other.node
            if parent is None and other.name is not None:
                names = {1: other.name}
        try:
            output = kernel(a, b)
        except Exception as error:
            raise explain(error, op.name, (self, other), {}, current().path, user_line()) from error
        node = self.node
        if node is None:
            if parent is None or not rules:
                return _unrecorded(output)
            if self.name is not None:
                names = {**(names or {}), 0: self.name}
        elif not rules:
            return _unrecorded(output)
        if drops:
            a = node if node is not None and 0 in drops else a
            b = parent if parent is not None and 1 in drops else b
        scope, dtype = current(), output.dtype
        plain = dtype is _FLOAT32 or dtype.kind == "f"
        if not (plain and scope.recording and type(output) is _ndarray and output.size > SMALL):
            return record(output, (a, b), (node, parent), _NO_STATIC, None, names, 2)
        new = Node()  # from here on `_record` for the usual case
        new.primitive = op
        new.parents = node, parent
        new.args = a, b
        new.static = _NO_STATIC
        new.path = scope.path
        new.names = names
        frame = _getframe(1)
        code = frame.f_code
        if code.co_filename not in USER_FILES:
            frame = user_frame(frame)
            code = frame.f_code
        new.code = code
        new.instruction = frame.f_lasti
        new.order = next_order()
        new.saved = new.origin = new.grad = new.spent = None
        new.retain = 0
        new.shape = output.shape
        new.dtype = dtype
        new.output = output if keeps else None
        tensor = _empty(graph.result)
        tensor.data = output
        tensor.node = new
        tensor.name = tensor._grad = None
        return tensor

    def reflected(self: Any, other: Any) -> Any:
        return op(other, self)

    return method, reflected
