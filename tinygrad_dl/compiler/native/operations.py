"""What machine code can compute: NumPy's elementwise operations on registers, and how reductions combine.

NaN, infinities and the sign of zero come out as NumPy has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..lowering import FUNCTIONS, basic_name
from ..product_forms import is_product
from ..program import Instruction, Value
from ..trace import REDUCTIONS, VIEWS
from . import vector_math
from .ir import Code
from .registers import KINDS, DType, Register, lane, lanes_of, slice_of

_COMPARISONS = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge", "equal": "eq"}
_ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul"}
_BITWISE = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor"}
_BITWISE |= {"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"}
_ROUNDING = ("floor", "ceil", "trunc", "rint")
_OF_FLOATS = (*FUNCTIONS, "reciprocal")


def can_lower(step: Instruction) -> bool:
    """Is an instruction within what kernels and matrix products compute?"""
    if not all(v.dtype in KINDS for v in (*step.inputs, *step.outputs)) or len(step.outputs) != 1:
        return False
    y, name = step.outputs[0], basic_name(step)
    if name in VIEWS:
        return isinstance(step.args[0], Value)
    if name == "matmul":
        same = {v.dtype for v in (*step.inputs, y)}
        return len(same) == 1 and y.dtype.kind == "f" and is_product(step)
    if name == "bits":
        return y.dtype == np.uint32 and all(v.dtype == np.uint64 for v in step.inputs)
    if name in REDUCTIONS:
        return set(step.static) <= {"axis", "keepdims"} and len(step.args) == 1 and y.dtype != np.bool_
    if name in ("where", "astype"):
        literal_fits = all(isinstance(a, Value) or _holds(y.dtype, a) for a in step.args[1:])
        return literal_fits and all(a is not None for a in step.args)
    return _lowers_elementwise(name, step)


def _lowers_elementwise(name: str, step: Instruction) -> bool:
    if name not in _EMIT:
        return False
    kinds = tuple(a.dtype if isinstance(a, Value) else type(a) for a in step.args)
    loop = loop_dtype(name, kinds)
    if loop is None or loop not in KINDS:
        return False
    if name in _OF_FLOATS and loop.kind != "f":
        return False
    return all(isinstance(a, Value) or _holds(loop, a) for a in step.args)


def _holds(dtype: DType, x: Any) -> bool:
    if dtype.kind == "f" or dtype == np.bool_:
        return isinstance(x, bool | int | float) and x == x
    return isinstance(x, bool | int) and np.iinfo(dtype).min <= x <= np.iinfo(dtype).max


@lru_cache(maxsize=4096)
def loop_dtype(name: str, kinds: tuple[Any, ...]) -> DType | None:
    """The dtype to which NumPy casts the arguments, Python numbers weak; None where they differ."""
    if name in ("copy", "sigmoid", "erf"):
        return kinds[0]  # type: ignore[no-any-return]
    if name.startswith("logical"):
        return np.dtype(np.bool_)
    ufunc = getattr(np, name)
    weak = tuple(np.dtype(np.bool_) if k is bool else k for k in kinds)
    try:
        found = ufunc.resolve_dtypes((*weak, *(None,) * ufunc.nout))
    except TypeError:
        return None
    return found[0] if len(set(found[: len(kinds)])) == 1 else None


Emit = Callable[[Code, Register, Sequence[str], str], str]


def emit(code: Code, name: str, args: Sequence[Register], dtype: DType) -> Register:
    """One operation on registers of one dtype; dtype is the result's."""
    first = args[0]
    if name == "copy":
        return first
    result = _EMIT[name](code, first, [a.name for a in args], name)
    made = dtype if name not in _COMPARISONS and name not in _TESTS else np.dtype(np.bool_)
    return Register(result, lanes_of(made, first.lanes.width), made)


def identity(name: str, dtype: DType) -> float:
    """What a reduction starts from. The sum of no numbers that are -0.0 is -0.0."""
    if name in ("sum", "prod"):
        return (-0.0 if dtype.kind == "f" else 0) if name == "sum" else 1
    if dtype.kind == "f":
        return float("-inf") if name == "max" else float("inf")
    return int(np.iinfo(dtype).min if name == "max" else np.iinfo(dtype).max)


def combine(code: Code, name: str, a: Register, b: Register) -> Register:
    """Two partial results of a reduction as one."""
    ufunc = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}[name]
    return emit(code, ufunc, [a, b], a.dtype)


def across(code: Code, name: str, x: Register) -> Register:
    """The lanes of a register reduced to one: halves are combined, so sums are taken pairwise."""
    width = x.lanes.width
    if width == 1:
        return x
    if width == 2:
        parts = [lane(code, x, 0), lane(code, x, 1)]
        return combine(code, name, *parts)
    half = 1 << (width - 1).bit_length() - 1
    low, high = slice_of(code, x, 0, half), slice_of(code, x, half, width - half)
    if width - half < half:
        return combine(code, name, across(code, name, low), across(code, name, high))
    return across(code, name, combine(code, name, low, high))


