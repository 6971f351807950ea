"""Derivatives by differences that know their own error.

A central difference over a step h is off by about h² f‴/6, because f bends, and by noise/h, because f is
rounded. The noise is measured, from differences of high order (Moré and Wild, Estimating computational
noise, SIAM J. Sci. Comput. 33, 2011). Where one step does not settle the matter a ladder of steps does: its
best rung gives the derivative, and one-sided slopes that stay apart as h shrinks betray a kink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import NamedTuple

import numpy as np

from ..graph import Array

EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)
TWICE = 1e-12  # relative: answers further apart are two answers
BENT = 1e-3  # relative: slopes to both sides that differ by more may be those of a kink
UNKNOWN = 0.1  # relative: a derivative known less sharply is not known
SAFETY = 8.0  # standard deviations of rounding noise that a difference may be off by
COARSE = 2.0**-30  # of the largest value on the way: noise that is not float64's
FOREIGN = 64.0  # rounding units: more noise than this comes from larger values on the way, alike for all elements
DROWNED = 2.0**-10  # of a value: noise that leaves little of it
STEEPER = 7.0  # times, from a step to one of an eighth: a jump
RUNGS = -6, 4  # of the ladder: first step times 8 to this power


def norm(values: Array) -> float:
    """The Euclidean norm, where squares would overflow too."""
    peak = float(np.max(abs(values), initial=0.0))
    return peak * float(np.linalg.norm(values / peak)) if 0 < peak < np.inf else peak


class Rates(NamedTuple):
    """Derivatives of the elements of an output along one element of an argument: each field of the output's shape."""

    value: Array
    doubt: Array  # how far off rounding may have put it
    low: Array  # the smaller and the larger of the slopes to both sides
    high: Array


class Slope(NamedTuple):
    """The derivative of every output's weighted sum along one element; each field has one value per output."""

    value: Array
    error: Array  # how far off rounding and bending may have put it
    low: Array  # the least and the greatest that one-sided slopes of the output's elements add up to
    high: Array
    spread: Array  # how far rounding alone may put these two apart
    step: Array
    kinked: Array


