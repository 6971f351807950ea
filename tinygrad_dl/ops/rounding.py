"""Rounding, and numbers taken apart. What is rounded has gradient 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import primitive
from ._arguments import Array, answers, asarray, numpy_functions, without_gradient
from .choice import where
from .creation import copy, zeros_like
from .elementwise import floor_divide, ldexp, positive, remainder, trunc
from .logic import isinf

if TYPE_CHECKING:
    from .._tensor import Tensor


def _round(a: Array, decimals: int = 0) -> Any:
    """To the nearest number of so many decimals, halves to the even one. Gradient 0."""
    return np.round(a, decimals)


round = primitive(
    _round,
    lambda g, _y, _a, decimals=0: np.zeros_like(g),
    name="round",
    elementwise=True,
    numpy=numpy_functions("round", "around"),
)


@answers()
def fix(x: Array) -> Tensor:
    """To the nearest integer towards zero. Gradient 0."""
    return trunc(x)


@answers()
def divmod(x1: Array, x2: Array) -> tuple[Tensor, Tensor]:
    """`floor_divide` and `remainder`."""
    return floor_divide(x1, x2), remainder(x1, x2)


@answers()
def modf(x: Array) -> tuple[Tensor, Tensor]:
    """The fractional part, which has the gradient, and the whole part, both with the sign of x."""
    x = asarray(x)
    if x.dtype.kind != "f":
        x = x.astype(np.result_type(x, np.float16))
    whole = trunc(x)
    return where(isinf(x), 0, x) - where(isinf(x), 0, whole), whole


@without_gradient()
def _exponent(x: Array) -> Any:
    return np.frexp(x)[1]


@answers()
def frexp(x: Array) -> tuple[Tensor, Tensor]:
    """Mantissa, in [0.5, 1) or its negative, and integer exponent of 2; the exponent is constant to the gradient."""
    exponent = _exponent(x)
    return ldexp(x, -exponent), exponent


@answers()
def real(val: Array) -> Tensor:
    """The number itself: Tensors hold real numbers."""
    return copy(val)


@answers()
def real_if_close(a: Array, tol: float = 100) -> Tensor:
    """The number itself: Tensors hold real numbers."""
    return positive(a)


@answers()
def imag(val: Array) -> Tensor:
    """Zero: Tensors hold real numbers."""
    return zeros_like(val)
