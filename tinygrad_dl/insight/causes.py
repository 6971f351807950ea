"""Why an operation gives NaN or infinity, and what to write instead: one table for values, one for gradients.

Each row names operations, a condition on the numbers at the element, what it means, and the new text of the
operation, in which {a} and {b} stand for the operands' own texts, if one is known that is right for the other elements
as well. One more cause is one row.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Situation:
    """The numbers where it happened. a, b: the operands' elements; y: the result's; g: of a gradient, the incoming
    one. dtype: of the result. one_b: is the second operand a single number? fed_by: the names of the operations behind
    the first operand, nearest first ("1 -" for a subtraction from 1), and of_what the texts of their own operands.
    axis: the nearest one's axis, as keywords. unused: in a gradient, the condition under which `np.where` uses the
    element, if it does not here. kernel: where the user wrote the operation, if it is not this package's."""

    op: str
    dtype: Any
    a: float = math.nan
    b: float = math.nan
    y: float = math.nan
    g: float = math.nan
    one_b: bool = True
    fed_by: tuple[str, ...] = ()
    of_what: tuple[str, ...] = ()
    axis: str = ""
    unused: str | None = None
    kernel: str | None = None

    @property
    def largest(self) -> float:
        return float(np.finfo(self.dtype).max)

    @property
    def tiny(self) -> float:
        """A number near 0 whose reciprocal the dtype holds."""
        return 1e-4 if self.dtype == np.float16 else 1e-12

    @property
    def small(self) -> float:
        """A number near 0 of whose square that is true."""
        return math.sqrt(self.tiny)

    @property
    def near(self) -> float:
        """A distance from 1 that the dtype resolves."""
        return 1e-3 if self.dtype == np.float16 else 1e-6

    @property
    def limit(self) -> int:
        """The largest whole x whose exponential fits the dtype."""
        base = 2.0 if self.op == "exp2" else math.e
        return math.ceil(math.log(self.largest, base)) - 1


@dataclass(frozen=True)
class Cause:
    """A row of the table. guilty: the operand that brought it about. fed_by: the operations behind the first operand,
    nearest first; {z} is what the last of them is of."""

    ops: str
    when: Callable[[Situation], bool]
    says: str
    write: str | None = None
    guilty: int = 0
    fed_by: tuple[str, ...] = ()

    def fits(self, s: Situation) -> bool:
        named = self.ops == "*" or s.op in self.ops.split()
        return named and s.fed_by[: len(self.fed_by)] == self.fed_by and self.when(s)


LOGS = "log log2 log10"
EXPS = "exp exp2 expm1 sinh cosh"
POWERS = "power float_power"

VALUES = (
    Cause("*", lambda s: s.kernel is not None, "the operands are finite; its own kernel gives it: {kernel}"),
    Cause(
        "log",
        lambda s: s.a == 0,
        "a softmax rounds small probabilities to 0, and the logarithm of 0 is -inf; take both at once, from the logits",
        "nn.functional.log_softmax({z}{axis})",
        fed_by=("softmax",),
    ),
    Cause(
        "log",
        lambda s: s.a == 0,
        "a sigmoid rounds to 0, and the logarithm of 0 is -inf; take both at once, from the logits z: log(sigmoid(z)) "
        "is -softplus(-z), and for a loss there is nn.functional.binary_cross_entropy_with_logits",
        "-nn.functional.softplus(-{z})",
        fed_by=("sigmoid",),
    ),
    Cause(
        "log",
        lambda s: s.a == 0,
        "a sigmoid rounds to 1, and the logarithm of 0 is -inf; take both at once, from the logits z: "
        "log(1 - sigmoid(z)) is -softplus(z), and for a loss there is nn.functional.binary_cross_entropy_with_logits",
        "-nn.functional.softplus({z})",
        fed_by=("1 -", "sigmoid"),
    ),
    Cause(
        "log",
        lambda s: s.a == 0,
        "all exponentials have rounded to 0, and the logarithm of 0 is -inf; take both at once",
        "nn.functional.logsumexp({z}{axis})",
        fed_by=("sum", "exp"),
    ),
    Cause(LOGS, lambda s: s.a == 0, "the logarithm of 0 is -inf", "np.{op}(np.maximum({a}, {tiny}))"),
    Cause(LOGS, lambda s: s.a < 0, "a negative number has no logarithm", "np.{op}(np.maximum({a}, {tiny}))"),
    Cause("log1p", lambda s: s.a <= -1, "log(1 + x) needs x > -1", "np.log1p(np.maximum({a}, -1 + {near}))"),
    Cause("sqrt root", lambda s: s.a < 0, "a negative number has no square root", "np.sqrt(np.maximum({a}, 0))"),
    Cause("divide", lambda s: s.a == s.b == 0, "0 / 0 is not a number", "{a} / np.where({b} == 0, 1, {b})", guilty=1),
    Cause("divide", lambda s: s.b == 0, "division by 0", "{a} / np.where({b} == 0, 1, {b})", guilty=1),
    Cause("reciprocal", lambda s: s.a == 0, "division by 0", "np.reciprocal(np.where({a} == 0, 1, {a}))"),
    Cause("remainder fmod", lambda s: s.b == 0, "division by 0", "np.{op}({a}, np.where({b} == 0, 1, {b}))", guilty=1),
    Cause(
        EXPS,
        lambda s: abs(s.a) > s.limit - 1,
        "{op} overflows {dtype} beyond {limit}; where it is part of a softmax or of the logarithm of a sum, "
        "nn.functional.softmax and logsumexp subtract the largest element first; elsewhere keep what comes in smaller",
    ),
    Cause(
        POWERS,
        lambda s: s.a < 0 and not s.b.is_integer() and s.b > 0 and s.one_b,
        "a negative number has no fractional power",
        "np.{op}(np.maximum({a}, 0), {b})",
    ),
    Cause(POWERS, lambda s: s.a < 0 and not s.b.is_integer(), "a negative number has no fractional power"),
    Cause(
        POWERS,
        lambda s: s.a == 0 and s.b < 0 and s.one_b,
        "0 to a negative power",
        "np.{op}(np.where({a} == 0, 1, {a}), {b})",
    ),
    Cause(POWERS, lambda s: s.a == 0 and s.b < 0, "0 to a negative power"),
    Cause("arcsin arccos", lambda s: abs(s.a) > 1, "{op} needs -1 <= x <= 1", "np.{op}(np.clip({a}, -1, 1))"),
    Cause("arccosh", lambda s: s.a < 1, "arccosh needs x >= 1", "np.arccosh(np.maximum({a}, 1))"),
    Cause(
        "arctanh",
        lambda s: abs(s.a) >= 1,
        "arctanh needs -1 < x < 1",
        "np.arctanh(np.clip({a}, -1 + {near}, 1 - {near}))",
    ),
    Cause("cross_entropy", lambda s: math.isnan(s.y), "no label counts: all are ignore_index, or the batch is empty"),
    Cause(
        "*",
        lambda s: math.isinf(s.y),
        "the operands are finite, but the result is beyond {largest:.1e}, the largest {dtype}; scale the inputs "
        "(data.Normalizer), lower the learning rate, or use a wider dtype",
    ),
)

