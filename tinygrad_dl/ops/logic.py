"""Comparisons, logic, bits and classification: answers that have no gradient, mostly booleans."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..primitive import Primitive, primitive
from ._arguments import Array, Axis, without_gradient

_any: Any = np.logical_or.reduce  # NumPy's own types want a literal keepdims
_all: Any = np.logical_and.reduce


def _ufunc(fn: np.ufunc) -> Primitive:
    op = primitive(fn, *[None] * fn.nin, elementwise=True, numpy=fn)
    op.__doc__ = f"`np.{fn.__name__}`, elementwise. No gradient."
    return op


equal, not_equal = _ufunc(np.equal), _ufunc(np.not_equal)
less, less_equal = _ufunc(np.less), _ufunc(np.less_equal)
greater, greater_equal = _ufunc(np.greater), _ufunc(np.greater_equal)
logical_and, logical_or = _ufunc(np.logical_and), _ufunc(np.logical_or)
logical_xor, logical_not = _ufunc(np.logical_xor), _ufunc(np.logical_not)
bitwise_and, bitwise_or, bitwise_xor = _ufunc(np.bitwise_and), _ufunc(np.bitwise_or), _ufunc(np.bitwise_xor)
invert, left_shift, right_shift = _ufunc(np.invert), _ufunc(np.left_shift), _ufunc(np.right_shift)
gcd, lcm, bitwise_count = _ufunc(np.gcd), _ufunc(np.lcm), _ufunc(np.bitwise_count)
isfinite, isinf, isnan, signbit = _ufunc(np.isfinite), _ufunc(np.isinf), _ufunc(np.isnan), _ufunc(np.signbit)


@without_gradient()
def isposinf(x: Array) -> Any:
    """Which elements are inf?"""
    return np.isposinf(x)


@without_gradient()
def isneginf(x: Array) -> Any:
    """Which elements are -inf?"""
    return np.isneginf(x)


@without_gradient()
def isreal(x: Array) -> Any:
    """True everywhere: Tensors hold real numbers."""
    return np.isreal(x)


@without_gradient()
def iscomplex(x: Array) -> Any:
    """False everywhere: Tensors hold real numbers."""
    return np.iscomplex(x)


@without_gradient(arrays=2)
def isclose(a: Array, b: Array, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Where is |a - b| <= atol + rtol·|b|?"""
    return np.isclose(a, b, rtol, atol, equal_nan)


@without_gradient(arrays=2)
def isin(element: Array, test_elements: Array, assume_unique: bool = False, invert: bool = False) -> Any:
    """Which elements occur among `test_elements`?"""
    return np.isin(element, test_elements, assume_unique, invert)


@without_gradient()
def any(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """Is any element true, over axes?"""
    return _any(a, axis=axis, keepdims=keepdims)


@without_gradient()
def all(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """Are all elements true, over axes?"""
    return _all(a, axis=axis, keepdims=keepdims)


@without_gradient()
def count_nonzero(a: Array, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """How many elements are not zero, over axes?"""
    return np.count_nonzero(a, axis, keepdims=keepdims)
