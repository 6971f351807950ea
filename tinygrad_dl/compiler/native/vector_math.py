"""Elementary functions as straight LLVM IR: `exp(code, lanes, x)` appends the computation, for float32 or
float64 lanes of any width, and returns the register of the result.

No branches, no tables, no calls, but for angles of more than 40,000 turns: what LLVM has as intrinsics for these would
fall apart into one call of the C library per lane. NaN, infinities and the sign of zero come out as NumPy has them;
so do denormals, where the processor computes with them. In kernels it does not (`engine.WITHOUT_DENORMALS`): there they
are zero, as arguments and as results.

The constants (`formats.py`) were fitted in 45 and more digits (reweighted least squares, towards the smallest greatest
relative error), then rounded one after the other, the rest fitted anew after each; those of sin and cos are
interpolated at Chebyshev's points. Measured, in ulp, against float64 on every 13th float32 and against mpmath on 50,000
and more float64: exp, exp2 0.9 (1.0), log 1.1 (1.3), expm1 1.5 (1.9), sin, cos 1.6 (1.5), log1p 1.7 (2.0), log2 2.1
(1.8), log10 2.4 (3.0), sigmoid 2.3 (2.0), erf 2.4 (1.7), tanh 2.5 (2.5).
They need a processor with fused multiply-add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .formats import FORMATS
from .ir import INDEX, Code, Lanes

_LIFT = 64  # what is denormal is computed 2^64 times as large


def exp(code: Code, lanes: Lanes, x: str) -> str:
    return _exp_to_high(code, lanes, _at_most(code, lanes, x, FORMATS[lanes.kind].exp_range[1]))


def exp2(code: Code, lanes: Lanes, x: str) -> str:
    form = FORMATS[lanes.kind]
    x = _at_least(code, lanes, _at_most(code, lanes, x, form.bias + 2.0), -(form.bias + form.mantissa + 1.0))
    shifted = code.fadd(lanes, x, form.shifter)
    rest = code.fsub(lanes, x, code.fsub(lanes, shifted, form.shifter))
    small = code.fcmp("olt", lanes, x, 4.0 - form.bias)
    return _exp_of_parts(code, lanes, shifted, code.fmul(lanes, rest, math.log(2)), small)


def expm1(code: Code, lanes: Lanes, x: str) -> str:
    form = FORMATS[lanes.kind]
    held = _at_least(code, lanes, _at_most(code, lanes, x, form.exp_range[1]), -2.0 * form.mantissa)
    shifted, n, rest = _reduced(code, lanes, held)
    p = _expm1_of_rest(code, lanes, rest)
    half = _power_of_two(code, lanes, shifted, (form.bias - 1) << form.mantissa)  # 2^n would overflow too early
    y = code.fma(lanes, half, p, code.fsub(lanes, half, 0.5))
    y = code.select(lanes, code.fcmp("oeq", lanes, n, 0.0), p, code.fadd(lanes, y, y))  # half of p may be denormal
    return code.copysign(lanes, y, x)  # the sign of zero


def sigmoid(code: Code, lanes: Lanes, x: str) -> str:
    """1 / (1 + exp(-x)), and exp(x) / (1 + exp(x)) below zero, where that is the exact one."""
    e = _exp_to_high(code, lanes, code.fneg(lanes, code.fabs(lanes, x)))
    above = code.select(lanes, code.fcmp("olt", lanes, x, 0.0), e, 1.0)
    return code.fdiv(lanes, above, code.fadd(lanes, e, 1.0))


def tanh(code: Code, lanes: Lanes, x: str) -> str:
    """e / (e + 2) for e = expm1(-2 |x|), but for its sign."""
    e = _expm1_below_zero(code, lanes, code.fmul(lanes, code.fabs(lanes, x), -2.0))
    return code.copysign(lanes, code.fdiv(lanes, e, code.fadd(lanes, e, 2.0)), x)


def erf(code: Code, lanes: Lanes, x: str) -> str:
    """expm1(log(erfc(|x|))), but for its sign: as close where erf is small as where it is nearly 1."""
    form = FORMATS[lanes.kind]
    size = _at_most(code, lanes, code.fabs(lanes, x), form.erf_end)
    first, *rest = (-c for c in form.erfc)
    p = code.fmul(lanes, code.fmul(lanes, size, size), _polynomial(code, lanes, rest, size))
    log_erfc = code.fma(lanes, size, first, p)
    return code.copysign(lanes, _expm1_below_zero(code, lanes, log_erfc), x)


def log(code: Code, lanes: Lanes, x: str) -> str:
    e, f = _split(code, lanes, x)
    return _log_at_edges(code, lanes, x, _log_of_parts(code, lanes, e, f))


def log2(code: Code, lanes: Lanes, x: str) -> str:
    e, f = _split(code, lanes, x)
    return _log_at_edges(code, lanes, x, code.fma(lanes, _log_of_rest(code, lanes, f), 1 / math.log(2), e))


def log10(code: Code, lanes: Lanes, x: str) -> str:
    e, f = _split(code, lanes, x)
    high, low = FORMATS[lanes.kind].log10_2
    rest = code.fmul(lanes, _log_of_rest(code, lanes, f), 1 / math.log(10))
    y = code.fma(lanes, e, high, code.fma(lanes, e, low, rest))
    return _log_at_edges(code, lanes, x, y)


def log1p(code: Code, lanes: Lanes, x: str) -> str:
    above = code.fadd(lanes, x, 1.0)
    y = _log_at_edges(code, lanes, above, _log_above_one(code, lanes, x, above))
    return code.copysign(lanes, y, x)  # the sign of zero


def logaddexp(code: Code, lanes: Lanes, a: str, b: str) -> str:
    """log(exp(a) + exp(b)), as max(a, b) + log1p(exp(-|a - b|))."""
    same = code.fcmp("oeq", lanes, a, b)  # two infinities
    distance = code.fabs(lanes, code.select(lanes, same, 0.0, code.fsub(lanes, a, b)))
    ratio = _exp_to_high(code, lanes, code.fneg(lanes, distance))
    rest = _log_above_one(code, lanes, ratio, code.fadd(lanes, ratio, 1.0))
    greater = code.select(lanes, code.fcmp("ogt", lanes, a, b), a, b)
    return code.fadd(lanes, greater, rest)


def sin(code: Code, lanes: Lanes, x: str) -> str:
    return _circular(code, lanes, x, "sin")


def cos(code: Code, lanes: Lanes, x: str) -> str:
    return _circular(code, lanes, x, "cos")


def _circular(code: Code, lanes: Lanes, x: str, name: str) -> str:
    """By n = rint(x / (pi / 2)), whose last two bits say which of both it is and its sign, and x - n pi / 2. Where any
    angle has too many turns for that, the C library computes all of them."""
    form, ints = FORMATS[lanes.kind], lanes.ints
    shifted = code.fma(lanes, x, 2 / math.pi, form.shifter)
    n = code.fsub(lanes, shifted, form.shifter)
    rest = x
    for part in form.half_pi:
        rest = code.fma(lanes, n, -part, rest)
    square = code.fmul(lanes, rest, rest)
    sine = code.fma(lanes, code.fmul(lanes, rest, square), _polynomial(code, lanes, form.sin, square), rest)
    sine = code.select(lanes, code.fcmp("oeq", lanes, x, 0.0), x, sine)  # with its sign
    above = code.fma(lanes, square, -0.5, 1.0)
    cosine = code.fma(lanes, code.fmul(lanes, square, square), _polynomial(code, lanes, form.cos, square), above)
    quarters = code.binary("add", ints, code.bitcast(lanes, ints, shifted), int(name == "cos"))
    odd = code.icmp("ne", ints, code.binary("and", ints, quarters, 1), 0)
    sign = code.binary("shl", ints, code.binary("and", ints, quarters, 2), lanes.bits - 2)
    y = code.bitcast(lanes, ints, code.select(lanes, odd, cosine, sine))
    return _by_the_library(code, lanes, x, code.bitcast(ints, lanes, code.binary("xor", ints, y, sign)), name)


def _by_the_library(code: Code, lanes: Lanes, x: str, y: str, name: str) -> str:
    """y, or what the C library has, one lane after the other, if any angle is too large."""
    large = code.fcmp("ogt", lanes, code.fabs(lanes, x), FORMATS[lanes.kind].turns_end)
    one = Lanes(lanes.kind)
    if lanes.width == 1:
        count = code.select(INDEX, large, 1, 0)
        return code.loop("0", count, [lanes], [y], lambda i, _: [code.intrinsic(name, one, x)])[0]
    bits = code.let(f"bitcast {lanes.mask.type} {large} to i{lanes.width}")
    any_large = code.let(f"icmp ne i{lanes.width} {bits}, 0")

    def each(i: str, now: list[str]) -> list[str]:
        found = code.intrinsic(name, one, code.let(f"extractelement {lanes.type} {x}, i64 {i}"))
        return [code.let(f"insertelement {lanes.type} {now[0]}, {lanes.kind} {found}, i64 {i}")]

    return code.loop("0", code.select(INDEX, any_large, lanes.width, 0), [lanes], [y], each)[0]


def _at_most(code: Code, lanes: Lanes, x: str, bound: float) -> str:
    """The smaller of both, or NaN."""
    return code.select(lanes, code.fcmp("ogt", lanes, x, bound), bound, x)


def _at_least(code: Code, lanes: Lanes, x: str, bound: float) -> str:
    return code.select(lanes, code.fcmp("olt", lanes, x, bound), bound, x)


def _polynomial(code: Code, lanes: Lanes, coefficients: Sequence[float], x: str) -> str:
    """c0 + c1 x + c2 x^2 + ..., by Horner's rule: the lanes keep the processor busy."""
    *rest, last = coefficients
    y: str | float = last
    for c in reversed(rest):
        y = code.fma(lanes, y, x, c)
    return str(y)


