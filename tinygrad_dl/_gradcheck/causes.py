"""The catalogue of causes: what a rule may have got wrong, a row each, with the test that proves it.

A row is a name and `test(suspect)`, which says in words what is wrong: for a fact if it is so, for a repair if the
gradient so repaired is right at every point of the trial. The first row that is proved is the cause, so the simplest
come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Array
from . import factors, places
from .sound import NONLINEAR, STALE
from .suspect import Cause, Suspect, Trial
from .verdict import FLOAT32, KERNEL_WRITES, KINK, RANDOM, RANDOM_RULE


def _seen(name: str, text: str) -> Cause:
    """A row: the operation's verdict says so."""
    return Cause(name, lambda s: text if s.verdict.text == text else None)


def _writing(name: str, *into: str) -> Cause:
    """A row: with copies of everything the rule is right, and one of these is no longer what it was."""

    def test(s: Suspect) -> str | None:
        if s.wrong or not s.trials:
            return None
        written = " and ".join(what for what in _written(s.trials[0]) if what.startswith(into))
        return f"the rule is right, but writes into {written}; it must make a new array" if written else None

    return Cause(name, test)


def _written(t: Trial) -> list[str]:
    """What one call of the rule changes."""
    given: dict[str, Any] = {}
    t.rule(given=given)
    before: dict[str, Any] = {}
    t.prepare(given=before)
    return [name for name, value in given.items() if not _same(before[name], value)]


def _same(a: Any, b: Any) -> bool:
    if isinstance(b, tuple | list):
        return all(map(_same, a, b))
    return not isinstance(b, np.ndarray) or np.array_equal(a, b, equal_nan=b.dtype.kind == "f")


def _nothing(s: Suspect) -> str | None:
    zero = all(not t.got.any() and abs(t.slope) > t.error for t in s.trials)
    return "the rule returns zero, or None, though the output depends on the argument" if zero else None


def _nonlinear(s: Suspect) -> str | None:
    """A gradient is linear in the incoming one, whatever the operation."""
    t = s.trials[0]
    other = 1.5 * np.roll(t.g.reshape(-1), 1).reshape(t.g.shape)
    if _close(t.rule(g=t.g + 2 * other), t.got + 2 * t.rule(g=other)):
        return None
    double, turned = t.rule(g=2 * t.g), t.rule(g=-t.g)
    if _close(double, t.got):
        how = f"the rule uses {'nothing' if _close(turned, t.got) else 'the sign'} of the incoming gradient"
    elif _close(double, 4 * t.got):
        how = "the rule multiplies by the incoming gradient twice"
    else:
        how = "the rule's result for a sum of gradients is not the sum of its results"
    once = s.holds(lambda t: t.g * t.rule(g=np.ones_like(t.g)))
    return f"{how}; its result for ones, times that gradient, is right" if once else how


def _close(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-9 * float(np.abs(b).max(initial=0.0))))


FACTS = (
    _seen("argument written in place", KERNEL_WRITES),
    _seen("random forward", RANDOM),
    _seen("random backward", RANDOM_RULE),
    _seen("float32 lost inside", FLOAT32),
    _seen("kink at the point", KINK),
    _seen("stale value", STALE),
    _seen("not linear in the incoming gradient", NONLINEAR),
    _writing("gradient written in place", "the incoming gradient"),
    _writing("saved value mutated", "what the forward saved", "the output", "argument"),
)
REPAIRS = (
    Cause("no gradient", _nothing),
    Cause("not linear in the incoming gradient", _nonlinear),
    factors.scaled("mean treated as sum", factors.mean_for_sum),
    factors.scaled("sum treated as mean", factors.sum_for_mean),
    factors.scaled("wrong ddof", factors.ddof),
    factors.scaled("mean over a broadcast axis", factors.averaged),
    Cause("constant factor", factors.constant),
    Cause("missing sum over a broadcast axis", places.unsummed),
    Cause("transposed operand", places.transposed),
    Cause("wrong shape", places.reshaped),
    Cause("swapped arguments", places.swapped),
    Cause("input and output mistaken", places.mistaken),
    Cause("missing chain factor", factors.chain),
    Cause("inverted mask", places.inverted),
    Cause("shifted by a slice", places.shifted),
    Cause("repeated indices overwrite", places.overwritten),
    Cause("diagonal of the Jacobian only", places.diagonal),
)
