"""Optimizers that scale each step by the size of past gradients.

`eps_inside` puts ε under the root, √(S + ε), instead of outside, √S + ε. g is the gradient, S an average of its
square, m an average of itself. Options and defaults are PyTorch's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._tensor import Tensor
from ..graph import wrap
from .optimizer import Optimizer, signed, zeros


def root(square: Any, o: dict[str, Any], scale: float = 1.0) -> Any:
    """√S + ε or √(S + ε), of S / scale² and then times scale: the correction costs no pass over the elements
    when the step's factor takes it in (Kingma and Ba 2014, end of section 2)."""
    if o["eps_inside"]:
        return np.sqrt(square + o["eps"] * scale * scale)
    result = np.sqrt(square)
    result += o["eps"] * scale
    return result


class RMSprop(Optimizer):
    """S ← αS + (1 - α)g²; w ← w - lr · g / √S (Tieleman and Hinton 2012).

    alpha: the decay factor of S, 0.99. centered: subtract the squared mean gradient from S. momentum: of the steps."""

    needs: ClassVar = {"momentum": "momentum_buffer", "centered": "grad_avg"}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**options, "centered": centered, "maximize": maximize, "eps_inside": eps_inside})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = {"square_avg": zeros(p)}
        if group["momentum"]:
            state["momentum_buffer"] = zeros(p)
        if group["centered"]:
            state["grad_avg"] = zeros(p)
        return state

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        g = signed(p, g, o)
        square = state["square_avg"]
        square *= o["alpha"]
        square += (1 - o["alpha"]) * g * g
        if o["centered"]:
            mean = state["grad_avg"]
            mean *= o["alpha"]
            mean += (1 - o["alpha"]) * g
            square = square - mean * mean
        step = g / root(square, o)
        if o["momentum"]:
            v = state["momentum_buffer"]
            v *= o["momentum"]
            v += step
            step = v
        p -= o["lr"] * step


class Adagrad(Optimizer):
    """S ← S + g²; w ← w - lr/(1 + (t - 1) · lr_decay) · g / √S (Duchi et al. 2011)."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        options["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(params, {**options, "maximize": maximize, "eps_inside": eps_inside})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"sum": wrap(np.full(p.shape, group["initial_accumulator_value"], p.dtype))}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        return {"rate": group["lr"] / (1 + (state["step"] - 1) * group["lr_decay"])}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        g = signed(p, g, o)
        state["sum"] += g * g
        p -= o["rate"] * g / root(state["sum"], o)
