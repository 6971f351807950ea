"""What a compiled step reads from Python at each run, and what it does there: feeds, sinks and actions.

A feed is the source of one input; a sink takes one output. Actions run in the order in which the recorded step
had them, before anything is computed: draws from generators, the numbers of optimizers, steps of schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from struct import pack_into
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import Handle
from .program import Array


class Changed(Exception):
    """A later run needs another program; nothing has happened yet."""


class Number(Tensor):
    """An option of an optimizer that a later run reads anew. Whether it is zero is part of the program."""

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        self.data, self.node, self.name, self._grad = data, None, None, None

    def __bool__(self) -> bool:
        return bool(self.data)


@dataclass(eq=False, slots=True)
class Argument:
    """An array among the step's arguments, by number."""

    number: int


@dataclass(eq=False, slots=True)
class State:
    """The value of a tensor."""

    tensor: Any

    def read(self) -> Array:
        return self.tensor.data  # type: ignore[no-any-return]

    def handle(self) -> Any:
        return self.tensor


@dataclass(eq=False, slots=True)
class Slot:
    """What an optimizer keeps of a parameter under a name."""

    optimizer: Any
    tensor: Any
    name: str

    def read(self) -> Array:
        return self.handle().data  # type: ignore[no-any-return]

    def handle(self) -> Any:
        state = self.optimizer.state.get(self.tensor)
        if state is None or self.name not in state:
            raise Changed
        return state[self.name]


@dataclass(eq=False, slots=True)
class Gradient:
    """The `.grad` of a tensor."""

    tensor: Any

    def read(self) -> Array:
        if self.tensor._grad is None:
            raise Changed
        return self.tensor._grad.data  # type: ignore[no-any-return]


@dataclass(eq=False, slots=True)
class Held:
    """An array that an action writes into."""

    array: Array


class Draw:
    """A draw from a generator; `array` is the latest. A single number, as keys of masks are, is always in the same
    array: to show another one to a backend costs 5 µs."""

    def __init__(self, draw: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.draw, self.args, self.kwargs = draw, args, kwargs
        self.array: Any = None

    def run(self) -> None:
        result = self.draw(*self.args, **self.kwargs)
        array = result.data if isinstance(result, Handle) else result
        if array.ndim:
            self.array = array
        elif self.array is None:
            self.array = array.copy()
        else:
            self.array[...] = array


class Schedule:
    """A step of a learning-rate schedule."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self.moved = False

    def run(self) -> None:
        groups = self.schedule.optimizer.param_groups
        self.before = dict(self.schedule.__dict__), [g["lr"] for g in groups]
        self.schedule.step()

    def undo(self) -> None:
        attributes, rates = self.before
        self.schedule.__dict__.update(attributes)
        for group, rate in zip(self.schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


_UNREAD = ("params", "param_names", "initial_lr")


def structure(option: Any) -> Any:
    """What of an option is fixed in a program: everything of a truth value, a text or None; of a number, whether
    it is zero; of a tuple, its parts'."""
    if isinstance(option, tuple):
        return tuple(structure(v) for v in option)
    if isinstance(option, int | float) and not isinstance(option, bool):
        return float if option else 0
    return option


def _numbers(option: Any, where: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The places of the numbers in an option that may change, in order."""
    if isinstance(option, tuple):
        return [place for i, part in enumerate(option) for place in _numbers(part, (*where, i))]
    return [where] if structure(option) is float else []


class Optimize:
    """An optimizer's step for parameters that share their numbers: counts it, and reads the options.

    Parameters are looked at by functions in C, some 50 ns each."""

    def __init__(self, optimizer: Any, group: int, members: Sequence[Tensor]) -> None:
        self.optimizer, self.number, self.members = optimizer, group, list(members)
        self._look()
        names = [k for k, v in self.states[0].items() if not isinstance(v, Tensor)]  # of the numbers that count
        self.names, self.numbers_of = names, itemgetter(*names)
        constants = self._count()
        skipped = {*_UNREAD, *constants}
        self.keys = [k for k in self.group if k not in skipped]
        self.options = {k: self.group[k] for k in self.keys} | constants
        self.fixed = {k: structure(v) for k, v in self.options.items()}
        self.of_constants = [self.fixed[k] for k in constants]
        places = [p for k, v in self.options.items() for p in _numbers(v, (k,))]
        self.numbers = np.empty(len(places), np.float64)
        self.results = [self.numbers[i : i + 1].reshape(()) for i in range(len(places))]
        self.places = [p for p in places if p[0] not in constants]
        self.later = [p for p in places if p[0] in constants]
        self.seen: list[Any] = [self.options[k] for k in self.keys]
        self._write(0, self.places, self.options)
        self._write(len(self.places), self.later, constants)

    def _look(self) -> None:
        """Find what the optimizer keeps of each parameter."""
        self.moved, self.table = True, self.optimizer.state
        self.group = self.optimizer.param_groups[self.number]
        try:
            self.states = [self.table[p] for p in self.members]
        except KeyError:
            raise Changed from None

    def _count(self) -> dict[str, Any]:
        """Go on by one step and return what follows from the count. Raises Changed if the parameters no longer
        share it."""
        if self.table is not self.optimizer.state or not all(map(is_, map(self.table.get, self.members), self.states)):
            self._look()
        found = [*map(self.numbers_of, self.states)]
        if found.count(found[0]) < len(found):
            raise Changed
        first = self.states[0]
        self.before = {name: first[name] for name in self.names}
        first["step"] += 1
        constants: dict[str, Any] = self.optimizer.constants(first, self.group)
        for name in self.names:
            number = first[name]
            for state in self.states:
                state[name] = number
        return constants

    def _write(self, start: int, places: Sequence[tuple[Any, ...]], options: dict[str, Any]) -> None:
        found = []
        for key, *rest in places:
            number = options[key]
            for part in rest:
                number = number[part]
            found.append(number)
        pack_into(f"{len(found)}d", self.numbers.data, 8 * start, *found)

    def run(self) -> None:
        """Write every number into its array. Raises Changed, with nothing done, if anything else has changed."""
        if self.optimizer.param_groups[self.number] is not self.group:
            self._look()
        constants = self._count()
        options = [*map(self.group.get, self.keys)]
        same = all(map(is_, options, self.seen))
        fits = [*map(structure, constants.values())] == self.of_constants
        if not fits or not (
            same or all(structure(v) == self.fixed[k] for k, v in zip(self.keys, options, strict=True))
        ):
            self.undo()
            raise Changed
        if not same:
            self.seen = options
            self._write(0, self.places, self.group)
        self._write(len(self.places), self.later, constants)

    def undo(self) -> None:
        """Take the latest step back."""
        for state in self.states:
            state.update(self.before)


class Actions:
    """What Python does at each run, in order; all of it is undone if the program turns out not to fit."""

    def __init__(self) -> None:
        self.numbers: list[Schedule | Optimize] = []
        self.draws: list[Draw] = []

    def count(self) -> None:
        """Everything but draws. Raises Changed, with nothing done, if another program is needed."""
        for i, action in enumerate(self.numbers):
            try:
                action.run()
            except Changed:
                for done in reversed(self.numbers[:i]):
                    done.undo()
                raise

    def moved(self) -> bool:
        """Does an optimizer keep its state elsewhere than when this was last asked?"""
        found = False
        for action in self.numbers:
            if action.moved:
                found, action.moved = True, False
        return found

    def undo(self) -> None:
        """Take back what the latest run has counted; what was drawn stays drawn."""
        for action in reversed(self.numbers):
            action.undo()