def _reduced(code: Code, lanes: Lanes, x: str) -> tuple[str, str, str]:
    """n = rint(x / ln2) in the lowest bits of a number, n, and x - n ln2."""
    form = FORMATS[lanes.kind]
    shifted = code.fma(lanes, x, 1 / math.log(2), form.shifter)
    n = code.fsub(lanes, shifted, form.shifter)
    high, low = form.ln2
    return shifted, n, code.fma(lanes, n, -low, code.fma(lanes, n, -high, x))


def _power_of_two(code: Code, lanes: Lanes, shifted: str, exponent: str | int) -> str:
    """2^(n + exponent), where that is a normal number; the exponent comes biased and in its place."""
    ints = lanes.ints
    n = code.binary("shl", ints, code.bitcast(lanes, ints, shifted), FORMATS[lanes.kind].mantissa)
    return code.bitcast(ints, lanes, code.binary("add", ints, n, exponent))


def _exp_to_high(code: Code, lanes: Lanes, x: str) -> str:
    """exp where x is no greater than the upper end of its range."""
    form = FORMATS[lanes.kind]
    x = _at_least(code, lanes, x, form.exp_range[0])
    shifted, _, rest = _reduced(code, lanes, x)
    small = code.fcmp("olt", lanes, x, (4 - form.bias) * math.log(2))
    return _exp_of_parts(code, lanes, shifted, rest, small)


