"""Elementwise operations: NumPy's ufuncs on real numbers that have a derivative.

A rule reads `(g, y, *arguments)`; a name that begins with `_` is not kept for backward. At ties, kinks and
edges the gradients are PyTorch's; where there is something to say, the operation's docstring says it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import Primitive, Rule, primitive

LOG2, LOG10 = math.log(2), math.log(10)


def _ufunc(fn: np.ufunc, *vjps: Rule | None, note: str = "") -> Primitive:
    op = primitive(fn, *vjps, elementwise=True, numpy=fn)
    op.__doc__ = f"`np.{fn.__name__}`, elementwise. {note}".rstrip()
    return op


def _same(g: Any, *_: Any) -> Any:
    return g


def _zero(g: Any, *_: Any) -> Any:
    return np.zeros_like(g)


def _to_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, int | float):  # stays a Python number, or float32 would become float64
        return g * (b * a ** (b - 1)) if b else np.zeros_like(g)
    if b.dtype.kind == "u":  # 0 - 1 would be the largest number
        b = _floating(b, g.dtype)
    constant = np.equal(b, 0) & ~np.greater(np.abs(a), np.finfo(g.dtype).tiny)  # where 0 * a ** -1 is no number
    return g * np.where(constant, 0, b * a ** np.where(constant, 1, b - 1))


def _to_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    if isinstance(a, int | float):
        a = y.dtype.type(a)
    a = _floating(a, y.dtype)  # the logarithm of int8 has 11 bits
    constant = np.equal(a, 0) & np.greater_equal(b, 0)
    return g * (y * np.log(np.where(constant, 1, a)))


def _floating(x: Any, dtype: np.dtype[Any]) -> Any:
    """An array as it is, or integers as floating numbers."""
    return x if np.result_type(x).kind == "f" else x * dtype.type(1)


def _squared_radius(g: Any, a: Any, b: Any) -> Any:
    a, b = _floating(a, g.dtype), _floating(b, g.dtype)
    r2 = a * a + b * b
    return np.where(np.equal(r2, 0), 1, r2)


# arithmetic
add = _ufunc(np.add, _same, _same)
subtract = _ufunc(np.subtract, _same, lambda g, *_: -g)
multiply = _ufunc(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
divide = _ufunc(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
negative = _ufunc(np.negative, lambda g, *_: -g)
positive = _ufunc(np.positive, _same)
conjugate = _ufunc(np.conjugate, _same, note="Real numbers are their own conjugates.")
reciprocal = _ufunc(np.reciprocal, lambda g, y, _x: -g * y * y)
remainder = _ufunc(np.remainder, _same, lambda g, _y, a, b: -g * np.floor_divide(a, b))
fmod = _ufunc(np.fmod, _same, lambda g, y, a, b: -g * np.rint((a - y) / b))
floor_divide = _ufunc(np.floor_divide, _zero, _zero, note="Gradient 0.")

# powers and roots
_EDGES = "`x ** 0` has gradient 0 in x, and `0 ** b` with b >= 0 gradient 0 in b; the exponent's is NaN for x < 0."
power = _ufunc(np.power, _to_base, _to_exponent, note=_EDGES)
float_power = _ufunc(np.float_power, _to_base, _to_exponent, note="In float64 at least. " + _EDGES)
square = _ufunc(np.square, lambda g, _y, x: g * (2 * x))
sqrt = _ufunc(np.sqrt, lambda g, y, _x: g / (2 * y), note="Gradient inf at 0.")
cbrt = _ufunc(np.cbrt, lambda g, y, _x: g / (3 * y * y), note="Gradient inf at 0.")

# exponentials and logarithms
exp = _ufunc(np.exp, lambda g, y, _x: g * y)
exp2 = _ufunc(np.exp2, lambda g, y, _x: g * (y * LOG2))
expm1 = _ufunc(np.expm1, lambda g, y, _x: g * (y + 1))
log = _ufunc(np.log, lambda g, _y, x: g / x, note="Gradient inf at 0.")
log2 = _ufunc(np.log2, lambda g, _y, x: g / (x * LOG2), note="Gradient inf at 0.")
log10 = _ufunc(np.log10, lambda g, _y, x: g / (x * LOG10), note="Gradient inf at 0.")
log1p = _ufunc(np.log1p, lambda g, _y, x: g / (x + 1), note="Gradient inf at -1.")
logaddexp = _ufunc(  # 1 / (1 + exp(b - a)), without overflow
    np.logaddexp,
    lambda g, _y, a, b: g * np.exp(-np.logaddexp(0, b - a)),
    lambda g, _y, a, b: g * np.exp(-np.logaddexp(0, a - b)),
    note="Gradient NaN where both are -inf or both inf.",
)
logaddexp2 = _ufunc(
    np.logaddexp2,
    lambda g, _y, a, b: g * np.exp2(-np.logaddexp2(0, b - a)),
    lambda g, _y, a, b: g * np.exp2(-np.logaddexp2(0, a - b)),
    note="Gradient NaN where both are -inf or both inf.",
)
ldexp = _ufunc(np.ldexp, lambda g, _y, _a, b: np.ldexp(g, b), None)

# trigonometric and hyperbolic
sin = _ufunc(np.sin, lambda g, _y, x: g * np.cos(x))
cos = _ufunc(np.cos, lambda g, _y, x: -g * np.sin(x))
tan = _ufunc(np.tan, lambda g, y, _x: g * (1 + y * y))
arcsin = _ufunc(np.arcsin, lambda g, _y, x: g / np.sqrt((1 - x) * (1 + x)), note="Gradient inf at -1 and 1.")
arccos = _ufunc(np.arccos, lambda g, _y, x: -g / np.sqrt((1 - x) * (1 + x)), note="Gradient -inf at -1 and 1.")
arctan = _ufunc(np.arctan, lambda g, _y, x: g / (1 + x * x))
arctan2 = _ufunc(
    np.arctan2,
    lambda g, _y, a, b: g * b / _squared_radius(g, a, b),
    lambda g, _y, a, b: -g * a / _squared_radius(g, a, b),
    note="Gradient 0 at the origin.",
)
hypot = _ufunc(
    np.hypot, lambda g, y, a, _b: g * (a / y), lambda g, y, _a, b: g * (b / y), note="Gradient NaN at the origin."
)
sinh = _ufunc(np.sinh, lambda g, _y, x: g * np.cosh(x))
cosh = _ufunc(np.cosh, lambda g, _y, x: g * np.sinh(x))
tanh = _ufunc(np.tanh, lambda g, y, _x: g * (1 - y * y))
arcsinh = _ufunc(np.arcsinh, lambda g, _y, x: g / np.sqrt(x * x + 1))
arccosh = _ufunc(np.arccosh, lambda g, _y, x: g / np.sqrt((x - 1) * (x + 1)), note="Gradient inf at 1.")
arctanh = _ufunc(np.arctanh, lambda g, _y, x: g / ((1 - x) * (1 + x)), note="Gradient inf at -1 and 1.")
deg2rad = _ufunc(np.deg2rad, lambda g, *_: g * (math.pi / 180))
radians = _ufunc(np.radians, lambda g, *_: g * (math.pi / 180))
rad2deg = _ufunc(np.rad2deg, lambda g, *_: g * (180 / math.pi))
degrees = _ufunc(np.degrees, lambda g, *_: g * (180 / math.pi))

# magnitude, sign, choice
absolute = _ufunc(np.absolute, lambda g, _y, x: g * np.sign(x), note="Gradient 0 at 0.")
fabs = _ufunc(np.fabs, lambda g, _y, x: g * np.sign(x), note="Gradient 0 at 0.")
sign = _ufunc(np.sign, _zero, note="Gradient 0.")
copysign = _ufunc(np.copysign, lambda g, y, x, _s: g * np.sign(x) * np.sign(y), _zero, note="Gradient 0 at 0.")
heaviside = _ufunc(np.heaviside, _zero, lambda g, _y, x, _h: np.where(np.equal(x, 0), g, 0), note="Gradient 0 in x.")
nextafter = _ufunc(np.nextafter, _same, _zero)
maximum = _ufunc(
    np.maximum,
    lambda g, _y, a, b: np.where(np.less(a, b), 0, np.where(np.equal(a, b), g / 2, g)),
    lambda g, _y, a, b: np.where(np.less(b, a), 0, np.where(np.equal(a, b), g / 2, g)),
    note="A tie shares the gradient in halves.",
)
minimum = _ufunc(
    np.minimum,
    lambda g, _y, a, b: np.where(np.greater(a, b), 0, np.where(np.equal(a, b), g / 2, g)),
    lambda g, _y, a, b: np.where(np.greater(b, a), 0, np.where(np.equal(a, b), g / 2, g)),
    note="A tie shares the gradient in halves.",
)
fmax = _ufunc(
    np.fmax,
    lambda g, _y, a, b: np.where(np.greater_equal(a, b) | np.isnan(b), g, 0),
    lambda g, _y, a, b: np.where(np.greater_equal(a, b) | np.isnan(b), 0, g),
    note="The number where the other is NaN. A tie, and two NaNs, give the gradient to the first.",
)
fmin = _ufunc(
    np.fmin,
    lambda g, _y, a, b: np.where(np.less_equal(a, b) | np.isnan(b), g, 0),
    lambda g, _y, a, b: np.where(np.less_equal(a, b) | np.isnan(b), 0, g),
    note="The number where the other is NaN. A tie, and two NaNs, give the gradient to the first.",
)

# rounding
floor = _ufunc(np.floor, _zero, note="Gradient 0.")
ceil = _ufunc(np.ceil, _zero, note="Gradient 0.")
trunc = _ufunc(np.trunc, _zero, note="Gradient 0.")
rint = _ufunc(np.rint, _zero, note="To the nearest integer, halves to the even one. Gradient 0.")

# not NumPy's: the root of a sum of squares, which `std` and `norm` take
root = primitive(
    np.sqrt,
    lambda g, y, _x: np.where(np.equal(y, 0), 0, g / (2 * np.where(np.equal(y, 0), 1, y))),
    name="root",
    elementwise=True,
)
root.__doc__ = "The square root, with gradient 0 at 0."

abs, mod, pow = absolute, remainder, power