class Differences:
    """Numeric derivatives of `evaluate(argument, array)`, the outputs with one argument replaced.

    bases: the arguments; centre: the outputs there; weights: each output's cotangent; largest: of all values that
    evaluate computes; eps: the step, relative to the element's size, or absolute for elements below 1; everywhere:
    does each element of the outputs depend on each of an argument, so that rounding has swallowed what does not move?
    """

    def __init__(
        self,
        evaluate: Callable[[int, Array], Sequence[Array]],
        bases: Sequence[Array],
        centre: Sequence[Array],
        weights: Sequence[Array],
        largest: float,
        eps: float,
        rng: np.random.Generator,
        everywhere: bool = False,
    ) -> None:
        self.evaluate, self.bases, self.centre, self.weights = evaluate, bases, centre, weights
        self.largest, self.eps, self.everywhere = largest, eps, everywhere
        measured = [self._noise(i, rng) for i in range(len(bases))]
        # per argument and output: the least of three measurements, of each element (bending, and a kink in the way,
        # look like noise), and whether the middle one is more than float64 has
        self.noise = [[three[0] for three in row] for row in measured]
        self.coarse = [[bool(np.max(three[1], initial=0) > COARSE * largest) for three in row] for row in measured]

    def _noise(self, i: int, rng: np.random.Generator) -> list[list[Array]]:
        """The standard deviation of rounding in each element of each output while argument i moves: measured three
        times, the least first."""
        base = self.bases[i]
        if not base.size:
            return [[EPS * abs(y)] * 3 for y in self.centre]
        size = np.where(base, abs(base), norm(base) / np.sqrt(base.size) or 1.0)
        found = []
        # f that bends needs small samples, float32 inside shows in large ones
        for reach in (np.maximum(1.0, abs(base)) / 10, size / 1e2, size / 1e6):
            direction = self.eps * reach * rng.choice([-1.0, 1.0], base.shape)
            samples = [self.evaluate(i, base + t * direction) for t in range(1, 8)]
            outputs = zip(zip(*samples, strict=True), self.weights, strict=True)
            found.append([_scatter(np.stack(values), w, self.largest) for values, w in outputs])
        return [sorted(three, key=norm) for three in zip(*found, strict=True)]

    def imprecise(self, i: int, j: int) -> bool:
        """Is there more noise in output j than float64 has?"""
        return bool(np.max(self.noise[i][j], initial=0.0) > COARSE * self.largest)

    def step(self, i: int, k: int) -> float:
        """The first step for element k of argument i."""
        return self.eps * max(1.0, abs(float(self.bases[i].flat[k])))

    def rates(self, i: int, k: int, h: float) -> list[Rates]:
        """Of every element of every output along element k of argument i, by one step."""
        x = self.bases[i].flat[k]
        moved = []
        for value in (x + h, x - h):
            array = self.bases[i].copy()
            array.reshape(-1)[k] = value
            moved.append(self.evaluate(i, array))
        right, left = float((x + h) - x), float(x - (x - h))  # as they came out in floating point
        found = []
        for y, noise, up, down in zip(self.centre, self.noise[i], *moved, strict=True):
            ahead, behind = (up - y) / right, (y - down) / left
            noise = np.maximum(noise, EPS * np.maximum(abs(up), abs(down)))
            # where nothing moves, the rounding of any value on the way may have swallowed the change
            noise = np.where(up == down, np.maximum(noise, EPS * self.largest), noise)
            low, high = np.minimum(ahead, behind), np.maximum(ahead, behind)
            found.append(Rates((up - down) / (right + left), SAFETY * noise / (right + left), low, high))
        return found

    def slope(self, i: int, k: int, h: float) -> Slope:
        """Of every output's weighted sum, by one step."""
        return self._summed([(h, self.rates(i, k, h))])[0]

    def _ladder(self, i: int, k: int, first: float, low: int) -> list[Slope]:
        steps = [first * 8.0**power for power in range(low, RUNGS[1] + 1)]
        return self._summed([(h, self.rates(i, k, h)) for h in steps])

    def _summed(self, ladder: Sequence[tuple[float, Sequence[Rates]]]) -> list[Slope]:
        """Of every output's weighted sum, by the rates for each step."""
        found = []
        outputs = zip(*(rates for _, rates in ladder), strict=True)
        moving = [np.logical_or.reduce([rates.value != 0 for rates in rungs]) for rungs in outputs]
        for h, several in ladder:
            rows = []
            for rates, w, moves in zip(several, self.weights, moving, strict=True):
                doubt = abs(w) * rates.doubt
                if not self.everywhere and moves.any():  # what does not depend on x has no noise
                    doubt = doubt[moves]
                low, high = np.minimum(w * rates.low, w * rates.high), np.maximum(w * rates.low, w * rates.high)
                error = max(norm(doubt), TINY)
                rows.append((np.sum(w * rates.value), error, low.sum(), high.sum(), 2 * doubt.sum(), h))
            found.append(Slope._make([*np.array(rows, dtype=np.float64).T, np.zeros(len(rows), dtype=bool)]))
        return found

    def refine(self, i: int, k: int) -> Slope:
        """By a ladder of steps: the rung with the least error, and whether there is a kink."""
        first, x = self.step(i, k), abs(float(self.bases[i].flat[k]))
        low = RUNGS[0] if x == 0 else max(-14, min(RUNGS[0], int(np.log2(x) / 3)))  # down to eps·|x|, of a small x
        rungs = self._ladder(i, k, first, low)
        usable = [rung for rung in rungs if np.isfinite(rung.value).all()]
        if len(usable) < 2 and x:  # of an x so small that these steps lead out of the domain
            low = RUNGS[0]
            rungs = self._ladder(i, k, self.eps * x, low)
            usable = [rung for rung in rungs if np.isfinite(rung.value).all()]
        if len(usable) < 2:
            return rungs[0]
        value, error = np.stack([r.value for r in usable]), np.stack([r.error for r in usable])
        apart = abs(np.diff(value, axis=0))
        # on the lowest rungs that is noise, more perhaps than was measured, if it falls, as 1/h
        lowest = np.max((apart / (error[1:] + error[:-1]))[:3], axis=0, where=apart[:3] < 4 * apart[:1], initial=0.0)
        error = error * np.maximum(1.0, lowest)
        # above them, what noise does not explain is the bending of f, which any higher rung suffers from as well
        bend = np.maximum.accumulate(np.maximum(0.0, apart - error[1:] - error[:-1]), axis=0)
        doubt = bend / 8 + error[:-1]
        best, outputs = doubt.argmin(axis=0), np.arange(value.shape[1])
        near, far = value[best, outputs], value[best + 1, outputs]
        error = doubt[best, outputs] + error[best + 1, outputs] / 63
        steps = np.stack([r.step for r in usable])[best, outputs]
        extrapolated = (64 * near - far) / 63  # Richardson's: it takes the h² term away
        sides, kinked = _kinks(rungs[: 1 - low])
        return sides._replace(value=extrapolated, error=error, step=steps, kinked=kinked)


