"""The checked elements of one argument: which of their derivatives are right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..graph import Array
from .differences import BENT, UNKNOWN, Differences, Rates, Slope, norm
from .report import VERDICTS, Index

RESOLVED = 1e-4  # relative: an argument whose gradient is known less sharply is looked at again, with other steps
NOTHING = 2.0**-38  # of the largest value on the way: a derivative that is zero but for rounding
AGAIN = 8  # elements looked at again
SINGLY = 256  # elements of an output that are looked at one by one

# of (argument, its element, output): the derivatives by backward, by the output's element
Singly = Callable[[int, int, int], Callable[[int], float]]


class Culprit(NamedTuple):
    """Where an output's derivative goes wrong: in one of its elements, or (None) in their weighted sum."""

    place: Index | None
    analytic: float
    numeric: float
    low: float  # the slopes to both sides
    high: float


class Entries:
    """Arrays of (element of argument i, output). `analytic` has the gradients of the weighted outputs."""

    def __init__(
        self,
        differences: Differences,
        i: int,
        picks: Array,
        analytic: Sequence[Array | None],
        rtol: float,
        singly: Singly,
    ) -> None:
        self.differences, self.i, self.picks, self.rtol, self.singly = differences, i, picks, rtol, singly
        columns = [np.zeros(len(picks)) if g is None else g.reshape(-1)[picks] for g in analytic]
        self.analytic = np.stack(columns, axis=1)
        shape = self.analytic.shape
        self.value, self.error, self.low, self.high, self.spread, self.step = (np.zeros(shape) for _ in range(6))
        self.kinked, self.settled = np.zeros(shape, dtype=bool), np.zeros(len(picks), dtype=bool)
        self.culprits: dict[tuple[int, int], Culprit] = {}
        for r, k in enumerate(picks):
            self._put(r, differences.slope(i, k, differences.step(i, k)))
        if len(picks):
            self._settle_doubts()
            self._sharpen()

    def _put(self, r: int, slope: Slope) -> None:
        for name, new in slope._asdict().items():
            getattr(self, name)[r] = new

    def _settle(self, r: int) -> None:
        """Look at an element again, with other steps, and find out which element of an output goes wrong."""
        if self.settled[r]:
            return
        self.settled[r] = True
        k = int(self.picks[r])
        self._put(r, self.differences.refine(self.i, k))
        for j in range(len(self.value[r])):
            if self.verdict(r, j) in ("wrong", "kink"):
                culprit = self._search(r, j)
                if culprit is None:  # rounding explains it
                    self.error[r, j] = abs(self.analytic[r, j] - self.value[r, j])
                else:
                    self.culprits[r, j] = culprit

    def off(self) -> Array:
        """Where analytic and numeric differ by more than rtol and what is explained."""
        size = abs(self.analytic) + abs(self.value)
        return ~(abs(self.analytic - self.value) <= self.rtol * size + self.error) | ~np.isfinite(size)

    def _settle_doubts(self) -> None:
        """Settle what one step leaves in doubt; one wrong element of each output is enough."""
        bent = self.high - self.low > BENT * np.max(abs(self.value), axis=0) + 2 * self.spread
        distance = np.nan_to_num(abs(self.analytic - self.value), nan=np.inf).max(axis=1)
        unblamed = np.ones(len(bent[0]), dtype=bool)
        for r in np.argsort(-distance, kind="stable"):
            if ((self.off() | bent)[r] & unblamed).any():
                self._settle(r)
                unblamed &= np.array([self.verdict(r, j) != "wrong" for j in range(len(unblamed))])

    def _sharpen(self) -> None:
        """Settle some elements where rounding hides too much of a gradient: the largest, and of those that it hides
        altogether rather one that is settled for another output."""
        size = abs(self.analytic) + abs(self.value)
        seen = np.where(size > self.error, size, 0.0)
        for j in range(size.shape[1]):
            if norm(self.error[:, j]) > RESOLVED * norm(size[:, j]):
                for r in np.lexsort((~self.settled, -seen[:, j]))[:AGAIN]:
                    self._settle(r)

    def verdict(self, r: int, j: int) -> str:
        """On one element that was looked at again."""
        analytic, value, error = self.analytic[r, j], self.value[r, j], self.error[r, j]
        if not np.isfinite(analytic) or not np.isfinite(value):
            return "non-finite"
        if self.kinked[r, j]:
            slack = self.spread[r, j] + self.rtol * (abs(self.low[r, j]) + abs(self.high[r, j]))
            return "kink" if self.low[r, j] - slack <= analytic <= self.high[r, j] + slack else "wrong"
        if self.off()[r, j]:
            return "wrong"
        size = abs(analytic) * self.differences.step(self.i, int(self.picks[r])) / self.differences.eps
        unknown = error > UNKNOWN * np.max(abs(self.analytic[:, j])) and size > NOTHING * self.differences.largest
        return "imprecise" if unknown else "passed"

    def worst(self, j: int) -> tuple[int, str]:
        """The element with the gravest verdict, and of those the one that differs most."""
        verdicts = [self.verdict(r, j) if self.settled[r] else "passed" for r in range(len(self.picks))]
        distance = np.nan_to_num(abs(self.analytic - self.value)[:, j], nan=np.inf)
        r = max(range(len(verdicts)), key=lambda r: (VERDICTS.index(verdicts[r]), distance[r]))
        return r, verdicts[r]

    def ratio(self, j: int) -> float:
        """‖numeric - analytic‖ / (‖numeric‖ + ‖analytic‖ + ‖error‖ / rtol), and 0 for a gradient that is zero but
        for the error."""
        analytic, value, error = self.analytic[:, j], self.value[:, j], norm(self.error[:, j])
        if not np.isfinite(analytic).all() or not np.isfinite(value).all():
            return float("inf")
        size = norm(analytic) + norm(value)
        return norm(value - analytic) / (size + error / self.rtol) if size > 2 * error else 0.0

    def culprit(self, r: int, j: int) -> Culprit:
        """Where in output j the derivative is what it should not be; of a one-element output, the derivative."""
        weights = self.differences.weights[j]
        w = weights.item() if weights.size == 1 else 1.0
        low, high = sorted((self.low[r, j] / w, self.high[r, j] / w))
        whole = Culprit(None, self.analytic[r, j] / w + 0.0, self.value[r, j] / w + 0.0, low, high)
        return self.culprits.get((r, j), whole)

    def _search(self, r: int, j: int) -> Culprit | None:
        """Look at the elements of output j one by one. None: rounding swallowed what small changes do to large
        elements (a softmax adds up to 1), and each element by itself is right."""
        k, w = int(self.picks[r]), self.differences.weights[j].reshape(-1)
        if w.size == 1:
            return self.culprit(r, j)
        rates = Rates(*(f.reshape(-1) for f in self.differences.rates(self.i, k, float(self.step[r, j]))[j]))
        kink, error = bool(self.kinked[r, j]), self.error[r, j]
        e = np.argsort(rates.low - rates.high if kink else -abs(rates.value), kind="stable")[: 1 if kink else SINGLY]
        derivative = self.singly(self.i, k, j)
        analytic, numeric = np.array([derivative(int(n)) for n in e]), rates.value[e]
        off = abs(analytic - numeric) - self.rtol * abs(analytic) - rates.doubt[e] - error / abs(w[e])
        n = int(off.argmax())
        if kink or not off[n] <= 0:
            index = tuple(int(m) for m in np.unravel_index(e[n], self.differences.centre[j].shape))
            return Culprit(index, analytic[n], numeric[n], rates.low[e[n]], rates.high[e[n]])
        rest = self.analytic[r, j] - w @ rates.value - w[e] @ (analytic - numeric)  # of what was not looked at
        swallowed = norm(w * rates.doubt) + self.rtol * (abs(w[e]) @ abs(analytic)) + error
        return None if abs(rest) <= swallowed else self.culprit(r, j)
