"""A wrong rule under trial: at several random points, with random incoming gradients, is a repaired gradient right?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import unbroadcast
from ..fused import Fused
from ..graph import Array
from .differences import EPS, norm
from .operation import STEP, Operation, Randomness, nearby
from .verdict import Verdict

POINTS = 5  # where a repair must hold
ATTEMPTS = 12  # at finding them
HOLDS = 1e-5  # relative: a repaired gradient is right
REACHES = (1e-4, 1e-2)  # of the size of each element: the step of the differences, and one where rounding hides it
KNOWN = 1e-3  # relative: a derivative known less sharply proves nothing


@dataclass(eq=False)
class Trial:
    """The rule for argument i at one point. slope: the derivative along `step` by differences."""

    operation: Operation
    i: int
    output: int  # which of the operation's floating outputs
    args: list[Any]
    outputs: list[Array]
    g: Array
    step: Array
    slope: float = 0.0
    error: float = 0.0

    @property
    def x(self) -> Array:
        array: Array = self.args[self.i]
        return array

    @property
    def y(self) -> Array:
        return self.outputs[self.output]

    @cached_property
    def got(self) -> Array:
        """What the rule answers; not always of the argument's shape."""
        return self.rule()

    def rule(
        self,
        g: Array | None = None,
        y: Array | None = None,
        args: list[Any] | None = None,
        i: int | None = None,
        given: dict[str, Any] | None = None,
    ) -> Array:
        """The answer of the rule (of that for argument i, if given) to other things than these. It gets copies, so it
        may write into them; they are left in `given`, by name."""
        op, i = self.operation.op, self.i if i is None else i
        given = {} if given is None else given
        self.prepare(g, y, args, given)
        args = [value for name, value in given.items() if name.startswith("argument")]
        incoming, y, saved = (given[name] for name in ("the incoming gradient", "the output", "what the forward saved"))
        wanted = self.operation.live if isinstance(op, Fused) else [i]
        result = op.vjp(incoming, y, saved, args, self.operation.static, wanted)[i]
        if result is None:
            return np.zeros(self.x.shape)
        result = np.asarray(result)
        fits = op.elementwise and result.ndim >= self.x.ndim
        return np.asarray(unbroadcast(result, self.x.shape)) if fits else result

    def prepare(
        self, g: Array | None = None, y: Array | None = None, args: list[Any] | None = None, given: Any = None
    ) -> None:
        """Put into `given` copies of what the rule is called with, by name."""
        incoming = np.array(self.g if g is None else g)
        several = [incoming if j == self.output else None for j in range(len(self.outputs))]
        given["the incoming gradient"] = incoming if len(several) == 1 else tuple(several)
        given["the output"] = np.array(self.y if y is None else y)
        args = [np.array(a) if isinstance(a, np.ndarray) else a for a in (self.args if args is None else args)]
        given |= {f"argument {k}": a for k, a in enumerate(args)}
        op = self.operation.op
        given["what the forward saved"] = op.forward(*args, **self.operation.static)[1] if op.forward else None

    def agrees(self, gradient: Any, factor: float = 1.0) -> bool:
        """Is this the derivative, along this trial's direction?"""
        if gradient is None or np.shape(gradient) != self.x.shape or np.iscomplexobj(gradient):
            return False
        found = factor * float(np.vdot(self.step, gradient))
        return abs(found - self.slope) <= HOLDS * (abs(found) + abs(self.slope)) + self.error

    def column(self, k: int) -> Array:
        """The derivative of each element of the output by element k of the argument."""
        h = STEP * (abs(float(self.x.flat[k])) or 1.0)
        moved = []
        for t in (h, -h):
            array = np.array(self.x)
            array.flat[k] += t
            moved.append(self.operation.values([*self.args[: self.i], array, *self.args[self.i + 1 :]])[self.output])
        return np.asarray((moved[0] - moved[1]) / (2 * h))


Repair = Callable[[Trial], Any]  # a gradient for the argument, or None where it does not apply


