"""Elementwise operations, against mpmath and Python's own numbers."""

import math
import operator

import mpmath as mp
import numpy as np
from op_table_row import (
    Row,
    above,
    below,
    boolean,
    each,
    exact,
    fraction,
    inside,
    integer,
    positive,
    real,
    rows,
    special,
)

from tinygrad_dl import ops
from tinygrad_dl.ops import choice, elementwise, rounding


def truncated(x):
    return mp.floor(x) if x > 0 else mp.ceil(x)


def clipped(a, low, high):
    return min(max(a, low), high)


ONE_ARGUMENT = rows(
    (ops.negative, exact(lambda x: -x), real),
    (ops.positive, each(lambda x: x), real),
    (ops.conjugate, each(lambda x: x.conjugate()), real),
    (ops.reciprocal, exact(lambda x: 1 / x), real),
    (ops.square, exact(lambda x: x * x), real),
    (ops.sqrt, exact(mp.sqrt), positive),
    (elementwise.root, exact(mp.sqrt), positive),
    (ops.cbrt, exact(lambda x: mp.sign(x) * mp.cbrt(abs(x))), real),
    (ops.exp, exact(mp.exp), real),
    (ops.exp2, exact(lambda x: 2**x), real),
    (ops.expm1, exact(mp.expm1), real),
    (ops.log, exact(mp.log), positive),
    (ops.log2, exact(lambda x: mp.log(x, 2)), positive),
    (ops.log10, exact(mp.log10), positive),
    (ops.log1p, exact(mp.log1p), inside),
    (ops.sin, exact(mp.sin), real),
    (ops.cos, exact(mp.cos), real),
    (ops.tan, exact(mp.tan), inside),
    (ops.arcsin, exact(mp.asin), inside),
    (ops.arccos, exact(mp.acos), inside),
    (ops.arctan, exact(mp.atan), real),
    (ops.sinh, exact(mp.sinh), real),
    (ops.cosh, exact(mp.cosh), real),
    (ops.tanh, exact(mp.tanh), real),
    (ops.arcsinh, exact(mp.asinh), real),
    (ops.arccosh, exact(mp.acosh), above),
    (ops.arctanh, exact(mp.atanh), inside),
    (ops.deg2rad, exact(mp.radians), real),
    (ops.radians, exact(mp.radians), real),
    (ops.rad2deg, exact(mp.degrees), real),
    (ops.degrees, exact(mp.degrees), real),
    (ops.absolute, exact(abs), real),
    (ops.fabs, each(math.fabs), real),
    (ops.sign, exact(mp.sign), real),
    (ops.floor, exact(mp.floor), fraction),
    (ops.ceil, exact(mp.ceil), fraction),
    (ops.trunc, exact(truncated), fraction),
    (ops.fix, exact(truncated), fraction),
    (ops.rint, exact(mp.nint), fraction),
    (ops.round, each(round), fraction),
    (ops.round, each(round), fraction, 1),
    (ops.modf, each(math.modf, float, float), fraction),
    (ops.frexp, each(math.frexp, float, int), real),
    (rounding._exponent, each(lambda x: math.frexp(x)[1], int), real),
    (ops.real, each(lambda x: x.real), real),
    (ops.real_if_close, each(lambda x: x.real), real),
    (ops.imag, each(lambda x: x.imag), real),
    (ops.sinc, exact(mp.sincpi), inside),
    (ops.nan_to_num, None, real),
    (ops.nan_to_num, None, special, {"nan": 2.0, "posinf": 3.0, "neginf": -4.0}),
)

