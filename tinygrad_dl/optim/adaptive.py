"""Optimizers that scale each step by the size of past gradients.

`eps_inside` puts ε under the root, √(S + ε), instead of outside, √S + ε. g is the gradient, S an average of its
square, m an average of itself. Options and defaults are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._tensor import Tensor
from ..graph import wrap
from .optimizer import Optimizer, zeros


def _signed(p: Any, g: Any, o: dict[str, Any]) -> Any:
    """The gradient to descend along, with weight decay in it."""
    if o["maximize"]:
        g = -g
    return g + o["weight_decay"] * p if o["weight_decay"] else g


def _root(square: Any, o: dict[str, Any], scale: float = 1.0) -> Any:
    """√S + ε or √(S + ε), of S / scale² and then times scale: the correction costs no pass over the elements
    when the step's factor takes it in (Kingma and Ba 2014, end of section 2)."""
    if o["eps_inside"]:
        return np.sqrt(square + o["eps"] * scale * scale)
    root = np.sqrt(square)
    root += o["eps"] * scale
    return root


class RMSprop(Optimizer):
    """S ← αS + (1 - α)g²; w ← w - lr · g / √S (Tieleman and Hinton 2012).

    alpha: 0.99, the notes' β. centered: subtract the squared mean gradient from S. momentum: of the steps."""

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
        g = _signed(p, g, o)
        square = state["square_avg"]
        square *= o["alpha"]
        square += (1 - o["alpha"]) * g * g
        if o["centered"]:
            mean = state["grad_avg"]
            mean *= o["alpha"]
            mean += (1 - o["alpha"]) * g
            square = square - mean * mean
        step = g / _root(square, o)
        if o["momentum"]:
            v = state["momentum_buffer"]
            v *= o["momentum"]
            v += step
            step = v
        p -= o["lr"] * step


class Adam(Optimizer):
    """m ← β₁m + (1 - β₁)g; S ← β₂S + (1 - β₂)g²; w ← w - lr · m̂ / √Ŝ with both averages corrected for their
    start at zero (Kingma and Ba 2014, algorithm 1).

    weight_decay: λ of g ← g + λw. amsgrad: the largest S so far (Reddi et al. 2018)."""

    decoupled = False
    needs: ClassVar = {"amsgrad": "max_exp_avg_sq"}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "amsgrad": amsgrad, "maximize": maximize, "eps_inside": eps_inside})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return {name: zeros(p) for name in names}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        first, second = group["betas"]
        scale = math.sqrt(1 - second ** state["step"])
        return {"rate": group["lr"] * scale / (1 - first ** state["step"]), "scale": scale}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        first, second = o["betas"]
        if self.decoupled:
            g = -g if o["maximize"] else g
            if o["weight_decay"]:
                p *= 1 - o["lr"] * o["weight_decay"]
        else:
            g = _signed(p, g, o)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        term = g - mean
        term *= 1 - first
        mean += term
        square *= second
        term = g * g
        term *= 1 - second
        square += term
        if o["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            largest[...] = np.maximum(largest, square)
            square = largest
        step = mean / _root(square, o, o["scale"])
        step *= o["rate"]
        p -= step


class AdamW(Adam):
    """Adam with weight decay outside the gradient: w ← (1 - lr · λ)w first (Loshchilov and Hutter 2017)."""

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize, eps_inside)


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
        g = _signed(p, g, o)
        state["sum"] += g * g
        p -= o["rate"] * g / _root(state["sum"], o)


class NAdam(Optimizer):
    """Adam with Nesterov's look-ahead (Dozat 2016); momentum_decay ψ of its schedule μₜ = β₁(1 - ½ · 0.96^(tψ))."""

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        options |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, {**options, "maximize": maximize, "eps_inside": eps_inside})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"mu_product": 1.0, "exp_avg": zeros(p), "exp_avg_sq": zeros(p)}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        (first, second), t, decay = group["betas"], state["step"], group["momentum_decay"]
        mu, after = (first * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
        state["mu_product"] *= mu
        scale = math.sqrt(1 - second**t)
        return {
            "of_gradient": group["lr"] * scale * (1 - mu) / (1 - state["mu_product"]),
            "of_mean": group["lr"] * scale * after / (1 - state["mu_product"] * after),
            "scale": scale,
        }

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        first, second = o["betas"]
        if o["decoupled_weight_decay"]:
            g = -g if o["maximize"] else g
            p *= 1 - o["lr"] * o["weight_decay"]
        else:
            g = _signed(p, g, o)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (1 - first) * (g - mean)
        square *= second
        square += (1 - second) * g * g
        root = _root(square, o, o["scale"])
        p -= o["of_gradient"] * g / root
        p -= o["of_mean"] * mean / root


class RAdam(Optimizer):
    """Adam that waits until its variance can be estimated (Liu et al. 2019, algorithm 2)."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        maximize: bool = False,
        eps_inside: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        options |= {"decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, {**options, "maximize": maximize, "eps_inside": eps_inside})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"exp_avg": zeros(p), "exp_avg_sq": zeros(p)}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        (first, second), t = group["betas"], state["step"]
        longest = 2 / (1 - second) - 1
        length = longest - 2 * t * second**t / (1 - second**t)
        rectification = None
        if length > 5:
            ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            rectification = math.sqrt(ratio * (1 - second**t))
        return {"rate": group["lr"] / (1 - first**t), "rectification": rectification}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        first, second = o["betas"]
        if o["decoupled_weight_decay"]:
            g = -g if o["maximize"] else g
            p *= 1 - o["lr"] * o["weight_decay"]
        else:
            g = _signed(p, g, o)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (1 - first) * (g - mean)
        square *= second
        square += (1 - second) * g * g
        step = o["rate"] * mean
        if o["rectification"] is not None:
            step *= o["rectification"]
            step /= _root(square, o)
        p -= step


class Adamax(Optimizer):
    """Adam with the largest decayed |g| in place of the root (Kingma and Ba 2014, algorithm 2).

    eps_inside does not apply: there is no root."""

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "maximize": maximize})

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"exp_avg": zeros(p), "exp_inf": zeros(p)}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        return {"rate": group["lr"] / (1 - group["betas"][0] ** state["step"])}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        first, second = o["betas"]
        g = _signed(p, g, o)
        mean, largest = state["exp_avg"], state["exp_inf"]
        mean += (1 - first) * (g - mean)
        largest *= second
        largest[...] = np.maximum(largest, np.abs(g) + o["eps"])
        p -= o["rate"] * mean / largest
