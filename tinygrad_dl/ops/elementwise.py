"""Elementwise operations: NumPy's ufuncs on real numbers, with their derivatives.

A rule reads `(g, y, *arguments)`; a name that begins with `_` is not kept for backward. At ties, kinks
and edges the gradients are PyTorch's: `maximum` shares a tie in halves, `abs` and `sign` give 0 at 0,
`sqrt` gives inf at 0, `0 ** 0` has gradient 0 in both arguments, `clip` passes at its bounds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..primitive import Primitive, Rule, primitive

LOG2, LOG10 = math.log(2), math.log(10)


def _ufunc(fn: np.ufunc, *vjps: Rule | None, also: tuple[Any, ...] = ()) -> Primitive:
    return primitive(fn, *vjps, elementwise=True, numpy=(fn, *also))


def _zero(g: Any, *_: Any) -> Any:
    return np.zeros_like(g)


def _power_base(g: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, int | float):  # stays a Python number, or float32 would become float64
        return g * (b * a ** (b - 1)) if b else np.zeros_like(g)
    return g * np.where(np.equal(b, 0), 0, b * a ** np.where(np.equal(b, 0), 1, b - 1))


# arithmetic
add = _ufunc(np.add, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: g)
subtract = _ufunc(np.subtract, lambda g, _y, _a, _b: g, lambda g, _y, _a, _b: -g)
multiply = _ufunc(np.multiply, lambda g, _y, _a, b: g * b, lambda g, _y, a, _b: g * a)
divide = _ufunc(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: -g * y / b)
negative = _ufunc(np.negative, lambda g, *_: -g)
positive = _ufunc(np.positive, lambda g, *_: g)
reciprocal = _ufunc(np.reciprocal, lambda g, y, _x: -g * y * y)
remainder = _ufunc(np.remainder, lambda g, *_: g, lambda g, _y, a, b: -g * np.floor(a / b))
fmod = _ufunc(np.fmod, lambda g, *_: g, lambda g, _y, a, b: -g * np.trunc(a / b))
floor_divide = _ufunc(np.floor_divide, _zero, _zero)

# powers and roots
square = _ufunc(np.square, lambda g, _y, x: g * (2 * x))
sqrt = _ufunc(np.sqrt, lambda g, y, _x: g / (2 * y))
cbrt = _ufunc(np.cbrt, lambda g, y, _x: g / (3 * y * y))
power = _ufunc(np.power, _power_base, lambda g, y, a, _b: g * (y * np.log(np.where(np.equal(a, 0), 1, a))))
float_power = _ufunc(np.float_power, *power.vjps)

# exponentials and logarithms
exp = _ufunc(np.exp, lambda g, y, _x: g * y)
exp2 = _ufunc(np.exp2, lambda g, y, _x: g * (y * LOG2))
expm1 = _ufunc(np.expm1, lambda g, y, _x: g * (y + 1))
log = _ufunc(np.log, lambda g, _y, x: g / x)
log2 = _ufunc(np.log2, lambda g, _y, x: g / (x * LOG2))
log10 = _ufunc(np.log10, lambda g, _y, x: g / (x * LOG10))
log1p = _ufunc(np.log1p, lambda g, _y, x: g / (x + 1))
logaddexp = _ufunc(
    np.logaddexp, lambda g, _y, a, b: g / (1 + np.exp(b - a)), lambda g, _y, a, b: g / (1 + np.exp(a - b))
)
logaddexp2 = _ufunc(
    np.logaddexp2, lambda g, _y, a, b: g / (1 + np.exp2(b - a)), lambda g, _y, a, b: g / (1 + np.exp2(a - b))
)

# trigonometric and hyperbolic
sin = _ufunc(np.sin, lambda g, _y, x: g * np.cos(x))
cos = _ufunc(np.cos, lambda g, _y, x: -g * np.sin(x))
tan = _ufunc(np.tan, lambda g, y, _x: g * (1 + y * y))
arcsin = _ufunc(np.arcsin, lambda g, _y, x: g / np.sqrt(1 - x * x))
arccos = _ufunc(np.arccos, lambda g, _y, x: -g / np.sqrt(1 - x * x))
arctan = _ufunc(np.arctan, lambda g, _y, x: g / (1 + x * x))
sinh = _ufunc(np.sinh, lambda g, _y, x: g * np.cosh(x))
cosh = _ufunc(np.cosh, lambda g, _y, x: g * np.sinh(x))
tanh = _ufunc(np.tanh, lambda g, y, _x: g * (1 - y * y))
arcsinh = _ufunc(np.arcsinh, lambda g, _y, x: g / np.sqrt(x * x + 1))
arccosh = _ufunc(np.arccosh, lambda g, _y, x: g / np.sqrt(x * x - 1))
arctanh = _ufunc(np.arctanh, lambda g, _y, x: g / (1 - x * x))
arctan2 = _ufunc(np.arctan2, lambda g, _y, a, b: g * b / (a * a + b * b), lambda g, _y, a, b: -g * a / (a * a + b * b))
hypot = _ufunc(np.hypot, lambda g, y, a, _b: g * (a / y), lambda g, y, _a, b: g * (b / y))
deg2rad = _ufunc(np.deg2rad, lambda g, *_: g * (math.pi / 180))
radians = _ufunc(np.radians, lambda g, *_: g * (math.pi / 180))
rad2deg = _ufunc(np.rad2deg, lambda g, *_: g * (180 / math.pi))
degrees = _ufunc(np.degrees, lambda g, *_: g * (180 / math.pi))

# magnitude, sign, choice
absolute = _ufunc(np.absolute, lambda g, _y, x: g * np.sign(x))
fabs = _ufunc(np.fabs, lambda g, _y, x: g * np.sign(x))
sign = _ufunc(np.sign, _zero)
copysign = _ufunc(np.copysign, lambda g, y, x, _s: g * np.sign(x) * np.sign(y), _zero)
heaviside = _ufunc(np.heaviside, _zero, _zero)
maximum = _ufunc(
    np.maximum,
    lambda g, _y, a, b: np.where(np.less(a, b), 0, np.where(np.equal(a, b), g / 2, g)),
    lambda g, _y, a, b: np.where(np.less(b, a), 0, np.where(np.equal(a, b), g / 2, g)),
)
minimum = _ufunc(
    np.minimum,
    lambda g, _y, a, b: np.where(np.greater(a, b), 0, np.where(np.equal(a, b), g / 2, g)),
    lambda g, _y, a, b: np.where(np.greater(b, a), 0, np.where(np.equal(a, b), g / 2, g)),
)
fmax = _ufunc(
    np.fmax,
    lambda g, _y, a, b: np.where(np.greater_equal(a, b) | np.isnan(b), g, 0),
    lambda g, _y, a, b: np.where(np.greater_equal(a, b) | np.isnan(b), 0, g),
)
fmin = _ufunc(
    np.fmin,
    lambda g, _y, a, b: np.where(np.less_equal(a, b) | np.isnan(b), g, 0),
    lambda g, _y, a, b: np.where(np.less_equal(a, b) | np.isnan(b), 0, g),
)
where = primitive(
    np.where,
    None,
    lambda g, _y, c, _a, _b: np.where(c, g, 0),
    lambda g, _y, c, _a, _b: np.where(c, 0, g),
    elementwise=True,
    numpy=np.where,
)

# rounding: gradient zero
floor = _ufunc(np.floor, _zero)
ceil = _ufunc(np.ceil, _zero)
trunc = _ufunc(np.trunc, _zero)
rint = _ufunc(np.rint, _zero)

# without gradient: comparisons, logic, bits, classification
equal, not_equal = _ufunc(np.equal), _ufunc(np.not_equal)
less, less_equal = _ufunc(np.less), _ufunc(np.less_equal)
greater, greater_equal = _ufunc(np.greater), _ufunc(np.greater_equal)
logical_and, logical_or = _ufunc(np.logical_and), _ufunc(np.logical_or)
logical_xor, logical_not = _ufunc(np.logical_xor), _ufunc(np.logical_not)
bitwise_and, bitwise_or, bitwise_xor = _ufunc(np.bitwise_and), _ufunc(np.bitwise_or), _ufunc(np.bitwise_xor)
invert, left_shift, right_shift = _ufunc(np.invert), _ufunc(np.left_shift), _ufunc(np.right_shift)
isfinite, isinf, isnan, signbit = _ufunc(np.isfinite), _ufunc(np.isinf), _ufunc(np.isnan), _ufunc(np.signbit)
gcd, lcm, bitwise_count = _ufunc(np.gcd), _ufunc(np.lcm), _ufunc(np.bitwise_count)
