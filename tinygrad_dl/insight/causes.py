"""Why an operation gives NaN or infinity, and what to write instead: one table for values, one for gradients.

Each row names operations, a condition on the numbers at the element, what it means, and the new text of the
operation, in which {a} and {b} stand for the operands' own texts. One more cause is one row.
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
    one. dtype: of the result. fed_by: the names of the operations behind the first operand, nearest first. unused: in
    a gradient, the condition under which `np.where` uses the element, if it does not here."""

    op: str
    dtype: Any
    a: float = math.nan
    b: float = math.nan
    y: float = math.nan
    g: float = math.nan
    fed_by: tuple[str, ...] = ()
    unused: str | None = None

    @property
    def largest(self) -> float:
        return float(np.finfo(self.dtype).max)

    @property
    def limit(self) -> int:
        """The largest whole x whose exponential fits the dtype."""
        base = 2.0 if self.op == "exp2" else math.e
        return math.ceil(math.log(self.largest, base)) - 1


@dataclass(frozen=True)
class Cause:
    """A row of the table. guilty: the operand that brought it about."""

    ops: str
    when: Callable[[Situation], bool]
    says: str
    write: str | None = None
    guilty: int = 0

    def fits(self, s: Situation) -> bool:
        return (self.ops == "*" or s.op in self.ops.split()) and self.when(s)


LOGS = "log log2 log10"
EXPS = "exp exp2 expm1 sinh cosh"

VALUES = (
    Cause(
        LOGS,
        lambda s: s.a == 0 and s.fed_by[:1] == ("softmax",),
        "a softmax rounds small probabilities to 0, and the logarithm of 0 is -inf; take both at once, from the logits",
        "nn.functional.log_softmax(logits)",
    ),
    Cause(
        LOGS,
        lambda s: s.a == 0 and "sigmoid" in s.fed_by[:2],
        "a sigmoid rounds to 0 or 1, and the logarithm of 0 is -inf; take both at once, from the logits z: "
        "log(1 - sigmoid(z)) is -softplus(z), and for a loss there is nn.functional.binary_cross_entropy_with_logits",
        "-nn.functional.softplus(-z)",
    ),
    Cause(
        LOGS,
        lambda s: s.a == 0 and s.fed_by[:2] == ("sum", "exp"),
        "all exponentials have rounded to 0, and the logarithm of 0 is -inf; take both at once",
        "nn.functional.logsumexp(x)",
    ),
    Cause(LOGS, lambda s: s.a == 0, "the logarithm of 0 is -inf", "np.{op}(np.maximum({a}, 1e-12))"),
    Cause(LOGS, lambda s: s.a < 0, "a negative number has no logarithm", "np.{op}(np.maximum({a}, 1e-12))"),
    Cause("log1p", lambda s: s.a <= -1, "log(1 + x) needs x > -1", "np.log1p(np.maximum({a}, -1 + 1e-6))"),
    Cause("sqrt root", lambda s: s.a < 0, "a negative number has no square root", "np.sqrt(np.maximum({a}, 0))"),
    Cause("divide", lambda s: s.a == s.b == 0, "0 / 0 is not a number", "{a} / np.where({b} == 0, 1, {b})", guilty=1),
    Cause("divide", lambda s: s.b == 0, "division by 0", "{a} / np.where({b} == 0, 1, {b})", guilty=1),
    Cause("reciprocal", lambda s: s.a == 0, "division by 0", "np.reciprocal(np.where({a} == 0, 1, {a}))"),
    Cause("remainder fmod", lambda s: s.b == 0, "division by 0", "np.{op}({a}, np.where({b} == 0, 1, {b}))", guilty=1),
    Cause(
        EXPS,
        lambda s: abs(s.a) > s.limit - 1,
        "{op} overflows {dtype} beyond {limit}; where it is part of a softmax or of the logarithm of a sum, "
        "nn.functional.softmax and logsumexp subtract the largest element first",
        "np.{op}(np.minimum({a}, {limit}))",
    ),
    Cause(
        "power float_power",
        lambda s: s.a < 0 and not s.b.is_integer(),
        "a negative number has no fractional power",
        "np.maximum({a}, 0) ** {b}",
    ),
    Cause(
        "power float_power", lambda s: s.a == 0 and s.b < 0, "0 to a negative power", "np.maximum({a}, 1e-12) ** {b}"
    ),
    Cause("arcsin arccos", lambda s: abs(s.a) > 1, "{op} needs -1 <= x <= 1", "np.{op}(np.clip({a}, -1, 1))"),
    Cause("arccosh", lambda s: s.a < 1, "arccosh needs x >= 1", "np.arccosh(np.maximum({a}, 1))"),
    Cause(
        "arctanh", lambda s: abs(s.a) >= 1, "arctanh needs -1 < x < 1", "np.arctanh(np.clip({a}, -1 + 1e-6, 1 - 1e-6))"
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
    Cause("power float_power", lambda s: s.unused is not None, TRAP, "np.where({unused}, {a}, 1) ** {b}"),
    Cause("*", lambda s: s.unused is not None, TRAP, "np.{op}(np.where({unused}, {a}, 1))"),
    Cause(
        LOGS, lambda s: s.a == 0, "the derivative of a logarithm at 0 is infinite", "np.{op}(np.maximum({a}, 1e-12))"
    ),
    Cause("log1p", lambda s: s.a == -1, "the derivative at -1 is infinite", "np.log1p(np.maximum({a}, -1 + 1e-6))"),
    Cause("sqrt", lambda s: s.a == 0, "the derivative of a square root at 0 is infinite", "np.sqrt({a} + 1e-12)"),
    Cause("cbrt", lambda s: s.a == 0, "the derivative of a cube root at 0 is infinite", "np.cbrt({a} + 1e-12)"),
    Cause(
        "power float_power",
        lambda s: s.a == 0 and s.b < 1,
        "the derivative of this power at 0 is infinite",
        "({a} + 1e-12) ** {b}",
    ),
    Cause(
        "power float_power",
        lambda s: s.a < 0,
        "the power of a negative number has no derivative in its exponent; make the exponent a constant",
    ),
    Cause(
        "arcsin arccos arctanh",
        lambda s: abs(s.a) == 1,
        "the derivative at -1 and 1 is infinite",
        "np.{op}(np.clip({a}, -1 + 1e-6, 1 - 1e-6))",
    ),
    Cause("arccosh", lambda s: s.a == 1, "the derivative at 1 is infinite", "np.arccosh(np.maximum({a}, 1 + 1e-6))"),
    Cause(
        "hypot",
        lambda s: s.a == s.b == 0,
        "a distance has no derivative at 0",
        "np.sqrt({a} ** 2 + {b} ** 2 + 1e-12)",
    ),
    Cause(
        "divide",
        lambda s: abs(s.b) < 1e-6,
        "dividing by so small a number, the gradient is beyond {largest:.1e}, the largest {dtype}",
        "{a} / np.where(np.abs({b}) < 1e-6, 1e-6, {b})",
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
    return text.format(op=s.op, dtype=dtype, largest=s.largest, limit=limit, unused=s.unused, **operands)


def written(cause: Cause, s: Situation, operands: Sequence[str]) -> str | None:
    """The new text of the operation, if the row has one, from the texts of its operands."""
    if cause.write is None:
        return None
    a, b, *_ = [f"({text})" for text in [*operands, "x", "y"]]
    text = words(cause.write, s, a=a, b=b)
    return ast.unparse(ast.parse(text, mode="eval"))  # without the parentheses that it does not need