class Cause(NamedTuple):
    """A row of the catalogue. test: what is wrong, in words, or None."""

    name: str
    test: Callable[[Suspect], str | None]


class Suspect:
    """The rule for argument i of an operation, with trials of it."""

    def __init__(self, operation: Operation, i: int, output: int, verdict: Verdict) -> None:
        self.operation, self.i, self.output, self.verdict = operation, i, output, verdict

    @cached_property
    def trials(self) -> list[Trial]:
        rng = np.random.default_rng([self.i, self.output])
        found = (trial for _ in range(ATTEMPTS) if (trial := self._trial(rng)) is not None)
        return list(islice(found, POINTS))

    def _trial(self, rng: np.random.Generator) -> Trial | None:
        operation, i = self.operation, self.i
        args = [nearby(a, rng) if k in operation.live else a for k, a in enumerate(operation.args)]
        randomness = Randomness(int(rng.integers(2**31)))
        step = randomness.step(args[i], i) / STEP
        try:
            outputs = operation.values(args)
            g = randomness.weights(outputs[self.output].shape, np.float64)
            trial = Trial(operation, i, self.output, args, outputs, g, step)
            known = any(self._measure(trial, h) for h in REACHES)
        except Exception:
            return None  # outside of the kernel's domain
        return trial if known else None

    def _measure(self, trial: Trial, h: float) -> bool:
        """Take the derivative by differences. Is it known?"""
        near, far = self._rate(trial.args, trial.step, h), self._rate(trial.args, trial.step, 2 * h)
        first, second = float(np.sum(trial.g * near)), float(np.sum(trial.g * far))
        trial.slope = (4 * first - second) / 3  # Richardson's
        trial.error = abs(first - second) / 4 + 8 * EPS * norm(trial.y) / h
        return trial.error <= KNOWN * max(abs(trial.slope), norm(near))

    def _rate(self, args: list[Any], step: Array, h: float) -> Array:
        """The derivative of each element of the output along the step, by a central difference."""
        x, i = args[self.i], self.i
        up, down = (self.operation.values([*args[:i], x + t * step, *args[i + 1 :]])[self.output] for t in (h, -h))
        return np.asarray((up - down) / (2 * h))

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the argument and the output."""
        return self.trials[0].x.shape, self.trials[0].y.shape

    def arrays(self, kinds: str) -> list[int]:
        """The positions of the arguments that are arrays of these kinds."""
        return [k for k, a in enumerate(self.operation.args) if isinstance(a, np.ndarray) and a.dtype.kind in kinds]

    @cached_property
    def wrong(self) -> bool:
        """Is the rule wrong at any of the points?"""
        return bool(self.trials) and not self.holds(lambda t: t.got)

    def holds(self, repair: Repair, factor: float = 1.0) -> bool:
        """Is the repaired gradient right in every trial?"""
        return bool(self.trials) and all(t.agrees(_tried(repair, t), factor) for t in self.trials)

    def factor(self, repair: Repair) -> float | None:
        """The constant that makes the repaired gradient right in every trial."""
        ratios = []
        for trial in self.trials:
            gradient = _tried(repair, trial)
            if gradient is None or np.shape(gradient) != trial.x.shape:
                return None
            ratios.append((abs(trial.slope), trial.slope / (float(np.vdot(trial.step, gradient)) or np.inf)))
        constant = max(ratios, default=(0.0, 0.0))[1]
        return constant if constant and self.holds(repair, constant) else None


def suspects(operation: Operation, verdict: Verdict) -> Iterator[Suspect]:
    """The rules of an operation that are wrong, each for the first output in which it is."""
    for i in operation.live:
        found = (Suspect(operation, i, j, verdict) for j in range(len(operation.values(operation.args))))
        yield from islice((s for s in found if s.wrong), 1)


def _tried(repair: Repair, trial: Trial) -> Any:
    try:
        return repair(trial)
    except Exception:
        return None  # it does not fit these shapes
