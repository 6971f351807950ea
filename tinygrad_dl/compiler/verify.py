"""`compile(..., verify=n)`: the first n replays are run beside the function itself, from the same state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Array, Handle
from ..random import generator
from .actions import Optimize, Schedule
from .replay import Recorded
from .structure import take_apart

TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-4, np.dtype(np.float16): 1e-2}  # of a norm


class _Snapshot:
    """All that a run changes, copied, to be put back."""

    def __init__(self, recorded: Recorded) -> None:
        tensors = {id(t): t for _, t in (*recorded.read, *recorded.written)}
        tensors |= {id(t): t for _, t in (*recorded.stores, *recorded.gradients.found)}
        tensors |= {id(t): t for t in (*recorded.cleared, *(t for _, _, t in recorded.added_to))}
        self.tensors = list(tensors.values())
        self.values = [(t.data.copy(), None if t._grad is None else t._grad.data.copy()) for t in self.tensors]
        named = [source for draw in recorded.actions.draws for source in draw.generators]
        self.generators = [(g, g.bit_generator.state) for g in (generator(), *named)]
        actions = recorded.actions.numbers
        tables = [a.optimizer.state[p] for a in actions if isinstance(a, Optimize) for p in a.members]
        for action in actions:
            if isinstance(action, Schedule):
                tables += [action.schedule.__dict__, *action.schedule.optimizer.param_groups]
        self.tables = [(table, {k: v for k, v in table.items() if isinstance(v, int | float)}) for table in tables]

    def restore(self) -> None:
        """Put everything back."""
        for tensor, (value, grad) in zip(self.tensors, self.values, strict=True):
            tensor.data, tensor._grad = value, None
            if grad is not None:
                tensor.grad = grad
        for source, state in self.generators:
            source.bit_generator.state = state
        for table, numbers in self.tables:
            table.update(numbers)


def verified(recorded: Recorded, arguments: list[Array], eager: Callable[[], Any]) -> Any:
    """The result of the function itself, after a replay from the same state; raises RuntimeError if they differ.

    State is left as the function itself leaves it."""
    before = _Snapshot(recorded)
    fast = _outcome(recorded(arguments), before.tensors)
    before.restore()
    result = eager()
    slow = _outcome(result, before.tensors)
    for name, value in slow.items():
        _compare(name, fast[name], value)
    return result


def _outcome(result: Any, tensors: list[Any]) -> dict[str, Array]:
    """Results, state and gradients by a name for messages."""
    found: list[Any] = []
    take_apart(result, found)
    named = {f"result {i}": v.data if isinstance(v, Handle) else np.asarray(v) for i, v in enumerate(found)}
    for i, tensor in enumerate(tensors):
        name = tensor.name or f"tensor {i} {tensor.shape}"
        named[f"{name} of the state"] = tensor.data
        if tensor._grad is not None:
            named[f"the gradient of {name}"] = tensor._grad.data
    return {name: array.copy() for name, array in named.items()}


def _compare(name: str, fast: Array, slow: Array) -> None:
    if slow.dtype.kind != "f":
        if not np.array_equal(fast, slow):
            raise RuntimeError(f"compile: {name} differs from the function's own; please report this")
        return
    same = np.isfinite(slow)
    distance = float(np.linalg.norm(np.where(same, fast, 0.0) - np.where(same, slow, 0.0)))
    scale = float(np.linalg.norm(np.where(same, slow, 0.0)))
    if not np.array_equal(np.isfinite(fast), same) or distance > TOLERANCE[slow.dtype] * max(scale, 1e-3):
        raise RuntimeError(
            f"compile: {name} differs from the function's own by {distance:.2g} of a norm of {scale:.2g}\n"
            "  the function reads something that compiled steps do not see, or depends on rounding"
        )