def _exp_of_parts(code: Code, lanes: Lanes, shifted: str, rest: str, small: str) -> str:
    """2^n e^rest, rounded once where it is denormal: `small` says where n is low and makes a detour."""
    form = FORMATS[lanes.kind]
    doubled = [2 * c for c in (1.0, 1.0, *form.exp)]  # the power is halved: 2^n may be infinite where the result is not
    exponents = [(form.bias - 1 + lift) << form.mantissa for lift in (_LIFT, 0)]
    power = _power_of_two(code, lanes, shifted, code.select(lanes.ints, small, *exponents))
    y = code.fmul(lanes, _polynomial(code, lanes, doubled, rest), power)
    return code.select(lanes, small, code.fmul(lanes, y, 2.0**-_LIFT), y)


def _expm1_of_rest(code: Code, lanes: Lanes, rest: str) -> str:
    p = _polynomial(code, lanes, FORMATS[lanes.kind].exp, rest)
    return code.fma(lanes, code.fmul(lanes, rest, rest), p, rest)


def _expm1_below_zero(code: Code, lanes: Lanes, x: str) -> str:
    """expm1 for x <= 0, without the sign of zero."""
    form = FORMATS[lanes.kind]
    shifted, _, rest = _reduced(code, lanes, _at_least(code, lanes, x, -2.0 * form.mantissa))
    power = _power_of_two(code, lanes, shifted, form.bias << form.mantissa)
    return code.fma(lanes, power, _expm1_of_rest(code, lanes, rest), code.fsub(lanes, power, 1.0))


