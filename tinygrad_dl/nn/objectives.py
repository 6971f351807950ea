"""Losses as functions. In a loss nothing broadcasts: shapes that differ are an error.

`reduction` is "mean" (over the batch's elements), "sum" or "none", as PyTorch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import fused
from .activations import check_labels, log_softmax, softplus

if TYPE_CHECKING:
    from .._tensor import Tensor


def _reduce(who: str, losses: Any, reduction: str) -> Tensor:
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"{who}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _same_shape(who: str, x: Any, target: Any) -> None:
    if np.shape(x) != np.shape(target):
        raise ValueError(f"{who}: input has shape {np.shape(x)} and target {np.shape(target)}; they must be equal")


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)², reduced."""
    _same_shape("mse_loss", input, target)
    return _reduce("mse_loss", np.square(input - target), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|, reduced; gradient 0 where they are equal."""
    _same_shape("l1_loss", input, target)
    return _reduce("l1_loss", np.abs(input - target), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½d² where |d| = |input - target| <= δ, δ(|d| - ½δ) beyond (Huber 1964), reduced."""
    _same_shape("huber_loss", input, target)
    if not delta > 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}")
    d = np.abs(input - target)
    losses = np.where(np.less_equal(d, delta), 0.5 * np.square(d), delta * (d - 0.5 * delta))
    return _reduce("huber_loss", losses, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """-(t log σ(z) + (1 - t) log(1 - σ(z))) of logits z and targets t in [0, 1], without overflow.

    weight: of each element; pos_weight: of the positive class, per element or along the last axes."""
    who = "binary_cross_entropy_with_logits"
    _same_shape(who, input, target)
    losses = (1 - target) * input
    positive = softplus(-input, threshold=np.inf)
    losses = losses + positive * (1 if pos_weight is None else 1 + (pos_weight - 1) * target)
    return _reduce(who, losses if weight is None else losses * weight, reduction)


def _pick_forward(z: Any, labels: Any, *, ignore_index: int) -> tuple[Any, Any]:
    check_labels("cross_entropy", labels, z.shape[1], ignore_index)
    rows = np.arange(len(labels))
    p = z - np.maximum.reduce(z, axis=1, keepdims=True)
    picked = p[rows, labels]
    np.exp(p, out=p)
    total = np.add.reduce(p, axis=1)
    losses = np.log(total)
    losses -= picked
    p /= total[:, None]
    kept = labels != ignore_index
    n = np.count_nonzero(kept)
    if n < len(labels):
        losses = np.where(kept, losses, 0)
    mean = np.add.reduce(losses) / n if n else np.full((), np.nan, z.dtype)
    return np.asarray(mean, z.dtype), (p, rows, kept, n)


def _pick_backward(g: Any, saved: Any, needs: Any, z: Any, labels: Any, *, ignore_index: int) -> Any:
    """The gradient of the mean cross-entropy by the logits: (softmax - one-hot) / n."""
    p, rows, kept, n = saved
    dz = p.copy()
    dz[rows, labels] -= 1
    dz *= g / max(n, 1)
    if n < len(labels):
        dz[~kept] = 0
    return dz, None


@fused(forward=_pick_forward, backward=_pick_backward, name="cross_entropy")
def _mean_cross_entropy(z: Any, labels: Any, *, ignore_index: int) -> Any:
    return nll_loss(log_softmax(z, axis=1), labels, ignore_index=ignore_index)


def _is_integer(target: Any) -> bool:
    return bool(target.dtype.kind in "iu")


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    _who: str = "nll_loss",
) -> Tensor:
    """-input at the target's class. input: log-probabilities (N, C, ...); target: integers (N, ...).

    weight: of each class, (C,); "mean" divides by the sum of the targets' weights. Targets that are
    `ignore_index` count nothing. Raises ValueError for a label outside the classes, naming it and its row."""
    if input.ndim < 2 or target.shape != (input.shape[0], *input.shape[2:]):
        wanted = (input.shape[:1] + input.shape[2:]) if input.ndim > 1 else "(N,) for an input (N, C)"
        raise ValueError(f"{_who}: input has shape {input.shape}, so labels must have {wanted}, got {target.shape}")
    if not _is_integer(target):
        raise TypeError(f"{_who}: expected integer labels, got {target.dtype}")
    raw = target.detach().numpy() if hasattr(target, "detach") else target
    check_labels(_who, raw, input.shape[1], ignore_index)
    kept = np.not_equal(target, ignore_index)
    safe = np.where(kept, target, 0)
    picked = np.take_along_axis(input, np.expand_dims(safe, 1), 1).squeeze(1)
    factor = kept.astype(input.dtype) if weight is None else np.where(kept, weight[safe], 0).astype(input.dtype)
    losses = np.where(kept, -picked * factor, 0)
    if reduction == "mean":
        return losses.sum() / factor.sum()
    return _reduce(_who, losses, reduction)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-Σ y log softmax(z) over the classes, without overflow.

    logits: (N, C) or (N, C, ...); target: integer classes (N, ...), or probabilities of the logits' shape.
    weight: of each class, (C,). ignore_index: a label that counts nothing. label_smoothing: the share of each
        target that is spread evenly over the classes (Szegedy et al. 2016).
    Raises ValueError for a label outside the classes, naming it and its row, and for shapes that do not fit.
    """
    if logits.ndim < 2:
        raise ValueError(f"cross_entropy: expected logits (N, C) or (N, C, ...), got shape {logits.shape}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: expected label_smoothing from 0 to 1, got {label_smoothing}")
    if not hasattr(target, "dtype"):
        target = np.asarray(target)
    if _is_integer(target):
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            wanted = (logits.shape[0], *logits.shape[2:])
            raise ValueError(
                f"cross_entropy: logits have shape {logits.shape}, so labels must have {wanted}, got {target.shape}"
            )
        if weight is None and not label_smoothing and reduction == "mean" and logits.ndim == 2:
            return _mean_cross_entropy(logits, target, ignore_index=ignore_index)
        log_p = log_softmax(logits, axis=1)
        loss = nll_loss(log_p, target, weight, ignore_index, reduction, "cross_entropy")
        if not label_smoothing:
            return loss
        return (1 - label_smoothing) * loss + label_smoothing * _spread(log_p, target, weight, ignore_index, reduction)
    _same_shape("cross_entropy", logits, target)
    classes = logits.shape[1]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    if weight is not None:
        target = target * _per_class(weight, logits.ndim)
    losses = -(log_softmax(logits, axis=1) * target).sum(axis=1)
    if reduction == "mean":
        return losses.sum() / losses.size
    return _reduce("cross_entropy", losses, reduction)


def _per_class(weight: Any, ndim: int) -> Any:
    return weight.reshape((1, -1) + (1,) * (ndim - 2))


def _spread(log_p: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """The loss against the uniform distribution, weighted as the labelled part is."""
    kept = np.not_equal(target, ignore_index)
    weighted = log_p if weight is None else log_p * _per_class(weight, log_p.ndim)
    losses = np.where(kept, -weighted.mean(axis=1), 0)
    if reduction != "mean":
        return _reduce("cross_entropy", losses, reduction)
    safe = np.where(kept, target, 0)
    total = kept.astype(log_p.dtype).sum() if weight is None else np.where(kept, weight[safe], 0).sum()
    return losses.sum() / total


def l1_penalty(params: Any, lam: float, m: int = 1) -> Tensor:
    """λ/m Σ|w| over an iterable of Tensors; gradient λ/m · sign(w), 0 at 0. m: examples in the batch."""
    return _total("l1_penalty", [np.abs(p).sum() for p in params]) * (lam / m)


def l2_penalty(params: Any, lam: float, m: int = 1) -> Tensor:
    """λ/2m Σw² over an iterable of Tensors; gradient λ/m · w. m: examples in the batch."""
    return _total("l2_penalty", [np.square(p).sum() for p in params]) * (lam / (2 * m))


def _total(who: str, terms: list[Any]) -> Any:
    if not terms:
        raise ValueError(f"{who}: expected at least one parameter, got none")
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
