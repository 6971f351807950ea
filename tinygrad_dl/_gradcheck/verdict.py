"""Is an operation's rule right, at its real inputs? Its verdict: right, wrong, kink, random, or not checked.

Rule and kernel are compared along one random direction, in float64: vᵀ(Jᵀg) by the rule, gᵀ(Jv) by a central
difference. Where one step does not settle it, a ladder of steps does (`differences`), one argument at a time.

Matrix products, which are what takes time, are looked at in float32 first. Of a function that is linear in each of two
arguments, a central difference is exact however long the step, so that rounding need not count; that the step be short
is what float64 is for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._tensor import Tensor
from ..graph import Array, is_floating
from .audit import frozen
from .differences import BENT, EPS, TWICE, UNKNOWN, Differences, Slope
from .operation import ALIKE, STEP, Operation, Randomness, changed, half_read, largest
from .sound import unsound

AGREES = 1e-6  # relative: a single step settles it
SINGLE = 3e-6  # the same, in float32
DIFFERS = 1e-5  # relative: beyond it, and beyond what rounding and bending explain, a gradient is wrong
DROWNED = 5e-2  # of the largest: the share of an argument that is looked at by itself
TINY, WIDE = 1e-4, 1e4  # of a step
CLOSER = 2.0**-9  # of a step
VISIBLE = 8.0  # rounding units that a value moves by if it moves
LOUDER = 32.0  # times a step, at most, for an argument whose share would be lost in that of the others

KERNEL_WRITES = "the kernel writes into its arguments; it must make a new array"
RULE_WRITES = "the rule writes into an array that it gets: an argument, the output, a saved value, or the gradient"
CHANGED = "its output is no longer reproduced: an array that it, or an operation before it, reads was overwritten"
RANDOM = "two runs of it give different results"
RANDOM_RULE = "two runs of its rule give different results: it draws random numbers, or keeps state between calls"
FLOAT32 = "it always computes in less than float64, which is not precise enough for finite differences"
KINK = "its slopes on both sides differ at this point, where the gradient is not defined"
OUTSIDE = "its slopes on both sides differ at this point, and the gradient is not between them"


class Verdict(NamedTuple):
    """kind: right, wrong, kink, random or not checked; text: why. analytic and numeric: the derivative for `argument`,
    along a random direction, by the rule and by differences. elements: of the output that are at a kink, of so many
    that were looked at; 0 for all."""

    kind: str
    text: str = ""
    argument: int | None = None
    analytic: float = 0.0
    numeric: float = 0.0
    elements: int = 0
    of: int = 0


def judge(operation: Operation, randomness: Randomness) -> Verdict:
    """The verdict on an operation, which is left recorded, so that those behind it can be judged too."""
    single = operation.single()
    if single is not None and _verdict(single, randomness).kind == "right":
        operation.outputs = single.outputs
        return Verdict("right")
    sample = operation.sample()
    if sample is not None and (found := _verdict(sample, randomness)).kind in ("right", "kink"):
        return found._replace(of=len(sample.outputs[0].data))
    return _verdict(operation, randomness)


def _verdict(operation: Operation, randomness: Randomness) -> Verdict:
    try:
        leaves = operation.record()
    except Exception as error:
        if "read-only" in str(error):
            return Verdict("wrong", KERNEL_WRITES)
        return Verdict("not checked", f"it cannot be run again by itself: {_first_line(error)}")
    try:
        if changed(operation):
            return Verdict("wrong", CHANGED)
        examination = _Examination(operation, leaves, randomness)
        if (text := examination.failure()) is not None:
            return Verdict("wrong", text)
        found = examination.verdict()
        if found.kind in ("right", "kink") and (text := unsound(operation, leaves, examination.weights)) is not None:
            return Verdict("wrong", text)
        return found
    except Exception as error:
        return Verdict("not checked", f"it cannot be run nearby: {_first_line(error)}")


class _Examination:
    """Of an operation along a random direction: `steps` of its live arguments, under incoming gradients `weights`."""

    shares: list[float]  # of each live argument: the change of the output along its step, by the rule

    def __init__(self, operation: Operation, leaves: list[Tensor], randomness: Randomness) -> None:
        self.operation, self.leaves = operation, leaves
        self.centre = [y.data for y in operation.floating]
        self.steps = [randomness.step(operation.args[i], i) for i in operation.live]
        self.weights = [randomness.weights(y.shape, y.dtype) for y in self.centre]

    def failure(self) -> str | None:
        """Run the rule: why that does not work, if so."""
        _freeze(self.operation.outputs)
        try:
            self.shares = self._shares(self.weights)
        except Exception as error:
            return RULE_WRITES if "read-only" in str(error) else f"the rule fails: {error}"
        most = max(map(abs, self.shares), default=0.0)
        for n in self._drowned():
            share = abs(self.shares[n])
            louder = LOUDER if LOUDER * share < most else most / share
            self.steps[n], self.shares[n] = louder * self.steps[n], louder * self.shares[n]
        return None

    def _linear(self) -> bool:
        """Does a long step in float32 show that the rule is right, as it can where the kernel is linear in each of two
        arguments?"""
        differences = self._differences(self.steps)
        return not self._drowned() and self._settled(differences, sum(self.shares), SINGLE, kinks=True)

    def _shares(self, weights: Sequence[Array]) -> list[float]:
        pulled = self.operation.gradients(self.leaves, weights)
        return [0.0 if g is None else float(np.vdot(v, g)) for v, g in zip(self.steps, pulled, strict=True)]

    def verdict(self) -> Verdict:
        if self.operation.precision is np.float32:
            return Verdict("right" if self._linear() else "not checked")
        differences = self._differences(self.steps)
        if self._settled(differences, sum(self.shares)) and all(map(self._settled_alone, self._drowned())):
            return Verdict("right")
        if not all(np.isfinite(values).all() for values in (*self.centre, np.array(self.shares))):
            return Verdict("not checked", "its value or its gradient is not finite")
        if self._coarse(differences):
            wide, share = self._differences([WIDE * step for step in self.steps]), WIDE * sum(self.shares)
            return Verdict("right" if self._settled(wide, share, ALIKE, kinks=True) else "not checked", FLOAT32)
        if self._random():
            return Verdict("random", RANDOM)
        found = self._kink(differences) or self._one_by_one(self.weights)
        return Verdict("random", RANDOM_RULE) if found.kind == "wrong" and self._random_rule() else found

    def _drowned(self) -> list[int]:
        """The live arguments, counted, whose share is lost in that of the others."""
        most = max(map(abs, self.shares), default=0.0)
        return [n for n, share in enumerate(self.shares) if abs(share) < DROWNED * most]

    def _differences(self, steps: Sequence[Array | None]) -> list[tuple[Array, Array]]:
        """Of each output the change from a step behind to one ahead, and the bend between, the second difference."""
        found = []
        outputs = self.operation.along(steps, 1.0), self.operation.along(steps, -1.0)
        for y, ahead, behind in zip(self.centre, *outputs, strict=True):
            bend = ahead + behind
            bend -= y
            bend -= y
            found.append((ahead - behind, bend))
        return found

    def _settled_alone(self, n: int) -> bool:
        steps = [step if k == n else None for k, step in enumerate(self.steps)]
        return self._settled(self._differences(steps), self.shares[n])

    def _settled(
        self,
        differences: Sequence[tuple[Array, Array]],
        analytic: float,
        enough: float = AGREES,
        kinks: bool = False,
    ) -> bool:
        """Does one step show that the rule, by which the outputs change by `analytic`, is right? kinks: do not look
        for them."""
        numeric = size = noise = 0.0
        for y, (change, bend), w in zip(self.centre, differences, self.weights, strict=True):
            moved2, bent2, rounding2 = np.vdot(change, change), np.vdot(bend, bend), (8 * EPS) ** 2 * np.vdot(y, y)
            if not kinks and not bent2 * y.size <= BENT**2 * moved2 + rounding2 * y.size:
                return False
            numeric += float(np.vdot(change, w)) / 2
            size += math.sqrt(moved2) / 2
            noise += math.sqrt(rounding2)
        slack = enough * (abs(analytic) + abs(numeric) + size) + min(noise, enough * size)
        return math.isfinite(slack) and abs(analytic - numeric) <= slack

    def _coarse(self, differences: Sequence[tuple[Array, Array]]) -> bool:
        """Does the kernel compute in less than float64? Then small steps move next to nothing of what they would but
        for float64's own rounding."""
        could, share = [np.abs(change) / 2 for change, _ in differences], TINY
        if not any(change.any() for change in could):
            could, share = self._moves(WIDE), TINY / WIDE
        rounding = self._largest()
        seen = moved = 0
        for change, moves in zip(could, self._moves(TINY), strict=True):
            large = share * change > VISIBLE * EPS * rounding
            seen += int(np.count_nonzero(large))
            moved += int(np.count_nonzero(moves[large]))
        return moved < seen / 4

    def _moves(self, share: float) -> list[Array]:
        """How far this share of a step ahead or back moves each element of the output, whichever is more."""
        outputs = self.operation.along(self.steps, share), self.operation.along(self.steps, -share)
        return [np.maximum(np.abs(up - y), np.abs(down - y)) for y, up, down in zip(self.centre, *outputs, strict=True)]

    def _random(self) -> bool:
        again = self.operation.along([None] * len(self.steps), 0.0)
        return any(
            not np.array_equal(y, z) and largest(z - y) > TWICE * largest(y)
            for y, z in zip(self.centre, again, strict=True)
        )

    def _random_rule(self) -> bool:
        pairs = zip(self.shares, self._shares(self.weights), strict=True)
        return any(abs(a - b) > TWICE * abs(a) for a, b in pairs)

    def _kink(self, differences: Sequence[tuple[Array, Array]]) -> Verdict | None:
        """Without the elements of the output that are at a kink, is the rule right; with them, between the slopes?"""
        low = high = numeric = scale = 0.0
        smooth, elements = [], 0
        closer = self.operation.along(self.steps, CLOSER)
        for y, arrays, near, weight in zip(self.centre, differences, closer, self.weights, strict=True):
            change, bend, w = (a.ravel() for a in (*arrays, weight))
            bent = np.flatnonzero(np.abs(bend) > BENT * largest(change) + 64 * EPS * largest(y))
            # closer by, what is off the line falls with the step at a kink, and with its square elsewhere
            off = np.abs(near.take(bent) - y.take(bent) - CLOSER / 2 * change.take(bent))
            size = CLOSER / 2 * np.abs(bend.take(bent))
            kinked = bent[np.abs(off - size) < BENT * size]
            middle, spread = w.take(kinked) * change.take(kinked) / 2, np.abs(w.take(kinked) * bend.take(kinked)) / 2
            low += float((middle - spread).sum())
            high += float((middle + spread).sum())
            rest = w.copy()
            rest[kinked] = 0.0
            numeric += float(np.vdot(rest, change)) / 2
            scale += math.sqrt(np.vdot(w, w) * np.vdot(change, change)) / 2
            smooth.append(rest.reshape(y.shape))
            elements += kinked.size
        if not elements:
            return None
        analytic, slack = sum(self._shares(smooth)), DIFFERS * (scale + abs(low) + abs(high))
        if abs(analytic - numeric) > slack and (verdict := self._one_by_one(smooth)).kind != "right":
            return verdict
        between = low - slack <= sum(self.shares) - analytic <= high + slack
        return Verdict("kink", KINK, elements=elements) if between else None

    def _one_by_one(self, weights: list[Array]) -> Verdict:
        """With all care, one argument at a time; the gravest."""
        pulled = zip(self.operation.live, self.steps, self.operation.gradients(self.leaves, weights), strict=True)
        verdicts = [self._argument(i, step, g, weights) for i, step, g in pulled]
        return min(verdicts, key=lambda v: ("wrong", "kink", "not checked", "right").index(v.kind))

    def _argument(self, i: int, step: Array, g: Array | None, weights: list[Array]) -> Verdict:
        if half_read(self.operation, i):
            step = step + step.swapaxes(-1, -2)
        slope = self._slope([step if k == i else None for k in self.operation.live], weights)
        analytic = 0.0 if g is None else float(np.vdot(step, g)) / STEP
        numeric, error = float(slope.value.sum()), float(slope.error.sum())
        found = Verdict("wrong", "", i, analytic, numeric)
        if not np.isfinite([numeric, error]).all():
            return found._replace(kind="not checked", text="it is not finite nearby")
        if slope.kinked.any():
            low, high, spread = float(slope.low.sum()), float(slope.high.sum()), float(slope.spread.sum())
            slack = spread + error + DIFFERS * (abs(low) + abs(high))
            kink = low - slack <= analytic <= high + slack
            return found._replace(kind="kink", text=KINK) if kink else found._replace(text=OUTSIDE)
        if abs(analytic - numeric) > DIFFERS * (abs(analytic) + abs(numeric)) + error:
            return found
        if error > UNKNOWN * max(abs(analytic), abs(numeric)) and analytic != numeric:
            return found._replace(kind="not checked", text="rounding hides its derivative")
        return Verdict("right")

    def _slope(self, steps: Sequence[Array | None], weights: list[Array]) -> Slope:
        """The derivative of the weighted outputs along these steps, by as many sizes of them as it takes."""

        def evaluate(_: int, t: Array) -> list[Array]:
            return self.operation.along(steps, float(t[0]) / STEP)

        base, rng = np.zeros(1), np.random.default_rng(0)
        everything = Differences(evaluate, [base], self.centre, weights, self._largest(), STEP, rng, everywhere=True)
        return everything.refine(0, 0)

    def _largest(self) -> float:
        """Of the values that the kernel may meet on the way: its constants are seldom larger than 1."""
        return max(1.0, *map(largest, (*filter(is_floating, self.operation.args), *self.centre)))


def _freeze(outputs: Sequence[Tensor]) -> None:
    """Make what the operation saved and returned read-only, so that a rule that writes to it fails."""
    for y in outputs:
        node: Any = y.node
        if node is not None:
            node.output = frozen(node.output)
            node.operation.saved = _all_frozen(node.operation.saved)


def _all_frozen(saved: Any) -> Any:
    return tuple(map(_all_frozen, saved)) if type(saved) is tuple else frozen(saved)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
