"""Why a gradient is zero: where on its way, and by which operation, it is stopped.

Which results an element reaches is found by changing it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .._source import describe_line
from ..graph import Array, Node, is_floating
from .flow import Flow, Use
from .history import Operation, Quantity, changed, pulled

FLAT = "floor ceil trunc rint round sign floor_divide heaviside fix"
SATURATED = "sigmoid tanh softmax erf log_softmax"
CHOOSING = "where maximum minimum max min clip fmax fmin take_along_axis"
LINEAR = "multiply divide matmul linear einsum dot"


def reasons(flow: Flow, zero: Array) -> list[str]:
    """What stops the gradient of the target's elements in the mask, one text per operation, in forward order."""
    found: dict[Node, str] = {}
    reached: dict[Node, Array] = {flow.target: zero}
    for node in sorted(flow.nodes, key=lambda n: n.order):
        mask = reached.pop(node, None)
        if mask is None:
            continue
        for use in flow.uses[node]:
            g, onward = flow.gradient(use.node), changed(flow.operation(use.node), use.position, mask)
            if onward is None:
                continue
            if not onward.any():
                found[use.node] = _place(use.node) + "it does not use these elements"
            if (g[onward] != 0).any():
                found[use.node] = _place(use.node) + _why(flow, use, mask)
            stopped = onward & (g == 0)
            if stopped.any():
                reached[use.node] = reached[use.node] | stopped if use.node in reached else stopped
    return [found[n] for n in sorted(found, key=lambda n: n.order)] or ["which operation stops it is not known"]


def _place(node: Node) -> str:
    operation: Any = node.operation
    layer = f" in layer {node.path}" if node.path is not None else ""
    return f"{operation.primitive.name}{layer}, at {describe_line(node.line)}: "


def _why(flow: Flow, use: Use, mask: Array) -> str:
    """Why a gradient that arrives at an operation's result does not get through to the operand."""
    if flow.share(use)[mask].any():
        return "the gradient along this path is not zero, but the sum over all paths is 0"
    operation = flow.operation(use.node)
    name, x = operation.op.name, operation.operands[use.position]
    for rows, explain in _TABLE:
        if name in rows.split():
            text = explain if isinstance(explain, str) else explain(flow, use, operation, x, mask)
            if text is not None:
                return text
    if _lost(flow, use, operation, mask):
        return f"underflow: the product of gradient and derivative is too small for {x.array.dtype}; scale the loss"
    if _cancels(flow, use, operation, mask):
        return "the contributions cancel: they are not zero, but their sum is"
    return "its derivative is zero there"


def _dead(flow: Flow, use: Use, operation: Operation, x: Quantity, mask: Array) -> str | None:
    closed = np.asarray(operation.output) <= 0
    units = closed.reshape(-1, closed.shape[-1]).all(axis=0) if closed.ndim > 1 else closed.reshape(-1)
    kind = f"{np.count_nonzero(units)} of {units.size} units are dead (never above 0 on this batch)"
    if not units.any():
        kind = f"{np.count_nonzero(closed)} of {closed.size} inputs are not above 0"
    return f"{kind}, and pass no gradient: lower the learning rate, look at the bias, or use leaky_relu"


def _saturated(flow: Flow, use: Use, operation: Operation, x: Quantity, mask: Array) -> str | None:
    low, high = float(np.min(x.array)), float(np.max(x.array))
    return (
        f"saturated: for inputs from {low:.4g} to {high:.4g} the result rounds to a constant, whose derivative is 0; "
        "scale the inputs or the weights down"
    )


def _times_zero(flow: Flow, use: Use, operation: Operation, x: Quantity, mask: Array) -> str | None:
    for i, q in enumerate(operation.operands):
        if i == use.position or not isinstance(q.array, np.ndarray | float | int):
            continue
        zeros = np.count_nonzero(np.asarray(q.array) == 0)
        if zeros and not _lost(flow, use, operation, mask) and not _cancels(flow, use, operation, mask):
            what = q.name or (f"the result of {q.made_by.op.name}" if q.made_by else "a constant")
            return f"it is multiplied by 0: {zeros} of {np.size(q.array)} elements of {what} are 0"
    return None


Explain = Callable[[Flow, Use, Operation, Quantity, Array], str | None]
_TABLE: tuple[tuple[str, Explain | str], ...] = (
    ("relu", _dead),
    (SATURATED, _saturated),
    (CHOOSING, "it chose other elements than these, so they have no influence on the loss"),
    (FLAT, "a step function: its derivative is 0 everywhere"),
    ("dropout", "dropped in this pass"),
    (LINEAR, _times_zero),
)


def _again(flow: Flow, use: Use, operation: Operation, change: Callable[[Array], Array]) -> Any:
    """The operand's gradient with every floating array changed."""
    altered = Operation(
        operation.op, list(_changed(operation, change)), operation.static, None, None, None, operation.result
    )
    return pulled(altered, change(flow.gradient(use.node)), use.position)


def _changed(operation: Operation, change: Callable[[Array], Array]) -> Iterator[Quantity]:
    for q in operation.operands:
        yield Quantity(change(q.array) if is_floating(q.array) else q.array, q.made_by, q.node, q.name)


def _through(r: Any, mask: Array) -> bool:
    """Does any gradient get through to the elements in the mask?"""
    if r is None:
        return False
    full, wanted = np.broadcast_arrays(r, mask) if np.ndim(r) >= mask.ndim else (r, mask)
    return bool((np.asarray(full)[wanted] != 0).any())


def _lost(flow: Flow, use: Use, operation: Operation, mask: Array) -> bool:
    """Would it get through in float64?"""
    return _through(_again(flow, use, operation, lambda a: a.astype(np.float64)), mask)


def _cancels(flow: Flow, use: Use, operation: Operation, mask: Array) -> bool:
    """Would it get through if nothing were negative?"""
    return operation.op.name in LINEAR.split() and _through(_again(flow, use, operation, np.abs), mask)
