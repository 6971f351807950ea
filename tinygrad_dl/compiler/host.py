"""What a compiled step reads from Python at each run, and what it does there: feeds, sinks and actions.

A feed is the source of one input; a sink takes one output. Actions run in the order in which the recorded step
had them, before anything is computed: draws from generators, the numbers of optimizers, steps of schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
class Box:
    """What an action gave, in this run."""

    array: Any = None

    def read(self) -> Array:
        return self.array  # type: ignore[no-any-return]


class Draw:
    """A draw from a generator."""

    def __init__(self, draw: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.draw, self.args, self.kwargs = draw, args, kwargs

    def run(self) -> Sequence[Array]:
        result = self.draw(*self.args, **self.kwargs)
        return (result.data if isinstance(result, Handle) else result,)

    def undo(self) -> None:
        raise AssertionError("draws come after everything that may change")


class Schedule:
    """A step of a learning-rate schedule."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def run(self) -> Sequence[Array]:
        groups = self.schedule.optimizer.param_groups
        self.before = dict(self.schedule.__dict__), [g["lr"] for g in groups]
        self.schedule.step()
        return ()

    def undo(self) -> None:
        attributes, rates = self.before
        self.schedule.__dict__.update(attributes)
        for group, rate in zip(self.schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def structure(option: Any) -> Any:
    """What of an option is fixed in a program: everything of a truth value, a text or None; of a number, whether
    it is zero; of a tuple, its parts'."""
    if isinstance(option, tuple):
        return tuple(structure(v) for v in option)
    if isinstance(option, int | float) and not isinstance(option, bool):
        return float if option else 0
    return option


def _numbers(tree: Any) -> list[float]:
    """The numbers that may change, in order."""
    if isinstance(tree, dict | tuple):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [x for part in parts for x in _numbers(part)]
    return [tree] if structure(tree) is float else []


class Optimize:
    """An optimizer's step for parameters that share their numbers: counts it, and reads the options."""

    def __init__(self, optimizer: Any, group: int, members: Sequence[Tensor]) -> None:
        self.optimizer, self.group, self.members = optimizer, group, list(members)
        self.options: dict[str, Any] = {}
        self.fixed: dict[str, Any] | None = None

    def run(self) -> Sequence[Array]:
        """Every number as a 0-d float64 array. Raises Changed if anything else than numbers has changed."""
        states = [self.optimizer.state.get(p) for p in self.members]
        if None in states or self.group >= len(self.optimizer.param_groups):
            raise Changed
        self.before = [{k: v for k, v in s.items() if not isinstance(v, Tensor)} for s in states]
        if any(numbers != self.before[0] for numbers in self.before):
            raise Changed
        states[0]["step"] += 1
        group = self.optimizer.param_groups[self.group]
        constants = self.optimizer.constants(states[0], group)
        self.options = {k: v for k, v in group.items() if k not in ("params", "param_names", "initial_lr")} | constants
        fixed = {k: structure(v) for k, v in self.options.items()}
        if self.fixed is not None and fixed != self.fixed:
            states[0].update(self.before[0])
            raise Changed
        self.fixed = fixed
        after = {k: v for k, v in states[0].items() if not isinstance(v, Tensor)}
        for state in states[1:]:
            state.update(after)
        return [np.array(x, np.float64) for x in _numbers(self.options)]

    def undo(self) -> None:
        for p, numbers in zip(self.members, self.before, strict=True):
            self.optimizer.state[p].update(numbers)


class Actions:
    """What Python does at each run, in order; all of it is undone if the program turns out not to fit."""

    def __init__(self) -> None:
        self.numbers: list[tuple[Any, list[Box]]] = []
        self.draws: list[tuple[Draw, list[Box]]] = []

    def add(self, action: Any, results: int) -> list[Box]:
        """Note an action; its results will lie in the boxes."""
        boxes = [Box() for _ in range(results)]
        (self.draws if isinstance(action, Draw) else self.numbers).append((action, boxes))
        return boxes

    def run(self) -> None:
        """Fill the boxes. Raises Changed, with nothing done, if another program is needed."""
        done: list[Any] = []
        try:
            for action, boxes in self.numbers:
                for box, array in zip(boxes, action.run(), strict=True):
                    box.array = array
                done.append(action)
        except Changed:
            for action in reversed(done):
                action.undo()
            raise
        for draw, boxes in self.draws:
            for box, array in zip(boxes, draw.run(), strict=True):
                box.array = array
