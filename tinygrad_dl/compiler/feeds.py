"""Feeds and sinks: where a compiled step's inputs are read from at each run, and where its outputs go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Array
from .straight import Straight


class Changed(Exception):
    """A later run needs another program; nothing has happened yet."""


@dataclass(eq=False, slots=True)
class Argument:
    """An array among the step's arguments, by number."""

    number: int


@dataclass(eq=False, slots=True)
class State:
    """The value of a tensor."""

    tensor: Any

    def handle(self) -> Any:
        return self.tensor


@dataclass(eq=False, slots=True)
class Slot:
    """What an optimizer keeps of a parameter under a name."""

    optimizer: Any
    tensor: Any
    name: str

    def handle(self) -> Any:
        state = self.optimizer.state.get(self.tensor)
        if state is None or self.name not in state:
            raise Changed
        return state[self.name]


@dataclass(eq=False, slots=True)
class Gradient:
    """The `.grad` of a tensor."""

    tensor: Any


@dataclass(eq=False, slots=True)
class Held:
    """An array that others write into: an action, or the user."""

    array: Array


class Draw:
    """A draw from a generator: a tensor, or an integer of 64 bits.

    Single numbers, as keys of masks are, are always in the same array: to show another one to a backend costs 5 µs."""

    def __init__(self, draw: Callable[..., Any], args: Any, kwargs: Any, first: Any) -> None:
        self.draw, self.args, self.kwargs = draw, args, kwargs
        self.whole = type(first) is int
        self.single: Array | None = None  # where every later one is
        if self.whole:
            self.single = np.empty((), np.uint64)
        elif not first.ndim:
            self.single = np.empty_like(first.data)

    @property
    def generators(self) -> list[np.random.Generator]:
        """Those that it is given."""
        return [g for g in (*self.args, *self.kwargs.values()) if isinstance(g, np.random.Generator)]

    def write(self, text: Straight, place: str) -> None:
        """Write out a draw, and that it is in this place."""
        given = [*map(text.name, self.args), *(f"{key}={text.name(value)}" for key, value in self.kwargs.items())]
        drawn = f"{text.name(self.draw)}({', '.join(given)})"
        if self.single is None:
            text.lines.append(f"{place} = {drawn}.data")
        elif self.whole:  # by the view of its memory it takes 0.04 µs, not 0.3
            text.lines += [f"{text.name(self.single.data)}[()] = {drawn}", f"{place} = {text.name(self.single)}"]
        else:
            text.lines += [f"{text.name(self.single)}[...] = {drawn}.data", f"{place} = {text.name(self.single)}"]
