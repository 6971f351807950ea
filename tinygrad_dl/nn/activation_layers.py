"""Activations as layers; each calls the function of its name in `nn.functional`."""

from __future__ import annotations

from typing import Any

from .. import ops
from .._spelling import spelled
from .._tensor import Tensor
from . import functional as F
from .module import Module


class _Activation(Module):
    """An activation whose options are its attributes, shown in its repr."""

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.__dict__.items() if not k.startswith("_") and k != "training")


class ReLU(_Activation):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu(x)


class LeakyReLU(_Activation):
    """x where positive, negative_slope · x elsewhere."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)


class ELU(_Activation):
    """x where positive, α(eˣ - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Tensor:
        return F.elu(x, self.alpha)


class SELU(_Activation):
    """The self-normalising ELU."""

    def forward(self, x: Any) -> Tensor:
        return F.selu(x)


class GELU(_Activation):
    """x · Φ(x); approximate: "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Tensor:
        return F.gelu(x, self.approximate)


class SiLU(_Activation):
    """x · sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.silu(x)


class Softplus(_Activation):
    """log(1 + e^(βx)) / β."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)


class Sigmoid(_Activation):
    """1 / (1 + e⁻ˣ)."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(x)


class Tanh(_Activation):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return ops.tanh(x)


class Softmax(_Activation):
    """eˣ / Σeˣ along an axis."""

    @spelled
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.axis)


class LogSoftmax(_Activation):
    """log(softmax(x)) along an axis."""

    @spelled
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Tensor:
        return F.log_softmax(x, self.axis)
