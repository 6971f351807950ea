"""What layers compute besides activations: linear maps, batch norm, dropout."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fused import fused
from ..graph import Handle
from ..ops._arguments import asarray
from ..primitive import primitive
from ..random import Source, bits, key
from ..scope import no_grad

if TYPE_CHECKING:
    from .._tensor import Tensor


def _wide(a: Any) -> Any:
    """The dtype to add up in: float32 for float16, whose sums stagnate and overflow."""
    return np.float32 if a.dtype == np.float16 else None


def _linear_forward(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    if not x.ndim or x.shape[-1] != w.shape[1]:
        raise ValueError(f"expected inputs with {w.shape[1]} features on the last axis, got shape {x.shape}")
    y = np.matmul(x, w.T)
    if b is None:
        return y, None
    if b.shape != w.shape[:1]:
        raise ValueError(f"expected a bias of shape {w.shape[:1]} for a weight of {w.shape}, got {b.shape}")
    if b.dtype is y.dtype:
        y += b
        return y, None
    return y + b, None


def _linear_backward(g: Any, saved: Any, needs: Any, x: Any, w: Any, b: Any) -> Any:
    rows = g.reshape(-1, w.shape[0])
    return (
        np.matmul(g, w) if needs[0] else None,
        np.matmul(rows.T, x.reshape(-1, w.shape[1])) if needs[1] else None,  # (out, in), contiguous
        np.add.reduce(rows, dtype=_wide(g)) if needs[2] else None,
    )


@fused(forward=_linear_forward, backward=_linear_backward, name="linear")
def _linear(x: Any, w: Any, b: Any) -> Any:
    y = x @ w.T
    return y if b is None else y + b


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x wᵀ + b. x: (..., in), weight: (out, in), bias: (out,) or None; gives (..., out).

    Raises ValueError for shapes that do not fit."""
    return _linear(x, weight, bias)


def _layout(x: Any) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The axes of a batch norm's statistics, the shape of its parameters, the values per channel."""
    axes = (0, *range(2, x.ndim))
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    return axes, shape, x.size // max(x.shape[1], 1)


def _channel_dot(a: Any, b: Any) -> Any:
    """Σ ab per channel, without the product in memory: 3.6 µs against 5.1 for 64 × 128."""
    if a.ndim == 2:
        return np.einsum("nc,nc->c", a, b)
    shape = (*a.shape[:2], -1)
    return np.einsum("ncl,ncl->c", a.reshape(shape), b.reshape(shape))


def _norm_forward(x: Any, gamma: Any, beta: Any, *, eps: float) -> tuple[Any, Any]:
    axes, shape, n = _layout(x)
    if n <= 1:
        raise ValueError(f"expected more than one value per channel for a variance, got shape {x.shape}")
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    if dtype == np.float16:
        x = x.astype(np.float32)
    mean = np.add.reduce(x, axis=axes) / n
    centred = x - mean.reshape(shape)
    var = _channel_dot(centred, centred) / n
    inverse = 1 / np.sqrt(var + eps)
    y = centred * (inverse if gamma is None else inverse * gamma).reshape(shape)
    if beta is not None:
        y += beta.reshape(shape)
    results = (y, mean, var) if y.dtype is dtype else tuple(a.astype(dtype) for a in (y, mean, var))
    return results, (centred, inverse)


def _norm_backward(g: Any, saved: Any, needs: Any, x: Any, gamma: Any, beta: Any, *, eps: float) -> Any:
    """Ioffe and Szegedy (2015), section 3, with the sums over the batch gathered first."""
    axes, shape, n = _layout(x)
    centred, inverse = saved
    gy, g_mean, g_var = g
    dx = dgamma = dbeta = None
    if gy is not None:
        dbeta = np.add.reduce(gy, axis=axes, dtype=_wide(gy))
        dgamma = _channel_dot(gy, centred) * inverse
        if needs[0]:
            dx = centred * (dgamma * inverse / -n).reshape(shape)
            dx += gy
            dx -= (dbeta / n).reshape(shape)
            dx *= (inverse if gamma is None else inverse * gamma).reshape(shape)
    if needs[0] and (g_mean is not None or g_var is not None):
        dx = np.zeros_like(x) if dx is None else dx
        if g_mean is not None:
            dx += (g_mean / n).reshape(shape)
        if g_var is not None:
            dx += centred * (g_var * (2 / n)).reshape(shape)
    return dx, dgamma if needs[1] else None, dbeta if needs[2] else None


