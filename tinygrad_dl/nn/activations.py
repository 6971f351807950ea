"""Activation functions: what NumPy lacks, as functions of Tensors or arrays of any shape.

At kinks the gradients are PyTorch's: ReLU has 0 at 0, leaky ReLU its slope, ELU and SELU their left limit.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ops import logsumexp as logsumexp
from ..primitive import fused, primitive

if TYPE_CHECKING:
    from .._tensor import Tensor

_relu = primitive(
    lambda x: np.maximum(x, 0),
    lambda g, y, _x: np.where(np.less_equal(y, 0), 0, g),  # a NaN lets the gradient pass, as PyTorch's
    name="relu",
    elementwise=True,
)


def relu(x: Any) -> Tensor:
    """max(x, 0); gradient 0 at 0."""
    return _relu(x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where positive, negative_slope · x elsewhere."""
    return np.where(np.greater(x, 0), x, x * negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where positive, α(eˣ - 1) elsewhere (Clevert et al. 2015)."""
    return np.where(np.greater(x, 0), x, alpha * np.expm1(np.where(np.greater(x, 0), 0, x)))


def selu(x: Any) -> Tensor:
    """ELU scaled so that activations keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * elu(x, alpha)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e⁻ˣ), without overflow."""
    return _sigmoid(x)


def _stable_sigmoid(x: Any) -> Any:
    z = np.exp(-np.abs(x))
    return np.where(np.greater_equal(x, 0), 1, z) / (1 + z)


_sigmoid = primitive(_stable_sigmoid, lambda g, y, _x: g * (y * (1 - y)), name="sigmoid", elementwise=True)


def silu(x: Any) -> Tensor:
    """x · sigmoid(x), also called swish."""
    return x * sigmoid(x)


_softplus = primitive(lambda x: np.logaddexp(x, 0), lambda g, _y, x: g * sigmoid(x), name="softplus", elementwise=True)


def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(βx)) / β; x itself where βx is above the threshold."""
    z = x * beta
    large = np.greater(z, threshold)
    return np.where(large, x, _softplus(np.where(large, 0, z)) / beta)


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x · Φ(x) with the normal distribution function (Hendrycks and Gimpel 2016).

    approximate: "none", or "tanh" for the paper's approximation."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if approximate != "none":
        raise ValueError(f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


@functools.cache
def _erfc_coefficients() -> tuple[float, ...]:
    """Of the Chebyshev series in 2t - 1, t = 2 / (2 + x), of log(erfc(x) / t) + x² on x >= 0."""

    def shape(u: Any) -> Any:
        t = (u + 1) / 2
        x = 2 / t - 2
        small = [math.log(math.erfc(v)) + v * v if v < 20 else _log_erfcx(v) for v in x]
        return np.array(small) - np.log(t)

    series = np.polynomial.chebyshev.chebinterpolate(shape, 36)
    return tuple(float(c) for c in series)


def _log_erfcx(x: float) -> float:
    """log(erfc(x)) + x² for large x, by the continued fraction."""
    tail = 0.0
    for k in range(60, 0, -1):
        tail = (k / 2) / (x + tail)
    return -math.log(math.sqrt(math.pi) * (x + tail))


def _erf(x: Any) -> Any:
    """The error function; absolute error about 1e-15 in float64."""
    z = np.abs(np.asarray(x, np.float64))
    t = 2 / (2 + z)
    series = np.polynomial.chebyshev.chebval(2 * t - 1, _erfc_coefficients())
    with np.errstate(under="ignore", invalid="ignore"):
        tail = t * np.exp(series - z * z)
    tail = np.where(np.isinf(z), 0, tail)
    return np.copysign(1 - tail, x).astype(x.dtype if hasattr(x, "dtype") and x.dtype.kind == "f" else np.float64)


erf = primitive(_erf, lambda g, _y, x: g * (2 / math.sqrt(math.pi) * np.exp(-x * x)), name="erf", elementwise=True)


def _softmax_forward(x: Any, *, axis: int = -1) -> tuple[Any, Any]:
    e = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    np.exp(e, out=e)
    e /= np.add.reduce(e, axis=axis, keepdims=True)
    return e, e


def _softmax_backward(g: Any, y: Any, needs: Any, x: Any, *, axis: int = -1) -> Any:
    inner = g * y
    inner -= y * np.add.reduce(inner, axis=axis, keepdims=True)
    return (inner,)


@fused(forward=_softmax_forward, backward=_softmax_backward)
def _softmax(x: Any, *, axis: int = -1) -> Any:
    e = np.exp(x - _peak(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)


def _peak(x: Any, axis: int) -> Any:
    """The largest element, as a constant: shifting by it does not change the result."""
    data = x.detach() if hasattr(x, "detach") else x
    return np.max(data, axis=axis, keepdims=True)


def _log_softmax_forward(x: Any, *, axis: int = -1) -> tuple[Any, Any]:
    shifted = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    total = np.add.reduce(np.exp(shifted), axis=axis, keepdims=True)
    shifted -= np.log(total)
    return shifted, shifted


def _log_softmax_backward(g: Any, y: Any, needs: Any, x: Any, *, axis: int = -1) -> Any:
    return (g - np.exp(y) * np.add.reduce(g, axis=axis, keepdims=True),)


@fused(forward=_log_softmax_forward, backward=_log_softmax_backward)
def _log_softmax(x: Any, *, axis: int = -1) -> Any:
    shifted = x - _peak(x, axis)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def softmax(x: Any, axis: int = -1) -> Tensor:
    """eˣ / Σeˣ along an axis, without overflow; -inf gets probability 0, a row of -inf gives NaN."""
    return _softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """log(softmax(x)) along an axis, exact where the softmax underflows."""
    return _log_softmax(x, axis=axis)


def hardmax(x: Any, axis: int = -1) -> Tensor:
    """1 at the first largest element along an axis, 0 elsewhere; no gradient."""
    return one_hot(np.argmax(x, axis=axis), x.shape[axis], axis=axis, dtype=x.dtype)


def one_hot(labels: Any, classes: int, axis: int = -1, dtype: Any = np.float32) -> Tensor:
    """Integer labels as rows of zeros with a one; a new axis of length `classes`.

    Raises ValueError for a label outside 0 to classes - 1."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: expected integer labels, got {array.dtype}")
    check_labels("one_hot", array, classes)
    behind = -axis - 1 if axis < 0 else array.ndim - axis
    hot = np.equal(np.expand_dims(labels, axis), np.arange(classes).reshape((-1,) + (1,) * behind))
    return hot.astype(dtype)


def check_labels(who: str, labels: Any, classes: int, ignore: int | None = None) -> None:
    """Raise a ValueError that names the first label outside the classes, and its row."""
    bad = (labels < 0) | (labels >= classes)
    if ignore is not None:
        bad &= labels != ignore
    if bad.any():
        row = tuple(int(i) for i in np.argwhere(bad)[0])
        where = row[0] if len(row) == 1 else row
        raise ValueError(
            f"{who}: label {labels[row]} at row {where} is outside the {classes} classes 0 to {classes - 1}"
        )
