"""`ExponentialAverage`: an exponentially weighted average of numbers, arrays or a model's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import wrap
from ..scope import taping


class ExponentialAverage:
    """v ← βv + (1 - β)θ from v = 0; an average over about 1 / (1 - β) values.

    beta: β, from 0 to below 1. bias_correction: return v / (1 - βᵗ), which is correct from the first value on. The
        first `update` decides what is averaged: a number, an array, a Tensor or a Module (its floating parameters and
        buffers by name; of others the latest value is kept). Raises ValueError for β out of range.
    """

    def __init__(self, beta: float, bias_correction: bool = True) -> None:
        if not 0 <= beta < 1:
            raise ValueError(f"ExponentialAverage: expected 0 <= beta < 1, got {beta}")
        self.beta, self.bias_correction = beta, bias_correction
        self.count = 0
        self._average: dict[str, Any] = {}

    def update(self, value: Any) -> Any:
        """Add a value and return the average so far (for a model, its averaged state dict).

        Raises ValueError for other names or shapes than before, RuntimeError in a compiled step."""
        if taping() is not None:
            raise RuntimeError("ExponentialAverage.update: not inside a compiled step; call it after the step")
        parts = _parts(value)
        if self.count and _shapes(parts) != _shapes(self._average):
            raise ValueError("ExponentialAverage: the value has other names or shapes than before")
        for name, new in parts.items():
            if new.dtype.kind == "f":
                new = (1 - self.beta) * new
                if self.count:
                    new += self.beta * self._average[name]
            self._average[name] = new
        self.count += 1
        return self.value

    @property
    def value(self) -> Any:
        """The average so far: a number, an array, or a state dict for `load_state_dict`."""
        if not self.count:
            raise RuntimeError("ExponentialAverage: no value yet; call update first")
        correction = 1 - self.beta**self.count if self.bias_correction else 1.0
        averaged = {name: v / correction if v.dtype.kind == "f" else v for name, v in self._average.items()}
        return averaged[""] if "" in averaged else {name: wrap(np.asarray(v)) for name, v in averaged.items()}

    def state_dict(self) -> dict[str, Any]:
        """The number of values and the uncorrected average by name, as plain data."""
        return {"count": self.count, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`."""
        if set(state) != {"count", "average"}:
            raise ValueError(f"ExponentialAverage.load_state_dict: expected count and average, got {sorted(state)}")
        self.count = int(state["count"])
        self._average = {name: _array(v).copy() for name, v in state["average"].items()}


def _parts(value: Any) -> dict[str, Any]:
    """Arrays by name; a single value, which has the name "", is floating."""
    if hasattr(value, "state_dict"):
        return {name: tensor.data for name, tensor in value.state_dict().items()}
    array = _array(value)
    return {"": array if array.dtype.kind == "f" else array.astype(np.float64)}


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else np.asarray(value)


def _shapes(parts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: part.shape for name, part in parts.items()}
