"""`detect_nan`: stop at the first value or gradient that is not finite, and say where it came from.

While all is well a result costs one pass over its elements, by the dot product with itself: it is finite only if every
element is. Only when one is not are the graph and the source text looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._source import user_line
from ..compiler.program import Program, Value, execute
from ..graph import Array, Handle, Leaf, Node
from ..primitive import Primitive
from ..scope import block, current, watch_by, watched_by
from .failure import Failure
from .history import Operation, Quantity, Recorded


@block
def detect_nan() -> Iterator[None]:
    """Raise at the first NaN or infinity that an operation computes, forward or backward; in a `with` block, or in a
    function with the decorator `@detect_nan()`.

    The FloatingPointError names the operation, the user's line, the layer, the element and its operands there, how
    many elements are not finite, the values back to the inputs, the likely cause, and a replacement for the line, if
    one is known. NumPy's own warnings are off in the block. A constant infinity (a mask of -inf) raises no error until
    it becomes a NaN; neither does a NaN in data that no operation on a tensor with gradient reads. The results of a
    compiled function are checked after each run; if one is not finite, its state does not change.
    Per thread and per task. A training step takes 1.1 to 1.2 times as long (`python -m benchmarks insight`)."""
    with watched_by(Watch()), np.errstate(all="ignore"):
        yield


def finite(array: Array) -> bool:
    """Is every element finite?"""
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())  # squares may overflow


class Watch:
    """Looks at what operations, backward passes and compiled functions give."""

    def call(self, op: Primitive, args: Sequence[Any], static: dict[str, Any]) -> Any:
        """Run an operation, and look at its results. Arrays without a Tensor are the caller's own affair."""
        try:
            watch_by(None)
            result = op(*args, **static)
        finally:
            watch_by(self)
        for number, y in enumerate(result if isinstance(result, tuple) else (result,)):
            if isinstance(y, Handle) and not finite(y.data):
                self._value(op, args, static, y, number)
        return result

    def _value(self, op: Primitive, args: Sequence[Any], static: dict[str, Any], y: Handle, number: int) -> None:
        graph = Recorded()
        args, static = op._bind(tuple(args), static)
        path = current().path
        operands = [
            graph.quantity(a.node, a.data, a.name, path) if isinstance(a, Handle) else Quantity(_array(a)) for a in args
        ]
        operation = Operation(op, operands, static, user_line(), path, y.data, number)
        if is_new(operation, y.node is not None):
            raise Failure(operation, y.data).error()

    def gradient(self, node: Node, g: Any, position: int, r: Any, seeds: Sequence[tuple[Node, Any]]) -> None:
        """Look at the gradient r that a node's rule gives for one of its arguments."""
        r, g = (a.data if isinstance(a, Handle) else a for a in (r, g))
        if finite(r):
            return
        graph = Recorded()
        operation = graph.operation(node, graph.value(node))
        roots = [root for root, _ in seeds]
        raise Failure(operation, r, position=position, g=g, node=node, roots=roots).error()

    def replay(
        self, program: Program, run: Callable[[Sequence[Array]], list[Array]], arrays: Sequence[Array]
    ) -> list[Array]:
        """Run a program, and look at what it gives. If that is not finite, its inputs get their values back, and it is
        run again one instruction at a time, to find the first that gives anything else than finite numbers."""
        before = {i: arrays[i].copy() for i in program.updates.values()}  # whose memory a run may use
        outputs = run(arrays)
        if not all(map(finite, outputs)):
            for i, array in before.items():
                arrays[i][...] = array
            _find(program, arrays)
            if any(np.isnan(y).any() for y in outputs if y.dtype.kind == "f"):
                raise FloatingPointError(
                    "a compiled function gave NaN, but not when it is run one instruction at a time: "
                    "its values are at the edge of their dtype"
                )
        return outputs


def _find(program: Program, arrays: Sequence[Array]) -> None:
    """Raise at the first instruction of a program that gives NaN or infinity."""
    given = [*zip(program.inputs, arrays, strict=True), *program.constants.items()]
    made = {v: Quantity(array, name=v.name) for v, array in given}
    before: list[Operation] = []
    for step in program.body:
        operands = [made[a] if isinstance(a, Value) else Quantity(a) for a in step.args]
        results = execute(step, [q.array for q in operands])
        for number, (v, y) in enumerate(zip(step.outputs, results, strict=True)):
            operation = Operation(step.op, operands, step.static, step.line, step.path, y, number)
            if not finite(y) and is_new(operation, True):
                raise Failure(operation, y, before=before).error()
            made[v] = Quantity(y, operation)
            before.append(operation)


def _array(a: Any) -> Any:
    return np.asarray(a) if type(a) in (list, tuple) else a


def is_new(operation: Operation, recorded: bool) -> bool:
    """Is a result that is not finite to be reported, or does it only pass on an infinite constant, or, unrecorded,
    what was in the data?"""
    y, operands = operation.output, [q for q in operation.operands if _floats(q.array)]
    if any(isinstance(q.leaf, Leaf) and q.spoilt() for q in operands):
        return True
    if not recorded:
        return not any(q.spoilt() for q in operands)
    if np.isnan(y).any():
        return True
    infinite = [np.isinf(q.array) for q in operands]
    if not operation.op.elementwise:
        return not any(i.any() for i in infinite)
    passed = np.zeros(y.shape, bool)
    for places in infinite:
        passed |= places
    return bool((np.isinf(y) & ~passed).any())


def _floats(array: Any) -> bool:
    return isinstance(array, float) or getattr(getattr(array, "dtype", None), "kind", "") == "f"
