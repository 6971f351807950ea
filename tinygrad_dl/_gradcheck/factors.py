"""Causes that are a factor: a constant, a sum for a mean, the wrong degrees of freedom, a link of the chain rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from ..graph import Array
from .suspect import Cause, Repair, Suspect, Trial

Factors = Iterator[tuple[str, float]]  # what is wrong, and how much too large the gradient then is
EQUAL = 1e-4  # relative: a measured factor is this one


def scaled(name: str, factors: Callable[[Suspect], Factors]) -> Cause:
    """A row: the gradient is right but for one of these factors."""

    def test(s: Suspect) -> str | None:
        right = s.factor(_as_it_is)
        if right is None:
            return None
        return next((text for text, factor in factors(s) if math.isclose(right * factor, 1.0, rel_tol=EQUAL)), None)

    return Cause(name, test)


def _as_it_is(t: Trial) -> Array:
    return t.got


def _reduced(s: Suspect) -> int:
    """How many elements of the argument go into one of the output, if it is a reduction."""
    x, y = (math.prod(shape) for shape in s.shapes)
    return x // y if 0 < y < x else 1


def mean_for_sum(s: Suspect) -> Factors:
    if (n := _reduced(s)) > 1:
        yield f"the {n} elements of a mean share its gradient: divide by {n}", n


def sum_for_mean(s: Suspect) -> Factors:
    if (n := _reduced(s)) > 1:
        yield f"each of the {n} elements of a sum has its whole gradient: do not divide by {n}", 1 / n


def ddof(s: Suspect) -> Factors:
    """Of a variance, and of a deviation (the square roots)."""
    if (n := _reduced(s)) > 2:
        for power in (1.0, 0.5):
            yield f"the rule divides by {n - 1} where the kernel divides by {n}", (n / (n - 1)) ** power
            yield f"the rule divides by {n} where the kernel divides by {n - 1}", ((n - 1) / n) ** power


def averaged(s: Suspect) -> Factors:
    x, y = (math.prod(shape) for shape in s.shapes)
    if 0 < x < y:
        yield f"the gradient is averaged over the {y // x} copies of the argument: sum it", x / y


def constant(s: Suspect) -> str | None:
    """Any other constant, with what it may be the size of."""
    right = s.factor(_as_it_is)
    if right is None:
        return None
    if math.isclose(right, -1.0, rel_tol=EQUAL):
        return "the sign is wrong"
    for n, what in _sizes(s).items():
        for size, word in ((n, "small"), (1 / n, "large")):
            if math.isclose(abs(right), size, rel_tol=EQUAL):
                sign = ", and of the wrong sign" if right < 0 else ""
                return f"the gradient is too {word} by the factor {n}, {what}{sign}"
    return f"multiply the gradient by {_number(right)}"


def _sizes(s: Suspect) -> dict[int, str]:
    """Sizes that a rule may have taken for a factor, the number of elements before the length of an axis."""
    found: dict[int, str] = {}
    for which, shape in zip(("argument", "output"), s.shapes, strict=True):
        found |= {n: f"the length of its axis {k}" for k, n in enumerate(shape) if n > 3}
        found |= {math.prod(shape): f"the number of elements of the {which}"} if math.prod(shape) > 3 else {}
    return found


def _number(value: float) -> str:
    """`1/3`, `-2`, `0.9990010`."""
    simple = Fraction(value).limit_denominator(12)
    return str(simple) if math.isclose(simple, value, rel_tol=EQUAL / 10) else f"{value:.7g}"


# links of the chain rule

FORMS: dict[str, Callable[[Array], Array]] = {
    "{}": lambda v: v,
    "1/{}": lambda v: 1 / v,
    "1 - {}": lambda v: 1 - v,
    "1 - {}²": lambda v: 1 - v * v,
    "1 + {}²": lambda v: 1 + v * v,
    "{0}·(1 - {0})": lambda v: v * (1 - v),
    "1/(1 - {}²)": lambda v: 1 / (1 - v * v),
    "1/(1 + {}²)": lambda v: 1 / (1 + v * v),
    "{}²": lambda v: v * v,
    "1/{}²": lambda v: 1 / (v * v),
    "exp({})": np.exp,
    "cos({})": np.cos,
}
MASKS: dict[str, Callable[[Array], Array]] = {
    "{} > 0": lambda v: v > 0,
    "{} < 0": lambda v: v < 0,
    "|{}| < 1": lambda v: abs(v) < 1,
    "sign({})": np.sign,
}


def chain(s: Suspect) -> str | None:
    """A factor that varies is missing: on the side of the argument, or on that of the output."""
    for kind, table in (("factor", FORMS), ("mask", MASKS)):
        for form, f in table.items():
            for what, read in _readings(s):
                for repair in _multiplied(f, read):
                    factor = s.factor(repair)
                    if factor is not None and "." not in (times := _number(factor)):
                        times = {"1": "", "-1": "-"}.get(times, f"{times} · ")
                        return f"the {kind} {times}{form.format(what)} is missing"
    return "the mask y == x is missing" if s.holds(lambda t: t.got * (t.y == t.x)) else None


def _readings(s: Suspect) -> Iterator[tuple[str, Callable[[Trial], Array]]]:
    """The values that a factor may be made of."""

    def argument(k: int) -> Callable[[Trial], Array]:
        return lambda t: t.args[k]

    yield "x", lambda t: t.x
    yield "y", lambda t: t.y
    for k, a in enumerate(s.operation.args):
        if k != s.i and isinstance(a, np.ndarray):
            yield f"argument {k}", argument(k)


def _multiplied(f: Callable[[Array], Array], read: Callable[[Trial], Array]) -> Iterator[Repair]:
    yield lambda t: t.got * f(read(t))
    yield lambda t: t.rule(g=t.g * f(read(t)))
