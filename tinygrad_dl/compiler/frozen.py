"""`Frozen`: random numbers that a recorded function draws past `tg.random`, which every later run repeats."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .feeds import Draw

SOURCES = np.random.Generator, np.random.RandomState, random.Random


class Frozen:
    """States of generators before a recording: NumPy's and Python's own, and `(generator, where)` of others."""

    def __init__(self, reached: Iterable[tuple[Any, str]]) -> None:
        own: list[tuple[Any, str, Callable[[], Any]]] = [
            (np.random, "np.random", lambda: np.random.get_state(legacy=False)),  # noqa: NPY002
            (random, "Python's random", random.getstate),
        ]
        self.sources = own + [(source, where, _state_of(source)) for source, where in reached]
        self.before = [_comparable(state()) for _, _, state in self.sources]

    def warn(self, name: str, draws: Iterable[Draw]) -> None:
        """Of those that have moved on, but for the ones that recorded draws were given, which later runs draw from."""
        drawn = {id(source) for draw in draws for source in draw.generators}
        moved = [
            where
            for (source, where, state), before in zip(self.sources, self.before, strict=True)
            if id(source) not in drawn and _comparable(state()) != before
        ]
        if moved:
            text = f"compile: {name} drew random numbers from {', '.join(moved)}, and later runs repeat these numbers"
            hint = "draw with tg.random.normal(..., rng=rng) and the like, or pass what is drawn as an argument"
            warnings.warn(f"{text}; {hint}", RuntimeWarning, stacklevel=4)  # at the call


def _state_of(source: Any) -> Callable[[], Any]:
    if isinstance(source, np.random.Generator):
        return lambda: source.bit_generator.state
    if isinstance(source, np.random.RandomState):
        return lambda: source.get_state(legacy=False)
    return lambda: None if isinstance(source, random.SystemRandom) else source.getstate()


def _comparable(state: Any) -> Any:
    """A state without arrays, which `==` would compare number by number."""
    if isinstance(state, dict):
        return {key: _comparable(part) for key, part in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state
