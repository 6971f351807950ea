"""Random numbers: every draw goes through one generator, the scope's or the process's.

`seed(n)` starts the process's generator anew; `scope(seed)` gives a block, or a thread, its own. Draws are
Tensors that need no gradient. Dropout masks are not drawn but hashed: `bits(key, shape)` is a pure function
of a key, so a mask can be computed again in the backward pass instead of being stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .graph import wrap
from .primitive import primitive
from .scope import current, within

if TYPE_CHECKING:
    from ._tensor import Tensor

Shape = int | Sequence[int]
Source = np.random.Generator | int | None

_process = np.random.default_rng()


def seed(n: int) -> None:
    """Start the process's generator from a seed."""
    global _process
    _process = np.random.default_rng(n)


@contextmanager
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


def uniform(
    low: float = 0.0, high: float = 1.0, shape: Shape = (), dtype: Any = np.float32, rng: Source = None
) -> Tensor:
    """Uniform draws from [low, high), a Tensor of the shape and dtype."""
    if not low <= high:
        raise ValueError(f"uniform: expected low <= high, got {low} and {high}")
    return wrap(np.asarray(generator(rng).uniform(low, high, shape)).astype(dtype))


def normal(
    mean: float = 0.0, std: float = 1.0, shape: Shape = (), dtype: Any = np.float32, rng: Source = None
) -> Tensor:
    """Draws from the normal distribution, a Tensor of the shape and dtype."""
    if not std >= 0:
        raise ValueError(f"normal: expected std >= 0, got {std}")
    return wrap(np.asarray(generator(rng).normal(mean, std, shape)).astype(dtype))


def bernoulli(p: float = 0.5, shape: Shape = (), dtype: Any = np.float32, rng: Source = None) -> Tensor:
    """Ones with probability p, zeros otherwise, a Tensor of the shape and dtype."""
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: expected 0 <= p <= 1, got {p}")
    return wrap(np.asarray(generator(rng).random(shape) < p).astype(dtype))


def permutation(n: int, rng: Source = None) -> Tensor:
    """The integers 0 to n - 1 in random order, an int64 Tensor."""
    return wrap(generator(rng).permutation(n).astype(np.int64))


def key(rng: Source = None) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A key for `bits`: 64 random bits, a 0-d array."""
    return np.array(generator(rng).bit_generator.random_raw(), np.uint64)


_ROTATIONS = [(np.uint32(r), np.uint32(32 - r)) for r in (13, 15, 26, 6, 17, 29, 16, 24)]
_PARITY = 0x1BD11BDA
ROUNDS = 13  # the fewest that pass BigCrush (the paper's table 2); 20 is the cautious choice


def _threefry(key: Any, shape: Shape) -> Any:
    """Threefry 2x32 (Salmon, Moraes, Dror and Shaw: Parallel random numbers, as easy as 1, 2, 3; SC 2011).

    Words 2i and 2i + 1 are the cipher of the counter (i, 0) under the key (low half, high half). Additions
    and shifts of uint32 are what NumPy vectorises best: half the time of Philox 2x32 with 7 rounds."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape)
    high, low = divmod(int(key), 1 << 32)
    schedule = (low, high, low ^ high ^ _PARITY)
    words = np.empty(((size + 1) // 2, 2), np.uint32)
    a = np.arange(len(words), dtype=np.uint32)
    a += np.uint32(low)
    b = np.full_like(a, high)
    spare = np.empty_like(a)
    for i in range(ROUNDS):
        a += b
        left, right = _ROTATIONS[i % 8]
        np.right_shift(b, right, out=spare)
        np.left_shift(b, left, out=b)
        b |= spare
        b ^= a
        if i % 4 == 3:
            j = i // 4 + 1
            a += np.uint32(schedule[j % 3])
            b += np.uint32((schedule[(j + 1) % 3] + j) & 0xFFFFFFFF)
    words[:, 0], words[:, 1] = a, b
    return words.reshape(-1)[:size].reshape(shape)


bits = primitive(_threefry, None, name="bits")
