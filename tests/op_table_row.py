"""The form of a row of the op table, seeded samples away from kinks, and references on Python and mpmath numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any

import mpmath
import numpy as np

from tinygrad_dl.primitive import ANSWERS, Primitive

RNG = np.random.default_rng(0)
Draw = Callable[..., np.ndarray]  # (*shape, rng=) -> a sample


@dataclass(frozen=True, eq=False)
class Row:
    """An operation, a sample to call it with, and what it should answer.

    args: for an elementwise operation a `Draw` per array, so that it can be tried in other shapes; else arrays,
        nested in lists and tuples as NumPy takes them. Floating arrays are differentiated by. What is no array is
        static.
    reference: the same call on ndarrays, by other means; None for a composite means NumPy's own function.
    before: brings arguments into the op's domain.
    keeps_dtype: is the result of float32 float32? half: does it take float16? detached: has it, on purpose, no
        gradient although its value changes with its arguments?
    """

    op: Callable[..., Any]
    args: tuple[Any, ...]
    reference: Callable[..., Any] | None = None
    static: dict[str, Any] = field(default_factory=dict)
    before: Callable[[Any], Any] = lambda x: x
    keeps_dtype: bool = True
    half: bool = True
    detached: bool = False

    @property
    def elementwise(self) -> bool:
        return any(map(isfunction, self.args))

    @property
    def numpy(self) -> list[Callable[..., Any]]:
        """NumPy's functions that reach the operation."""
        return [f for f, op in ANSWERS.items() if op is self.op]

    @property
    def name(self) -> str:
        place = getattr(next(iter(self.numpy), self.op), "__module__", "").rpartition(".")[2]
        return self.op.__name__ if place in ("", "numpy", "primitive") else f"{place}.{self.op.__name__}"

    def sample(self, *shapes: tuple[int, ...]) -> tuple[Any, ...]:
        """Arguments; those of an elementwise operation in the given shapes, in turn."""
        shapes = shapes or ((2, 2),)

        def drawn(draw: Draw, i: int) -> np.ndarray:
            return draw(*shapes[i % len(shapes)], rng=np.random.default_rng(i))

        return tuple(drawn(a, i) if isfunction(a) else a for i, a in enumerate(self.args))

    def call(self, args: tuple[Any, ...], function: Callable[..., Any] | None = None) -> Any:
        """The operation, or another function, on arguments."""
        return (function or self.op)(*map(self.before, args), **self.static)

    def expected(self, args: tuple[Any, ...]) -> Any:
        if self.reference is None:
            assert not isinstance(self.op, Primitive), f"{self.name}: the kernel's own function is no reference"
        return self.call(args, self.reference or self.numpy[0])


def rows(*table: tuple[Any, ...]) -> list[Row]:
    """Rows from `(op, reference, *args)` or, with keywords, `(op, reference, *args, dict)`."""
    return [Row(t[0], t[2:-1], t[1], t[-1]) if isinstance(t[-1], dict) else Row(t[0], t[2:], t[1]) for t in table]


# samples


def frozen(array: Any) -> np.ndarray:
    array = np.asarray(array)
    array.flags.writeable = False
    return array


def positive(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(rng.uniform(0.3, 1.7, shape))


def real(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(rng.uniform(0.3, 1.7, shape) * rng.choice([-1, 1], shape))


def inside(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    """Between -1 and 1."""
    return frozen(real(*shape, rng=rng) / 2)


def above(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    """More than 1, and than what `real` gives."""
    return frozen(positive(*shape, rng=rng) + 1.6)


def below(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(-above(*shape, rng=rng))


def fraction(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    """Away from integers and halves."""
    return frozen(rng.integers(-3, 3, shape) + rng.choice([0.0, 0.5], shape) + rng.uniform(0.1, 0.4, shape))


def integer(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(rng.integers(1, 6, shape))


def boolean(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(rng.choice([False, True], shape))


def special(*shape: int, rng: np.random.Generator = RNG) -> np.ndarray:
    return frozen(rng.choice([np.nan, np.inf, -np.inf, -0.0, 1.5], shape))


# references


def weights(array: np.ndarray, start: float) -> np.ndarray:
    """Incoming gradients that differ from element to element."""
    return start + np.arange(array.size).reshape(array.shape) / 2


def each(f: Callable[..., Any], *kinds: type) -> Callable[..., Any]:
    """A function of numbers, on arrays, one element after the other."""
    return np.vectorize(f, otypes=kinds or [float])


def exact(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of mpmath's numbers, on arrays, with thirty digits."""

    def number(*values: Any) -> float:
        with mpmath.workdps(30):
            return float(f(*map(mpmath.mpf, values)))

    return each(number)
