"""The scales on which hyperparameters are searched, and the space that they span together.

A learning rate is searched by its exponent, a momentum by the exponent of 1 - β: what matters is how many values
are averaged, 1 / (1 - β). In Optuna's study such a parameter is called `1 - name`, so that any sampler sees its scale.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._source import describe
from ._optuna import needed

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Scale:
    """A range of numbers, or a choice of things; made by the functions below."""

    kind: str
    low: Any = None
    high: Any = None
    choices: tuple[Any, ...] = ()

    def key(self, name: str) -> str:
        """The parameter's name in Optuna's study."""
        return f"1 - {name}" if self.kind == "one_minus_log" else name

    def inner(self, value: Any) -> Any:
        """What Optuna knows of a value."""
        return 1 - value if self.kind == "one_minus_log" else value

    def outer(self, inner: Any) -> Any:
        """The value that Optuna's stands for."""
        return min(max(1 - inner, self.low), self.high) if self.kind == "one_minus_log" else inner

    def distribution(self) -> BaseDistribution:
        """The scale as a distribution of Optuna's."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.choices)
        if self.kind == "integer":
            return distributions.IntDistribution(self.low, self.high)
        return distributions.FloatDistribution(*self._ends(), log=self.kind != "uniform")

    def suggest(self, trial: Trial, name: str) -> Any:
        """The value that an Optuna trial has for the parameter."""
        key = self.key(name)
        if self.kind == "choice":
            return trial.suggest_categorical(key, self.choices)
        if self.kind == "integer":
            return trial.suggest_int(key, self.low, self.high)
        low, high = self._ends()
        return self.outer(trial.suggest_float(key, low, high, log=self.kind != "uniform"))

    def _ends(self) -> tuple[float, float]:
        """Of what Optuna knows of a float."""
        return (1 - self.high, 1 - self.low) if self.kind == "one_minus_log" else (self.low, self.high)

    def __contains__(self, value: Any) -> bool:
        if self.kind == "choice":
            return value in self.choices
        return _is_number(value, integer=self.kind == "integer") and bool(self.low <= value <= self.high)

    def __repr__(self) -> str:
        """As it was written."""
        if self.kind == "choice":
            return f"choice({', '.join(map(repr, self.choices))})"
        return f"{self.kind}({self.low!r}, {self.high!r})"


Space = Mapping[str, Scale]


def log_uniform(low: float, high: float) -> Scale:
    """10^r with r uniform, from low to high: learning rates `log_uniform(1e-4, 1)`, weight decay.

    Raises ValueError unless 0 < low <= high < infinity."""
    return _floats("log_uniform", low, high, "0 < low <= high", lambda: low > 0)


def one_minus_log(low: float, high: float) -> Scale:
    """1 - 10^r with r uniform, from low to high: a momentum `one_minus_log(0.9, 0.999)` has r in [-3, -1].

    Raises ValueError unless low <= high < 1."""
    return _floats("one_minus_log", low, high, "low <= high < 1", lambda: high < 1)


def uniform(low: float, high: float) -> Scale:
    """A uniform value from low to high: a dropout probability. Raises ValueError unless low <= high."""
    return _floats("uniform", low, high, "low <= high", lambda: True)


def integer(low: int, high: int) -> Scale:
    """A uniform integer from low to high, both included: hidden units, layers.

    Raises TypeError for anything but integers, ValueError unless low <= high."""
    for value in (low, high):
        if not _is_number(value, integer=True):
            raise TypeError(f"integer: expected integers, got {value!r}")
    if low > high:
        raise ValueError(f"integer: expected low <= high, got {low} and {high}")
    return Scale("integer", int(low), int(high))


def choice(*values: Any) -> Scale:
    """One of the values, with equal probability: strings, numbers, booleans or None, which every storage can save.

    Raises TypeError for values of other types (use names for them), ValueError for no values, or one given twice."""
    for value in values:
        if not isinstance(value, str | int | float | bool | None):
            raise TypeError(
                f"choice: expected strings, numbers, booleans or None, got {describe(value)}; choose a name"
            )
    if not values or len(set(values)) != len(values):  # 1, 1.0 and True are one value to the storage
        raise ValueError(f"choice: expected different values, at least one, got {values!r}")
    return Scale("choice", choices=values)


def _floats(kind: str, low: Any, high: Any, expected: str, fits: Callable[[], bool]) -> Scale:
    for value in (low, high):
        if not _is_number(value):
            raise TypeError(f"{kind}: expected numbers, got {value!r}")
    if not (low <= high and math.isfinite(low) and math.isfinite(high) and fits()):
        raise ValueError(f"{kind}: expected {expected}, both finite, got {low} and {high}")
    return Scale(kind, float(low), float(high))


def _is_number(value: Any, integer: bool = False) -> bool:
    kinds: Any = int | np.integer if integer else int | float | np.integer | np.floating
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_space(space: Any) -> None:
    """Raises TypeError for what is no dict of scales by name, ValueError for an empty one."""
    if not isinstance(space, Mapping):
        raise TypeError(f'search: space: expected a dict such as {{"lr": log_uniform(1e-4, 1)}}, got {describe(space)}')
    if not space:
        raise ValueError("search: space: expected at least one parameter, got none")
    for name, scale in space.items():
        if not isinstance(name, str) or not isinstance(scale, Scale):
            raise TypeError(
                f"search: space: {name!r}: expected a scale (log_uniform, one_minus_log, uniform, integer, choice) "
                f"under a name, got {describe(scale)}"
            )


def check_point(space: Space, point: Any, where: str) -> None:
    """Raises KeyError for a point with other parameters than the space, ValueError for a value outside it."""
    if not isinstance(point, Mapping) or set(point) != set(space):
        got = sorted(point) if isinstance(point, Mapping) else describe(point)
        raise KeyError(f"{where}: expected the parameters {sorted(space)}, got {got}")
    for name, value in point.items():
        if value not in space[name]:
            raise ValueError(f"{where}: {name} = {value!r} is outside {space[name]!r}")


def grid(space: Space, points: int | Mapping[str, int] = 5) -> list[dict[str, Any]]:
    """All combinations of so many values of each parameter, evenly spaced on its scale, both ends included.

    points: one number, or one for each parameter by name; a choice always contributes all its values.
    Give the grid to `search` as its `trials`.
    Raises KeyError for an unknown or missing parameter, ValueError for fewer than one point."""
    needed()
    from .samplers import at

    check_space(space)
    counts = points if isinstance(points, Mapping) else dict.fromkeys(space, points)
    if set(counts) != set(space):
        raise KeyError(f"grid: points: expected the parameters {sorted(space)}, got {sorted(counts)}")
    columns = []
    for name, scale in space.items():
        n = len(scale.choices) or counts[name]
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"grid: points: expected at least one of {name}, got {n!r}")
        places = [i / (n - 1) for i in range(n)] if n > 1 else [0.5]
        values = [scale.outer(at(scale.distribution(), u)) for u in places]
        columns.append(sorted(set(values)) if not scale.choices else list(scale.choices))
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*columns)]
