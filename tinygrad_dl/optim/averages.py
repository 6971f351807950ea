"""`ExponentialAverage`: an exponentially weighted average of numbers, arrays or a model's state."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._tensor import Tensor
from ..scope import taping


class ExponentialAverage:
    """v ← βv + (1 - β)θ from v = 0; an average over about 1 / (1 - β) values.

    bias_correction: give v / (1 - βᵗ), which is right from the first value on. What is averaged, a number, an
    array, a Tensor or a Module (its floating state, by name), is decided by the first `update`.
    """

    def __init__(self, beta: float, bias_correction: bool = True) -> None:
        if not 0 <= beta < 1:
            raise ValueError(f"ExponentialAverage: expected 0 <= beta < 1, got {beta}")
        self.beta, self.bias_correction = beta, bias_correction
        self.count = 0
        self._average: dict[str, Any] = {}
        self._latest: dict[str, Any] = {}

    def update(self, value: Any) -> Any:
        """Take in a value and return the average so far (of a model: its averaged state dict)."""
        if taping() is not None:
            raise RuntimeError("ExponentialAverage.update: not inside a compiled step; call it after the step")
        parts = _parts(value)
        if self.count and {k: np.shape(v) for k, v in parts.items()} != {
            k: np.shape(v) for k, v in self._latest.items()
        }:
            raise ValueError("ExponentialAverage: the value has other names or shapes than before")
        for name, new in parts.items():
            if np.asarray(new).dtype.kind == "f":
                self._average[name] = self.beta * self._average.get(name, 0.0) + (1 - self.beta) * new
        self._latest = parts
        self.count += 1
        return self.value

    @property
    def value(self) -> Any:
        """The average so far: a number, an array, or a state dict for `load_state_dict`."""
        if not self.count:
            raise RuntimeError("ExponentialAverage: no value yet; call update first")
        correction = 1 - self.beta**self.count if self.bias_correction else 1.0
        averaged = {name: v / correction for name, v in self._average.items()}
        if "" in self._latest:
            return averaged[""]
        return {name: Tensor(averaged.get(name, latest), latest.dtype) for name, latest in self._latest.items()}


def _parts(value: Any) -> dict[str, Any]:
    """Copies by name; a single value, which has the name "", is floating."""
    if hasattr(value, "state_dict"):
        return {name: tensor.data for name, tensor in value.state_dict().items()}
    if not isinstance(value, Tensor | np.ndarray):
        return {"": float(value)}
    array = value.data if isinstance(value, Tensor) else value
    return {"": array.astype(array.dtype if array.dtype.kind == "f" else np.float64)}
