"""Losses as functions. In a loss nothing broadcasts: shapes that differ are an error.

`reduction` is "mean" (over the batch's elements), "sum" or "none", as PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fused import fused
from ..ops import getitem
from ..ops._arguments import asarray
from ..primitive import primitive
from .activations import check_labels, log_softmax, softplus

if TYPE_CHECKING:
    from .._tensor import Tensor


def check_reduction(who: str, reduction: str) -> None:
    """Raise a ValueError for a reduction that there is not."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{who}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")


def _reduce(losses: Any, reduction: str) -> Tensor:
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def _check(who: str, x: Any, target: Any, reduction: str) -> None:
    check_reduction(who, reduction)
    if np.shape(x) != np.shape(target):
        raise ValueError(f"{who}: input has shape {np.shape(x)} and target {np.shape(target)}; they must be equal")


def _difference(who: str, input: Any, target: Any, reduction: str) -> Any:
    """input - target; of integers in float64, where the difference of narrow ones does not wrap around."""
    _check(who, input, target, reduction)
    input, target = asarray(input), asarray(target)
    if input.dtype.kind != "f" and target.dtype.kind != "f":
        input = input.astype(np.float64)
    return np.subtract(input, target)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)², reduced; ValueError for unequal shapes, as of the next two."""
    return _reduce(np.square(_difference("mse_loss", input, target, reduction)), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|, reduced; gradient 0 where they are equal."""
    return _reduce(np.abs(_difference("l1_loss", input, target, reduction)), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½d² where d = |input - target| <= δ, δ(d - ½δ) beyond (Huber 1964), reduced."""
    if not delta > 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}")
    d = _difference("huber_loss", input, target, reduction)
    inner = np.clip(d, -delta, delta)
    return _reduce(inner * (d - 0.5 * inner), reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """-(t log σ(z) + (1 - t) log(1 - σ(z))) of logits z and targets t in [0, 1], without overflow.

    weight: of each element; pos_weight: of the positive part. Both may have the input's shape or its last axes."""
    who = "binary_cross_entropy_with_logits"
    _check(who, input, target, reduction)
    for name, value in (("weight", weight), ("pos_weight", pos_weight)):
        shape = np.shape(value)
        if value is not None and any(n not in (1, m) for n, m in zip(shape[::-1], np.shape(input)[::-1], strict=False)):
            raise ValueError(f"{who}: {name} has shape {shape}, which does not fit the input's {np.shape(input)}")
    input, target = asarray(input), asarray(target)
    positive = target * softplus(-input, threshold=math.inf)
    losses = (positive if pos_weight is None else pos_weight * positive) + (1 - target) * softplus(
        input, threshold=math.inf
    )
    return _reduce(losses if weight is None else losses * weight, reduction)


def _class_axis(x: Any) -> int:
    """Of (C,), (N, C) and (N, C, ...)."""
    if not x.ndim:
        raise ValueError("expected an input (N, C), (N, C, ...) or (C,), got a single number")
    return min(1, x.ndim - 1)


def _check_classes(shape: tuple[int, ...], axis: int, labels: Any, ignore_index: int) -> Any:
    """The mask of what is not ignored, or None for all. shape: the input's, with the classes on an axis."""
    wanted = shape[:axis] + shape[axis + 1 :]
    if labels.shape != wanted:
        raise ValueError(f"expected labels of shape {wanted} for an input of shape {shape}, got {labels.shape}")
    return check_labels(labels, shape[axis], ignore_index)


def _classes(labels: Any, shape: tuple[int, ...], axis: int, ignore_index: int) -> Any:
    """Checked labels, with class 0 for what is ignored. Of the input only the shape is known, so that a compiled step
    can look at the labels before it computes, and changes, anything."""
    kept = _check_classes(shape, axis, labels, ignore_index)
    return labels if kept is None else np.where(kept, labels, 0)


_safe = primitive(_classes, None, name="nll_loss")


def _weigh(x: Any, target: Any, weight: Any, ignore_index: int) -> tuple[Any, Any, Any]:
    """Checked labels, which of them count, and the weight of each."""
    labels = _safe(target, shape=x.shape, axis=_class_axis(x), ignore_index=ignore_index)
    kept = np.not_equal(target, ignore_index)
    factor = kept.astype(x.dtype)
    return labels, kept, factor if weight is None else factor * getitem(_class_weight(weight, x), labels)


def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """-input at the target's class. input: log-probabilities (N, C), (N, C, ...) or (C,); target: integers, of the
    input's shape without the classes' axis.

    weight: of each class, (C,); "mean" divides by the sum of the targets' weights. Targets equal to `ignore_index` do
    not count; if all are, the mean is NaN. Raises TypeError for labels that are not integers, ValueError
    for a label outside the classes, naming it and its row, and for shapes that do not fit."""
    check_reduction("nll_loss", reduction)
    input, target = asarray(input), asarray(target)
    labels, kept, factor = _weigh(input, target, weight, ignore_index)
    axis = _class_axis(input)
    picked = np.take_along_axis(input, np.expand_dims(labels, axis), axis).squeeze(axis)
    losses = np.where(kept, -picked * factor, 0)
    return _weighted_mean(losses, factor) if reduction == "mean" else _reduce(losses, reduction)


def _weighted_mean(losses: Any, factor: Any) -> Any:
    if losses.dtype == np.float16:  # which ends at 65504
        return _weighted_mean(losses.astype(np.float32), factor.astype(np.float32)).astype(np.float16)
    return losses.sum() / factor.sum()


def _class_weight(weight: Any, x: Any) -> Any:
    weight = weight if hasattr(weight, "dtype") else np.asarray(weight, x.dtype)
    classes = x.shape[_class_axis(x)]
    if weight.shape != (classes,):
        raise ValueError(f"weight: expected one number for each of {classes} classes, got shape {weight.shape}")
    return weight.astype(x.dtype)


def _mean_forward(z: Any, labels: Any, *, ignore_index: int) -> tuple[Any, Any]:
    kept = _check_classes(z.shape, _class_axis(z), labels, ignore_index)
    n = len(labels) if kept is None else np.count_nonzero(kept)
    places = np.arange(0, z.size, z.shape[1])
    places += labels if kept is None else np.where(kept, labels, 0)
    p = np.subtract(z, np.maximum.reduce(z, axis=1, keepdims=True), order="C")  # `places` count in C order
    picked = p.take(places)
    np.exp(p, out=p)
    total = np.add.reduce(p, axis=1, keepdims=True)
    p /= total
    losses = np.log(total[:, 0])
    losses -= picked
    if kept is not None:
        losses = losses[kept]
    mean = np.add.reduce(losses, dtype=np.result_type(losses, np.float32)) / n if n else math.nan
    return np.asarray(mean, z.dtype), (p, places, kept, n)


def _mean_backward(g: Any, saved: Any, needs: Any, z: Any, labels: Any, *, ignore_index: int) -> Any:
    """(softmax - one-hot) / n."""
    p, places, kept, n = saved
    share = g / max(n, 1)
    dz = p * share
    dz.reshape(-1)[places] -= share
    if kept is not None:
        dz[~kept] = 0
    return dz, None


@fused(forward=_mean_forward, backward=_mean_backward, name="cross_entropy")
def _mean_cross_entropy(z: Any, labels: Any, *, ignore_index: int = -100) -> Any:
    return nll_loss(log_softmax(z, axis=1), labels, ignore_index=ignore_index)


def cross_entropy(
    logits: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-Σ y log softmax(z) over the classes, without overflow.

    logits: (N, C), (N, C, ...) or (C,). target: integer classes, of the logits' shape without the classes' axis,
        or probabilities (one-hot rows, too), of the logits' shape.
    weight: of each class, (C,); the mean over integer classes divides by the sum of their weights. ignore_index:
        a class that does not contribute to the loss. label_smoothing: the share of each target that is spread evenly
        over the classes (Szegedy et al. 2016).
    Raises ValueError for a label outside the classes, naming it and its row, and for targets that fit neither form.
    """
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"cross_entropy: expected label_smoothing from 0 to 1, got {label_smoothing}")
    logits, target = asarray(logits), asarray(target)
    if target.shape == logits.shape and logits.ndim:
        return _soft_cross_entropy(logits, target, weight, reduction, label_smoothing)
    if target.dtype.kind == "f":
        raise ValueError(
            f"cross_entropy: expected integer labels, or probabilities of the logits' shape {logits.shape}, "
            f"got {target.dtype} {target.shape}"
        )
    usual = weight is None and not label_smoothing and reduction == "mean"
    if usual and logits.ndim == 2 and logits.dtype.kind == "f":
        return _mean_cross_entropy(logits, target, ignore_index=ignore_index)
    log_p = log_softmax(logits, axis=_class_axis(logits))
    loss = nll_loss(log_p, target, weight, ignore_index, reduction)
    if not label_smoothing:
        return loss
    even = _even_cross_entropy(log_p, target, weight, ignore_index, reduction)
    return (1 - label_smoothing) * loss + label_smoothing * even


def _soft_cross_entropy(logits: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    """Against probabilities."""
    axis = _class_axis(logits)
    if target.dtype.kind != "f":
        target = target.astype(logits.dtype)
    if label_smoothing:
        target = (1 - label_smoothing) * target + label_smoothing / logits.shape[axis]
    if weight is not None:
        target = target * _along(weight, logits)
    return _reduce(-(log_softmax(logits, axis=axis) * target).sum(axis=axis), reduction)


def _even_cross_entropy(log_p: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """Against the uniform distribution, weighted and reduced as the labels' part is."""
    _, kept, factor = _weigh(log_p, target, weight, ignore_index)
    weighted = log_p if weight is None else log_p * _along(weight, log_p)
    losses = np.where(kept, -weighted.mean(axis=_class_axis(log_p)), 0)
    return _weighted_mean(losses, factor) if reduction == "mean" else _reduce(losses, reduction)


def _along(weight: Any, x: Any) -> Any:
    """The classes' weights, along the classes' axis."""
    return _class_weight(weight, x).reshape((-1,) + (1,) * (x.ndim - _class_axis(x) - 1))


def l1_penalty(params: Iterable[Any], lam: float, m: int = 1) -> Tensor:
    """λ/m Σ|w| over Tensors; gradient λ/m · sign(w), 0 at 0. m: the number of examples that the loss averages over."""
    return _total("l1_penalty", [np.abs(p).sum() for p in params], m) * (lam / m)


def l2_penalty(params: Iterable[Any], lam: float, m: int = 1) -> Tensor:
    """λ/2m Σw² over Tensors; gradient λ/m · w. m: the number of examples that the loss averages over."""
    return _total("l2_penalty", [np.square(p).sum() for p in params], m) * (lam / (2 * m))


def _total(who: str, terms: list[Any], m: int) -> Any:
    if not terms:
        raise ValueError(f"{who}: expected at least one parameter, got none")
    if not m > 0:
        raise ValueError(f"{who}: expected m > 0, the number of examples, got {m}")
    return sum(terms[1:], start=terms[0])
