"""What layers compute besides activations: linear maps, batch norm, dropout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import fused
from ..random import Source, bits, key

if TYPE_CHECKING:
    from .._tensor import Tensor


def _linear_forward(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    y = np.matmul(x, w.T)
    if b is not None:
        y += b
    return y, None


def _linear_backward(g: Any, saved: Any, needs: Any, x: Any, w: Any, b: Any) -> Any:
    rows = g.reshape(-1, w.shape[0])
    return (
        np.matmul(g, w) if needs[0] else None,
        np.matmul(rows.T, x.reshape(-1, w.shape[1])) if needs[1] else None,  # (out, in), contiguous
        np.add.reduce(rows, axis=0) if needs[2] else None,
    )


@fused(forward=_linear_forward, backward=_linear_backward, name="linear")
def _linear(x: Any, w: Any, b: Any) -> Any:
    y = x @ w.T
    return y if b is None else y + b


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x wᵀ + b. x: (..., in), weight: (out, in), bias: (out,) or None; gives (..., out)."""
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: expected inputs with {weight.shape[1]} features on the last axis, got shape {x.shape}"
            f" (weight {weight.shape})"
        )
    return _linear(x, weight, bias)


def _layout(x: Any) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The axes of a batch norm's statistics, the shape of its parameters, the values per channel."""
    axes = (0, *range(2, x.ndim))
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    return axes, shape, x.size // max(x.shape[1], 1)


def _norm_forward(x: Any, gamma: Any, beta: Any, *, eps: float) -> tuple[Any, Any]:
    axes, shape, n = _layout(x)
    mean = np.add.reduce(x, axis=axes) / n
    z = x - mean.reshape(shape)
    var = np.add.reduce(z * z, axis=axes) / n
    scale = 1 / np.sqrt(var + eps)
    z *= scale.reshape(shape)
    y = z if gamma is None else z * gamma.reshape(shape)
    if beta is not None:
        y = y + beta.reshape(shape) if y is z else np.add(y, beta.reshape(shape), out=y)
    return (y, mean, var), (z, scale)


def _norm_backward(g: Any, saved: Any, needs: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """Ioffe and Szegedy (2015), section 3, with the sums over the batch gathered first."""
    axes, shape, n = _layout(x)
    z, scale = saved
    gy, g_mean, g_var = g
    dx = dgamma = dbeta = None
    if gy is not None:
        dbeta = np.add.reduce(gy, axis=axes)
        dgamma = np.add.reduce(gy * z, axis=axes)
        if needs[0]:
            dx = z * (dgamma / -n).reshape(shape)
            dx += gy
            dx -= (dbeta / n).reshape(shape)
            dx *= (scale if gamma is None else scale * gamma).reshape(shape)
    if needs[0] and (g_mean is not None or g_var is not None):
        dx = np.zeros_like(x) if dx is None else dx
        if g_mean is not None:
            dx += (g_mean / n).reshape(shape)
        if g_var is not None:
            dx += z * (g_var * (2 / n) / scale).reshape(shape)
    return dx, dgamma if needs[1] else None, dbeta if needs[2] else None


@fused(forward=_norm_forward, backward=_norm_backward, name="batch_norm")
def _norm(x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    axes, shape, _ = _layout(x)
    mean = x.mean(axis=axes)
    centred = x - mean.reshape(shape)
    var = np.square(centred).mean(axis=axes)
    return _affine(centred / np.sqrt(var + eps).reshape(shape), gamma, beta, shape), mean, var


def _affine(z: Any, gamma: Any, beta: Any, shape: tuple[int, ...]) -> Any:
    z = z if gamma is None else z * gamma.reshape(shape)
    return z if beta is None else z + beta.reshape(shape)


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - μ) / √(σ² + ε) · γ + β per channel (Ioffe and Szegedy 2015).

    x: (N, C) or (N, C, ...); statistics, weight γ and bias β: (C,) or None.
    training: use the batch's mean and biased variance, and move the running statistics towards the batch's
        by `momentum` (the variance unbiased), as PyTorch does; else use the running statistics.
    Raises ValueError for another number of channels, and in training for one value per channel.
    """
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected an input (N, C) or (N, C, ...), got shape {x.shape}")
    for name, value in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if value is not None and value.shape != (x.shape[1],):
            raise ValueError(
                f"batch_norm: {name} has shape {value.shape}, expected ({x.shape[1]},) for input {x.shape}"
            )
    _, shape, n = _layout(x)
    if training or running_mean is None:
        if n <= 1:
            raise ValueError(f"batch_norm: expected more than one value per channel in training, got shape {x.shape}")
        y, mean, var = _norm(x, weight, bias, eps=eps)
        if training and running_mean is not None:
            for running, batch in ((running_mean, mean), (running_var, var.detach() * (n / (n - 1)))):
                running.assign(running * (1 - momentum) + batch.detach() * momentum)
        return y
    scale = 1 / np.sqrt(running_var + eps)
    centred = x - running_mean.reshape(shape)
    return _affine(centred * scale.reshape(shape), weight, bias, shape)


def _mask(x: Any, key: Any, p: float) -> Any:
    """Where dropout keeps: a pure function of the key, so backward has the same mask."""
    return np.less(bits(key, shape=x.shape), math.ceil((1 - p) * 2**32))


def _dropout_forward(x: Any, key: Any, *, p: float, factor: float) -> tuple[Any, Any]:
    mask = _mask(x, key, p).astype(x.dtype)
    mask *= factor
    return x * mask, mask


def _dropout_backward(g: Any, mask: Any, needs: Any, x: Any, key: Any, *, p: float, factor: float) -> Any:
    return g * mask, None


@fused(forward=_dropout_forward, backward=_dropout_backward, name="dropout")
def _dropout(x: Any, key: Any, *, p: float, factor: float) -> Any:
    return x * (_mask(x, key, p).astype(x.dtype) * factor)


def dropout(x: Any, p: float = 0.5, training: bool = True, scale: str = "train", rng: Source = None) -> Tensor:
    """Zero each element with probability p (Srivastava et al. 2014).

    p: the probability of dropping; keep_prob = 1 - p.
    scale: "train" divides by keep_prob in training and does nothing at test time; "test" is the classic form,
        which leaves training unscaled and multiplies by keep_prob at test time.
    rng: a seed or numpy Generator; default the scope's or process's. Backward uses the same mask.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected 0 <= p <= 1, the probability of dropping, got {p}")
    if scale not in ("train", "test"):
        raise ValueError(f"dropout: scale must be 'train' or 'test', got {scale!r}")
    if not training:
        return x * (1 - p) if scale == "test" and p else x
    if p == 0:
        return x
    if p == 1:
        return x * 0.0
    return _dropout(x, key(rng), p=p, factor=1 / (1 - p) if scale == "train" else 1.0)
