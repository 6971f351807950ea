"""Random numbers: every draw goes through one generator, the scope's or the process's.

`seed(n)` restarts the process's generator; `scope(seed)` gives a block, or a thread, its own. Random numbers are
Tensors that do not require grad. Dropout masks are not drawn but hashed: `bits(key, shape)` is a pure function of a
key, so the backward pass can recompute a mask instead of storing it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from .graph import wrap
from .primitive import primitive
from .scope import block, current, taping, within

if TYPE_CHECKING:
    from ._tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
Shape = int | Sequence[int]
Source = np.random.Generator | int | None

_process = np.random.default_rng()


def seed(n: int) -> None:
    """Start the process's generator from a seed."""
    global _process
    _process = np.random.default_rng(n)


@block
def scope(seed: int) -> Iterator[None]:
    """Give a `with` block (or a function, as a decorator) a generator of its own; per thread and task."""
    with within(generator=np.random.default_rng(seed)):
        yield


def generator(rng: Source = None) -> np.random.Generator:
    """The generator to draw from: the given one, a new one from a seed, or the scope's or process's.

    Raises TypeError for anything else."""
    if rng is None:
        return current().generator or _process
    if isinstance(rng, np.random.Generator):
        sources = current().sources
        return rng if sources is None else sources(rng)
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return np.random.default_rng(rng)
    raise TypeError(f"rng: expected a seed, a numpy.random.Generator or None, got {type(rng).__name__}")


def state(value: dict[str, Any] | None = None) -> dict[str, Any]:
    """The state of the current generator, as plain data; with an argument, set it to that first."""
    bits = generator().bit_generator
    if value is not None:
        bits.state = value
    return dict(bits.state)


def _source(draw: F) -> F:
    """Decorate a function that draws a tensor, or an integer of 64 bits; a compiled step draws anew at each run."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        if (tape := taping()) is not None:
            return tape.draw(draw, args, kwargs)
        drawn = draw(*args, **kwargs)
        return np.array(drawn, np.uint64) if type(drawn) is int else drawn

    return cast(F, drawn)


@_source
def uniform(
    low: float = 0.0, high: float = 1.0, shape: Shape = (), dtype: Any = np.float32, rng: Source = None
) -> Tensor:
    """Uniform random numbers from [low, high), a Tensor of this shape (default: one number) and dtype.

    rng: a generator or a seed in place of the current generator. Raises ValueError for low > high, TypeError for
    another rng."""
    if not low <= high:
        raise ValueError(f"uniform: expected low <= high, got {low} and {high}")
    drawn = np.asarray(generator(rng).uniform(low, high, shape)).astype(dtype)
    if drawn.dtype.kind == "f" and low < high:  # one of 30 million rounds up to `high` in float32
        np.minimum(drawn, np.nextafter(drawn.dtype.type(high), drawn.dtype.type(low)), out=drawn)
    return wrap(drawn)


@_source
def normal(
    mean: float = 0.0, std: float = 1.0, shape: Shape = (), dtype: Any = np.float32, rng: Source = None
) -> Tensor:
    """Normally distributed random numbers, a Tensor of this shape (default: one number) and dtype.

    rng: as in `uniform`. Raises ValueError for std < 0."""
    if not std >= 0:
        raise ValueError(f"normal: expected std >= 0, got {std}")
    return wrap(np.asarray(generator(rng).normal(mean, std, shape)).astype(dtype))


@_source
def bernoulli(p: float = 0.5, shape: Shape = (), dtype: Any = np.float32, rng: Source = None) -> Tensor:
    """Ones with probability p, zeros otherwise, a Tensor of this shape (default: one number) and dtype.

    rng: as in `uniform`. Raises ValueError for p outside [0, 1]."""
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: expected 0 <= p <= 1, got {p}")
    return wrap(np.asarray(generator(rng).random(shape) < p).astype(dtype))


@_source
def permutation(n: int, rng: Source = None) -> Tensor:
    """The integers 0 to n - 1 in random order, an int64 Tensor (n,). rng: as in `uniform`."""
    return wrap(generator(rng).permutation(n).astype(np.int64))


@_source
def key(rng: Source = None) -> Any:
    """A key for `bits`: 64 random bits, a 0-d array."""
    return generator(rng).bit_generator.random_raw()


_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX = [(np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB))]
_LAST = np.uint64(31)


def _splitmix(key: Any, shape: Shape) -> Any:
    """SplitMix64 (Steele, Lea and Flood: Fast splittable pseudorandom number generators; OOPSLA 2014, fig. 16).

    Words 2i and 2i + 1 are the low and the high half of the generator's output number i from the state key. Each
    output is a pure function of its number, in ten passes: 11 µs for 4,096 words, Threefry 2x32 took 65 to 100."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape)
    z = np.arange(1, (size + 1) // 2 + 1, dtype=np.uint64)
    z *= _GAMMA
    z += np.uint64(key)
    spare = np.empty_like(z)
    for shift, factor in _MIX:
        z ^= np.right_shift(z, shift, out=spare)
        z *= factor
    z ^= np.right_shift(z, _LAST, out=spare)
    return z.astype("<u8", copy=False).view("<u4")[:size].reshape(shape)


bits = primitive(_splitmix, None, name="bits")