def _jumps(rungs: Sequence[Slope]) -> Array:
    """Which outputs change as much however short the step, so that their slope is none."""
    value, error = np.stack([r.value for r in rungs]), np.stack([r.error for r in rungs])
    steeper = np.abs(value[:-1]) > STEEPER * np.abs(value[1:])
    found: Array = np.all(steeper & (np.abs(value[:-1]) > error[:-1] / DROWNED), axis=0)
    return found


def _kinks(rungs: Sequence[Slope]) -> tuple[Slope, Array]:
    """Which outputs have one-sided slopes that stay apart while h shrinks to where rounding hides them, or jump; and
    the slopes there, any of which a jump may have."""
    low, high, spread = (np.stack([getattr(r, name) for r in rungs]) for name in ("low", "high", "spread"))
    gap = high - low
    seen = spread < gap[-1] / 10
    shrinks = seen & (gap < np.concatenate([gap[1:], gap[-1:]]) / 2)
    apart = np.where(seen, gap, np.inf).min(axis=0) > gap[-1] / 2
    kinked = (seen[:-1].sum(axis=0) > 1) & apart & ~shrinks.any(axis=0)
    at, outputs = seen.argmax(axis=0), np.arange(gap.shape[1])
    jumps = _jumps(rungs)
    lowest, highest = np.where(jumps, -np.inf, low[at, outputs]), np.where(jumps, np.inf, high[at, outputs])
    return rungs[-1]._replace(low=lowest, high=highest, spread=spread[at, outputs]), kinked | jumps


def _scatter(samples: Array, weights: Array, largest: float) -> Array:
    """The noise in equally spaced samples of a smooth function; where they are all equal, as much as the rounding
    of the largest value on the way may have swallowed."""
    peak = abs(samples).max(axis=0)
    unit = EPS * norm((weights * peak)[np.ptp(samples, axis=0) != 0])
    if not 0 < unit < np.inf:
        return np.full(peak.shape, EPS * largest)
    found = []
    for order in range(2, 6):
        differences = np.diff(samples, order, axis=0)
        found.append(abs(differences).max(axis=0) / np.sqrt(comb(2 * order, order)))
    noise: Array = min(found, key=lambda deviation: norm(weights * deviation))
    ratio = norm(weights * noise) / unit
    if ratio > FOREIGN:
        noise = np.maximum(noise, norm(noise) / np.sqrt(np.count_nonzero(noise)))
    noise = np.maximum(noise, EPS * peak * max(1.0, ratio))
    return noise if ratio * EPS < DROWNED else np.maximum(noise, EPS * largest)  # what is 0 but for noise has no size