def _arithmetic(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    if x.dtype == np.bool_:
        return code.binary("or" if name == "add" else "and", x.lanes, *args)
    return code.binary(("f" if x.lanes.floating else "") + _ARITHMETIC[name], x.lanes, *args)


def _compare(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    if name == "not_equal":
        return code.fcmp("une", x.lanes, *args) if x.lanes.floating else code.icmp("ne", x.lanes, *args)
    condition = _COMPARISONS[name]
    if x.lanes.floating:
        return code.fcmp("o" + condition, x.lanes, *args)
    sign = "" if condition == "eq" else "s" if x.dtype.kind == "i" else "u"
    return code.icmp(sign + condition, x.lanes, *args)


def _extreme(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    a, b = args
    condition = "gt" if name in ("maximum", "fmax") else "lt"
    if not x.lanes.floating:
        chosen = code.icmp(("s" if x.dtype.kind == "i" else "u") + condition, x.lanes, a, b)
        return code.select(x.lanes, chosen, a, b)
    if not b.startswith("%") and name in ("maximum", "minimum"):  # a number, and not NaN
        return code.select(x.lanes, code.fcmp("u" + condition, x.lanes, a, b), a, b)
    larger = code.select(x.lanes, code.fcmp("o" + condition, x.lanes, a, b), a, b)  # b if either is NaN
    nan, other = (a, a) if name in ("maximum", "minimum") else (b, a)
    return code.select(x.lanes, code.fcmp("uno", x.lanes, nan, 0.0), other, larger)


def _divide(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.fdiv(x.lanes, *args)


def _negative(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.fneg(x.lanes, args[0]) if x.lanes.floating else code.binary("sub", x.lanes, 0, args[0])


def _square(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.binary("fmul" if x.lanes.floating else "mul", x.lanes, args[0], args[0])


def _reciprocal(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.fdiv(x.lanes, 1.0, args[0])


def _absolute(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    if x.lanes.floating:
        return code.fabs(x.lanes, args[0])
    if x.dtype.kind in "ub":
        return args[0]
    below = code.icmp("slt", x.lanes, args[0], 0)
    return code.select(x.lanes, below, code.binary("sub", x.lanes, 0, args[0]), args[0])


def _sign(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    if not x.lanes.floating:
        positive = code.icmp("ugt" if x.dtype.kind == "u" else "sgt", x.lanes, args[0], 0)
        rest = code.select(x.lanes, code.icmp("eq", x.lanes, args[0], 0), 0, -1)
        return code.select(x.lanes, positive, 1, rest)
    one = code.copysign(x.lanes, 1.0, args[0])
    unequal = code.select(x.lanes, code.fcmp("oeq", x.lanes, args[0], 0.0), 0.0, one)
    return code.select(x.lanes, code.fcmp("uno", x.lanes, args[0], 0.0), args[0], unequal)


def _copysign(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.copysign(x.lanes, *args)


def _bitwise(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.binary(_BITWISE[name], x.lanes, *args)


def _complement(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.binary("xor", x.lanes, args[0], -1 if x.lanes.kind != "i1" else 1)


def _round(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.intrinsic(name, x.lanes, args[0]) if x.lanes.floating else args[0]


def _sqrt(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    return code.sqrt(x.lanes, args[0])


def _test(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    """isnan, isfinite, isinf."""
    if not x.lanes.floating:
        return x.lanes.mask.constant(name == "isfinite")
    if name == "isnan":
        return code.fcmp("uno", x.lanes, args[0], 0.0)
    condition = "olt" if name == "isfinite" else "oeq"
    return code.fcmp(condition, x.lanes, code.fabs(x.lanes, args[0]), float("inf"))


def _function(code: Code, x: Register, args: Sequence[str], name: str) -> str:
    result: str = getattr(vector_math, name)(code, x.lanes, *args)
    return result


_TESTS = ("isnan", "isfinite", "isinf", "not_equal")
_EMIT: dict[str, Emit] = (
    dict[str, Emit](dict.fromkeys(_ARITHMETIC, _arithmetic))
    | dict.fromkeys((*_COMPARISONS, "not_equal"), _compare)
    | dict.fromkeys(("maximum", "minimum", "fmax", "fmin"), _extreme)
    | dict.fromkeys(_BITWISE, _bitwise)
    | dict.fromkeys(("logical_not", "invert", "bitwise_not"), _complement)
    | dict.fromkeys(_ROUNDING, _round)
    | dict.fromkeys(FUNCTIONS, _function)
    | dict.fromkeys(_TESTS[:3], _test)
    | {"divide": _divide, "negative": _negative, "square": _square, "reciprocal": _reciprocal}
    | {"absolute": _absolute, "fabs": _absolute, "sign": _sign, "copysign": _copysign, "sqrt": _sqrt}
)
