"""Initialisation of one tensor in place: `he_normal_(tensor)` writes new values and returns the tensor.

One formula with many names: `variance_scaling_`. fan_in counts the inputs of a unit and fan_out its outputs;
a weight has shape (out, in, ...). `rng` is a seed or numpy Generator; default the scope's or process's.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from .._tensor import Tensor
from ..random import Source, generator, uniform

T = TypeVar("T", bound=Tensor)


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(f"init: fan_in and fan_out need a weight (out, in, ...), got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def variance_scaling_(
    tensor: T, scale: float = 1.0, mode: str = "fan_in", distribution: str = "normal", rng: Source = None
) -> T:
    """Random values with mean 0 and variance scale / fan.

    mode: "fan_in", "fan_out" or "fan_avg". distribution: "normal" or "uniform"."""
    fan_in, fan_out = _fans(tensor)
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    if mode not in fans:
        raise ValueError(f"variance_scaling_: mode must be one of {', '.join(fans)}, got {mode!r}")
    variance = scale / max(fans[mode], 1)
    if distribution == "normal":
        return normal_(tensor, 0.0, math.sqrt(variance), rng)
    if distribution == "uniform":
        return uniform_(tensor, -math.sqrt(3 * variance), math.sqrt(3 * variance), rng)
    raise ValueError(f"variance_scaling_: distribution must be 'normal' or 'uniform', got {distribution!r}")


def constant_(tensor: T, value: float) -> T:
    """Set every element to the same value."""
    return tensor.assign(np.full(tensor.shape, value, tensor.dtype))


def zeros_(tensor: T) -> T:
    """All zeros. With such weights, the units of a hidden layer stay identical forever."""
    return constant_(tensor, 0.0)


def ones_(tensor: T) -> T:
    """All ones."""
    return constant_(tensor, 1.0)


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, rng: Source = None) -> T:
    """Normally distributed values."""
    if not std >= 0:
        raise ValueError(f"normal_: expected std >= 0, got {std}")
    return tensor.assign(generator(rng).normal(mean, std, tensor.shape))


def uniform_(tensor: T, low: float = 0.0, high: float = 1.0, rng: Source = None) -> T:
    """Uniformly distributed values from [low, high)."""
    return tensor.assign(uniform(low, high, tensor.shape, tensor.dtype, rng))


def xavier_normal_(tensor: T, gain: float = 1.0, rng: Source = None) -> T:
    """σ = gain · √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 12); for sigmoid and tanh."""
    return variance_scaling_(tensor, gain**2, "fan_avg", "normal", rng)


def xavier_uniform_(tensor: T, gain: float = 1.0, rng: Source = None) -> T:
    """±gain · √(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16)."""
    return variance_scaling_(tensor, gain**2, "fan_avg", "uniform", rng)


def he_normal_(tensor: T, negative_slope: float = 0.0, rng: Source = None) -> T:
    """σ = √(2 / ((1 + slope²) fan_in)) (He et al. 2015, eqs. 10 and 15); for ReLU and leaky ReLU."""
    return variance_scaling_(tensor, 2 / (1 + negative_slope**2), "fan_in", "normal", rng)


def he_uniform_(tensor: T, negative_slope: float = 0.0, rng: Source = None) -> T:
    """±√(6 / ((1 + slope²) fan_in)) (He et al. 2015)."""
    return variance_scaling_(tensor, 2 / (1 + negative_slope**2), "fan_in", "uniform", rng)


kaiming_normal_, kaiming_uniform_ = he_normal_, he_uniform_


def lecun_normal_(tensor: T, rng: Source = None) -> T:
    """σ = √(1 / fan_in) (LeCun et al. 1998); the variant for tanh, and for SELU."""
    return variance_scaling_(tensor, 1.0, "fan_in", "normal", rng)


def fan_in_uniform_(tensor: T, rng: Source = None) -> T:
    """±1 / √fan_in."""
    return variance_scaling_(tensor, 1 / 3, "fan_in", "uniform", rng)


def orthogonal_(tensor: T, gain: float = 1.0, rng: Source = None) -> T:
    """Orthonormal rows or columns (Saxe et al. 2013): Q of a normal matrix, with the signs of R's diagonal.

    More than two axes count as (first, rest)."""
    if tensor.ndim < 2:
        raise ValueError(f"orthogonal_: expected at least two axes, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    q, r = np.linalg.qr(generator(rng).normal(size=(max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    q = q if rows >= columns else q.T
    return tensor.assign(gain * q.reshape(tensor.shape))


def initializer(init: Any) -> Any:
    """The function that a layer's `init=` asks for: a callable, or a name of this module ("xavier_normal_")."""
    if callable(init):
        return init
    name = init if isinstance(init, str) and init.endswith("_") else f"{init}_"
    function = globals().get(name)
    if not isinstance(init, str) or name.startswith("_") or function is None:
        names = ", ".join(sorted(n for n in globals() if n.endswith("_") and not n.startswith("_")))
        raise ValueError(f"init: expected a callable or one of {names}; got {init!r}")
    return function