def _split(code: Code, lanes: Lanes, x: str) -> tuple[str, str]:
    """(e, f) with x = 2^e (1 + f) and 1 + f in [sqrt(1/2), sqrt(2)], for positive and finite x."""
    form = FORMATS[lanes.kind]
    lift = form.mantissa + 1
    small = code.fcmp("olt", lanes, x, 2.0 ** (1 - form.bias))
    scaled = _scaled_bits(code, lanes, code.select(lanes, small, code.fmul(lanes, x, 2.0**lift), x))
    e = _exponent(code, lanes, scaled, code.select(lanes, small, form.exponent_zero + lift, form.exponent_zero))
    fraction = code.binary("and", lanes.ints, scaled, (1 << form.mantissa) - 1)
    significand = code.binary("add", lanes.ints, fraction, form.root_half)
    return e, code.fsub(lanes, code.bitcast(lanes.ints, lanes, significand), 1.0)


def _scaled_bits(code: Code, lanes: Lanes, x: str) -> str:
    """The bits of x / sqrt(1/2), as far as the exponent goes."""
    form = FORMATS[lanes.kind]
    offset = (form.bias << form.mantissa) - form.root_half
    return code.binary("add", lanes.ints, code.bitcast(lanes, lanes.ints, x), offset)


def _exponent(code: Code, lanes: Lanes, scaled: str, zero: str | float) -> str:
    """The exponent as a number; the conversion of 64-bit integers is slow or missing on many processors."""
    form, ints = FORMATS[lanes.kind], lanes.ints
    lowest = code.binary("lshr", ints, scaled, form.mantissa)
    number = code.binary("or", ints, lowest, (form.bias + form.mantissa) << form.mantissa)
    return code.fsub(lanes, code.bitcast(ints, lanes, number), zero)


def _log_of_rest(code: Code, lanes: Lanes, f: str) -> str:
    p = _polynomial(code, lanes, FORMATS[lanes.kind].log, f)
    return code.fma(lanes, code.fmul(lanes, f, f), p, f)


def _log_of_parts(code: Code, lanes: Lanes, e: str, f: str) -> str:
    ln2 = FORMATS[lanes.kind].ln2[0]  # what it lacks is 0.05 ulp of the result in float32, 0.3 in float64
    return code.fma(lanes, e, ln2, _log_of_rest(code, lanes, f))


def _log_at_edges(code: Code, lanes: Lanes, x: str, y: str) -> str:
    """y for positive and finite x; what a logarithm is elsewhere."""
    edge = code.select(lanes, code.fcmp("oeq", lanes, x, 0.0), -math.inf, math.nan)
    y = code.select(lanes, code.fcmp("ogt", lanes, x, 0.0), y, edge)
    return code.select(lanes, code.fcmp("olt", lanes, x, math.inf), y, x)


def _log_above_one(code: Code, lanes: Lanes, x: str, above: str) -> str:
    """log1p for finite x > -1, and above = 1 + x rounded, which has the exponent: f = 2^-e x + (2^-e - 1)."""
    form, ints = FORMATS[lanes.kind], lanes.ints
    scaled = _scaled_bits(code, lanes, above)
    field = code.binary("and", ints, scaled, -1 << form.mantissa)
    inverse = code.binary("sub", ints, (2 * form.bias + 2) << form.mantissa, field)  # of 2^(e - 2), normal for all e
    inverse = code.bitcast(ints, lanes, inverse)
    f = code.fmul(lanes, code.fma(lanes, x, inverse, code.fsub(lanes, inverse, 4.0)), 0.25)
    return _log_of_parts(code, lanes, _exponent(code, lanes, scaled, form.exponent_zero), f)
