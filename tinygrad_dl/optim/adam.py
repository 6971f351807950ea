"""Adam and its variants: the mean of past gradients, by the root of the mean of their squares.

`eps_inside` puts ε under that root. g is the gradient, S an average of its square, m an average of itself. Options and
defaults are PyTorch's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._tensor import Tensor
from .adaptive import root
from .optimizer import Optimizer, signed, zeros


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
        g = signed(p, g, o, self.decoupled)
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
        step = mean / root(square, o, o["scale"])
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
        g = signed(p, g, o, o["decoupled_weight_decay"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (1 - first) * (g - mean)
        square *= second
        square += (1 - second) * g * g
        scaled = root(square, o, o["scale"])
        p -= o["of_gradient"] * g / scaled
        p -= o["of_mean"] * mean / scaled


class RAdam(Optimizer):
    """Adam that waits until its variance can be estimated (Liu et al. 2019, algorithm 2): as Adam, times
    √((ρₜ-4)(ρₜ-2)ρ / ((ρ-4)(ρ-2)ρₜ)) where ρ = 2/(1-β₂) - 1 and ρₜ = ρ - 2tβ₂ᵗ/(1-β₂ᵗ) is above 5; until then along
    the mean alone."""

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
        g = signed(p, g, o, o["decoupled_weight_decay"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean += (1 - first) * (g - mean)
        square *= second
        square += (1 - second) * g * g
        step = o["rate"] * mean
        if o["rectification"] is not None:
            step *= o["rectification"]
            step /= root(square, o)
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
        g = signed(p, g, o)
        mean, largest = state["exp_avg"], state["exp_inf"]
        mean += (1 - first) * (g - mean)
        largest *= second
        largest[...] = np.maximum(largest, np.abs(g) + o["eps"])
        p -= o["rate"] * mean / largest