SEVERAL_ARGUMENTS = [
    *rows(
        (ops.add, exact(operator.add), real, real),
        (ops.subtract, exact(operator.sub), real, real),
        (ops.multiply, exact(operator.mul), real, real),
        (ops.divide, exact(operator.truediv), real, real),
        (ops.remainder, exact(lambda a, b: a - b * mp.floor(a / b)), fraction, real),
        (ops.fmod, each(math.fmod), fraction, real),
        (ops.floor_divide, exact(lambda a, b: mp.floor(a / b)), fraction, real),
        (ops.divmod, each(divmod, float, float), fraction, real),
        (ops.power, exact(operator.pow), positive, real),
        (ops.logaddexp, exact(lambda a, b: mp.log(mp.exp(a) + mp.exp(b))), real, real),
        (ops.logaddexp2, exact(lambda a, b: mp.log(2**a + 2**b, 2)), real, real),
        (ops.ldexp, each(math.ldexp), real, integer),
        (ops.arctan2, exact(mp.atan2), real, real),
        (ops.hypot, exact(mp.hypot), real, real),
        (ops.copysign, each(math.copysign), real, real),
        (ops.heaviside, each(lambda x, h: h if x == 0 else float(x > 0)), real, real),
        (ops.nextafter, each(math.nextafter), real, real),
        (ops.maximum, each(max), real, real),
        (ops.minimum, each(min), real, real),
        (ops.fmax, each(max), real, real),
        (ops.fmin, each(min), real, real),
        (ops.where, each(lambda c, a, b: a if c else b), boolean, real, real),
        (choice._where, each(lambda c, a, b: a if c else b), boolean, real, real),
        (ops.clip, each(clipped), real, inside, above),
        (ops.clip, each(clipped), real, below, inside),
        (choice._clip, each(clipped), real, inside, above),
        (choice._clip, each(clipped), real, below, inside),
    ),
    Row(ops.float_power, (positive, real), exact(operator.pow), keeps_dtype=False),
]

TRUTH = rows(
    (ops.equal, each(operator.eq, bool), integer, integer),
    (ops.not_equal, each(operator.ne, bool), integer, integer),
    (ops.less, each(operator.lt, bool), integer, integer),
    (ops.less_equal, each(operator.le, bool), integer, integer),
    (ops.greater, each(operator.gt, bool), integer, integer),
    (ops.greater_equal, each(operator.ge, bool), integer, integer),
    (ops.less, each(operator.lt, bool), real, real),
    (ops.isclose, each(lambda a, b, r, t: abs(a - b) <= t + r * abs(b), bool), real, real, 0.3, 0.2),
    (ops.logical_and, each(lambda a, b: a and b, bool), boolean, boolean),
    (ops.logical_or, each(lambda a, b: a or b, bool), boolean, boolean),
    (ops.logical_xor, each(operator.ne, bool), boolean, boolean),
    (ops.logical_not, each(operator.not_, bool), boolean),
    (ops.bitwise_and, each(operator.and_, int), integer, integer),
    (ops.bitwise_or, each(operator.or_, int), integer, integer),
    (ops.bitwise_xor, each(operator.xor, int), integer, integer),
    (ops.invert, each(operator.invert, int), integer),
    (ops.left_shift, each(operator.lshift, int), integer, integer),
    (ops.right_shift, each(operator.rshift, int), integer, integer),
    (ops.gcd, each(math.gcd, int), integer, integer),
    (ops.lcm, each(math.lcm, int), integer, integer),
    (ops.bitwise_count, each(int.bit_count, np.uint8), integer),
    (ops.isfinite, each(math.isfinite, bool), special),
    (ops.isinf, each(math.isinf, bool), special),
    (ops.isnan, each(math.isnan, bool), special),
    (ops.isposinf, each(lambda x: math.isinf(x) and x > 0, bool), special),
    (ops.isneginf, each(lambda x: math.isinf(x) and x < 0, bool), special),
    (ops.signbit, each(lambda x: math.copysign(1, x) < 0, bool), special),
    (ops.isreal, each(lambda x: x.imag == 0, bool), real),
    (ops.iscomplex, each(lambda x: x.imag != 0, bool), real),
)

ROWS = [*ONE_ARGUMENT, *SEVERAL_ARGUMENTS, *TRUTH]
