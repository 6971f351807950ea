"""Gradients before the step: clipping, and the usual split of weight decay."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import wrap
from ..primitive import primitive
from ..scope import no_grad, taping


def _with_grad(who: str, params: Iterable[Tensor] | Tensor) -> list[Any]:
    tensors = [params] if isinstance(params, Tensor) else list(params)
    for p in tensors:
        if not isinstance(p, Tensor):
            raise TypeError(f"{who}: expected Tensors, got {type(p).__name__}")
    return [p for p in tensors if p.grad is not None]


def _finite(norm: Any) -> Any:
    if not math.isfinite(norm):
        raise RuntimeError(f"the norm of the gradients is {norm}; look for the NaN or infinity first")
    return np.array(norm)


_checked = primitive(_finite, lambda g, _y, _norm: g, name="clip_grad_norm")


def clip_grad_norm(params: Iterable[Tensor] | Tensor, max_norm: float) -> Any:
    """Scale all gradients together so that their total L2 norm is at most max_norm (Pascanu et al. 2012).

    Returns the norm before clipping, a float; in a compiled step a 0-d float64 Tensor. Raises RuntimeError if it is
    not finite; then no gradient changes, but after a compiled step all are None."""
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: expected max_norm > 0, got {max_norm}")
    ready = _with_grad("clip_grad_norm", params)
    if taping() is not None:
        return _clip_recorded(ready, max_norm)
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in (p.grad.data.astype(np.float64, copy=False) for p in ready)))
    if _checked(norm) > max_norm:
        for p in ready:
            p.grad = wrap(np.asarray(p.grad.data * (max_norm / norm)))
    return norm


def _clip_recorded(ready: list[Any], max_norm: float) -> Any:
    with no_grad():
        squares = [np.square(p.grad.astype(np.float64)).sum() for p in ready]
        norm = _checked(np.sqrt(sum(squares[1:], start=squares[0]))) if squares else Tensor(0.0, np.float64)
        share = np.where(norm > max_norm, max_norm / norm, 1.0)
        for p in ready:
            p.grad = p.grad * share.astype(p.dtype)
    return norm


def clip_grad_value(params: Iterable[Tensor] | Tensor, value: float) -> Any:
    """Clip every gradient element to [-value, value].

    Returns the largest magnitude before clipping, a float; in a compiled step a 0-d Tensor."""
    if not value > 0:
        raise ValueError(f"clip_grad_value: expected value > 0, got {value}")
    ready = _with_grad("clip_grad_value", params)
    if taping() is not None:
        with no_grad():
            peaks = [np.max(np.abs(p.grad)) for p in ready if p.grad.size]
            for p in ready:
                p.grad = np.clip(p.grad, -value, value)
        return functools.reduce(np.maximum, peaks) if peaks else Tensor(0.0)
    largest = float(np.max([np.max(np.abs(p.grad.data), initial=0) for p in ready], initial=0))
    for p in ready:
        p.grad = wrap(np.asarray(np.clip(p.grad.data, -value, value)))
    return largest


def decay_groups(model: Any, wd: float) -> list[dict[str, Any]]:
    """Two parameter groups: weights (two axes or more) with weight decay `wd`, biases and γ, β without."""
    named = list(model.named_parameters())
    weights = [p for _, p in named if p.ndim >= 2]
    others = [p for _, p in named if p.ndim < 2]
    groups = [{"params": weights, "weight_decay": wd}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