@fused(forward=_norm_forward, backward=_norm_backward, name="batch_norm")
def _norm(x: Any, gamma: Any, beta: Any, *, eps: float = 1e-5) -> Any:
    axes, shape, _ = _layout(x)
    mean = x.mean(axis=axes)
    centred = x - mean.reshape(shape)
    var = np.square(centred).mean(axis=axes)
    return _affine(centred, 1 / np.sqrt(var + eps), gamma, beta, shape), mean, var


def _affine(centred: Any, inverse: Any, gamma: Any, beta: Any, shape: tuple[int, ...]) -> Any:
    y = centred * (inverse if gamma is None else inverse * gamma).reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


_towards = primitive(
    lambda running, batch, momentum, correction: running * (1 - momentum) + batch * (momentum * correction),
    None,
    None,
    name="running_average",
)


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - μ) / √(σ² + ε) · γ + β per channel (Ioffe and Szegedy 2015).

    x: (N, C) or (N, C, ...); statistics, weight γ and bias β: (C,) or None.
    training: use the batch's mean and biased variance, and move the running statistics towards the batch's (the
        variance unbiased), as PyTorch does; else use the running statistics, if there are any.
    momentum: how far they move, a number or a 0-d Tensor.
    Raises ValueError for another number of channels, and in training for one value per channel.
    """
    x = asarray(x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected an input (N, C) or (N, C, ...), got shape {x.shape}")
    channels = x.shape[1:2]
    parameters = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, value in parameters.items():
        if value is not None and value.shape != channels:
            raise ValueError(
                f"batch_norm: expected {name} of shape {channels} for an input {x.shape}, got {value.shape}"
            )
    _, shape, n = _layout(x)
    if training or running_mean is None:
        y, mean, var = _norm(x, weight, bias, eps=eps)
        if training and running_mean is not None:
            for running, batch, correction in ((running_mean, mean, 1.0), (running_var, var, n / (n - 1))):
                if isinstance(momentum, Handle):  # a plain average
                    with no_grad():
                        running.assign(_towards.kernel(running, batch, momentum, correction))
                else:
                    running.assign(_towards(running, batch, momentum=momentum, correction=correction))
        return y
    return _affine(x - running_mean.reshape(shape), 1 / np.sqrt(running_var + eps), weight, bias, shape)


def _mask(x: Any, key: Any, p: float) -> Any:
    """Where dropout keeps: a pure function of the key, so backward has the same mask."""
    return np.less(bits(key, shape=x.shape), math.ceil((1 - p) * 2**32))


def _dropout_forward(x: Any, key: Any, *, p: float, factor: float) -> tuple[Any, Any]:
    mask = _mask(x, key, p).astype(x.dtype if x.dtype.kind == "f" else np.float64)
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
    Raises ValueError for p outside [0, 1] and another scale.
    """
    check_dropout("dropout", p, scale)
    if not training:
        return x * (1 - p) if scale == "test" and p else x
    if p == 0:
        return x
    if p == 1:
        return x * 0.0
    return _dropout(x, key(rng), p=p, factor=1 / (1 - p) if scale == "train" else 1.0)


def check_dropout(who: str, p: float, scale: str) -> None:
    """Raise a ValueError for options out of range."""
    if not 0 <= p <= 1:
        raise ValueError(f"{who}: expected 0 <= p <= 1, the probability of dropping, got {p}")
    if scale not in ("train", "test"):
        raise ValueError(f"{who}: scale must be 'train' or 'test', got {scale!r}")