TRAP = (
    "0 · inf: np.where does not use this element and sends it the gradient 0, but the derivative of {op} is not finite "
    "there; choose the operand as well as the result"
)
GRADIENTS = (
    Cause("divide", lambda s: s.unused is not None, TRAP, "{a} / np.where({unused}, {b}, 1)", guilty=1),
    Cause(POWERS, lambda s: s.unused is not None, TRAP, "np.{op}(np.where({unused}, {a}, 1), {b})"),
    Cause(f"{LOGS} log1p sqrt cbrt", lambda s: s.unused is not None, TRAP, "np.{op}(np.where({unused}, {a}, 1))"),
    Cause("arcsin arccos arctanh", lambda s: s.unused is not None, TRAP, "np.{op}(np.where({unused}, {a}, 0))"),
    Cause("arccosh", lambda s: s.unused is not None, TRAP, "np.arccosh(np.where({unused}, {a}, 2))"),
    Cause("*", lambda s: s.unused is not None, TRAP),
    Cause(
        LOGS, lambda s: s.a == 0, "the derivative of a logarithm at 0 is infinite", "np.{op}(np.maximum({a}, {tiny}))"
    ),
    Cause("log1p", lambda s: s.a == -1, "the derivative at -1 is infinite", "np.log1p(np.maximum({a}, -1 + {near}))"),
    Cause("sqrt", lambda s: s.a == 0, "the derivative of a square root at 0 is infinite", "np.sqrt({a} + {tiny})"),
    Cause("cbrt", lambda s: s.a == 0, "the derivative of a cube root at 0 is infinite", "np.cbrt({a} + {tiny})"),
    Cause(
        POWERS,
        lambda s: s.a == 0 and s.b < 1,
        "the derivative of this power at 0 is infinite",
        "np.{op}({a} + {tiny}, {b})",
    ),
    Cause(
        POWERS,
        lambda s: s.a < 0,
        "the power of a negative number has no derivative in its exponent; make the exponent a constant",
    ),
    Cause(
        "arcsin arccos arctanh",
        lambda s: abs(s.a) == 1,
        "the derivative at -1 and 1 is infinite",
        "np.{op}(np.clip({a}, -1 + {near}, 1 - {near}))",
    ),
    Cause("arccosh", lambda s: s.a == 1, "the derivative at 1 is infinite", "np.arccosh(np.maximum({a}, 1 + {near}))"),
    Cause(
        "hypot",
        lambda s: s.a == s.b == 0,
        "a distance has no derivative at 0",
        "np.hypot({a}, np.hypot({b}, {near}))",
    ),
    Cause(
        "divide",
        lambda s: abs(s.b) < s.small and abs(s.g * s.a) < s.largest * s.tiny,
        "dividing by so small a number, the gradient is beyond {largest:.1e}, the largest {dtype}",
        "{a} / np.copysign(np.maximum(np.abs({b}), {small}), {b})",
        guilty=1,
    ),
    Cause(
        "*",
        lambda s: True,
        "the gradient is beyond {largest:.1e}, the largest {dtype}, or the operation's rule is wrong (tg.gradcheck "
        "tells); scale the inputs or the loss",
    ),
)


def find(table: tuple[Cause, ...], situation: Situation) -> Cause | None:
    """The first row that fits."""
    return next((cause for cause in table if cause.fits(situation)), None)


def words(text: str, s: Situation, **operands: str) -> str:
    """A row's text, filled in."""
    limit = s.limit if s.op in EXPS.split() else None
    dtype = np.dtype(s.dtype).name
    numbers = {"largest": s.largest, "limit": limit, "tiny": s.tiny, "small": s.small, "near": s.near}
    return text.format(op=s.op, dtype=dtype, unused=s.unused, kernel=s.kernel, axis=s.axis, **numbers, **operands)


def written(cause: Cause, s: Situation, operands: Sequence[str]) -> str | None:
    """The new text of the operation, if the row has one, from the texts of its operands."""
    if cause.write is None:
        return None
    a, b, *_ = [f"({text})" for text in [*operands, "x", "y"]]
    z = s.of_what[len(cause.fed_by) - 1] if cause.fed_by else ""
    text = words(cause.write, s, a=a, b=b, z=f"({z})")
    return ast.unparse(ast.parse(text, mode="eval"))  # without the parentheses that it does not need
