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
from .straight import Straight


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
    if type(option) is float:  # most are
        return float if option else 0
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
    """An optimizer's step for parameters that share their numbers: counts it, and reads the options."""

    def __init__(self, optimizer: Any, group: int, members: Sequence[Tensor]) -> None:
        self.optimizer, self.number, self.members = optimizer, group, list(members)
        self.table, self.group, self.states = self._found()
        self.counts = [k for k, v in self.states[0].items() if not isinstance(v, Tensor)]  # numbers that go on
        first = dict(self.states[0])
        first["step"] += 1
        constants: dict[str, Any] = optimizer.constants(first, self.group)
        self.constants = {k: structure(v) for k, v in constants.items()}
        self.keys = [k for k in self.group if k not in _UNREAD and k not in constants]
        self.seen: list[Any] = [self.group[k] for k in self.keys]
        self.options = dict(zip(self.keys, self.seen, strict=True)) | constants
        self.fixed = {k: structure(v) for k, v in self.options.items()}
        self.places = [p for k, v in self.options.items() for p in _numbers(v, (k,))]
        self.numbers = np.empty(len(self.places), np.float64)
        self.results = [self.numbers[i : i + 1].reshape(()) for i in range(len(self.places))]
        self._write(self.options)
        self.before: dict[str, Any] = {name: self.states[0][name] for name in self.counts}
        for state in self.states:
            state.update({name: first[name] for name in self.counts})
        self._look()

    def _found(self) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
        """The optimizer's state, the group's options, and what is kept of each parameter."""
        table = self.optimizer.state
        try:
            return table, self.optimizer.param_groups[self.number], [table[p] for p in self.members]
        except (KeyError, IndexError):
            raise Changed from None

    def _write(self, options: dict[str, Any]) -> None:
        """Write the numbers among some options into their arrays."""
        for i, (key, *rest) in enumerate(self.places):
            if key in options:
                number = options[key]
                for part in rest:
                    number = number[part]
                self.numbers[i] = number

    def _read(self) -> None:
        """Read the options anew. Raises Changed, with nothing done, if more than numbers differ."""
        options = {k: self.group[k] for k, old in zip(self.keys, self.seen, strict=True) if self.group[k] is not old}
        if any(structure(v) != self.fixed[k] for k, v in options.items()):
            raise Changed
        self.seen[:] = [self.group[k] for k in self.keys]
        self._write(options)

    def _look(self) -> None:
        """Find what the optimizer keeps of each parameter, and write out what a run does with it."""
        self.moved = True
        self.table, self.group, self.states = self._found()
        step = Straight()
        optimizer, table, group = step.name(self.optimizer), step.name(self.table), step.name(self.group)
        step.check(f"{optimizer}.state is {table}", f"{optimizer}.param_groups[{self.number}] is {group}")
        for p, state in zip(self.members, self.states, strict=True):
            step.check(f"{table}[{step.name(p)}] is {step.name(state)}")
        first, *others = map(step.name, self.states)
        changed = step.name(Changed)
        for name in self.counts:
            if others:
                unequal = " or ".join(f"{state}[{name!r}] != {first}[{name!r}]" for state in others)
                step.lines.append(f"if {unequal}: raise {changed}")
        same = [f"{group}[{key!r}] is {step.name(self.seen)}[{i}]" for i, key in enumerate(self.keys)]
        if same:
            step.lines.append(f"if not ({' and '.join(same)}): self._read()")
        before = ", ".join(f"{name!r}: {first}[{name!r}]" for name in self.counts)
        step.lines += [f"self.before = {{{before}}}", f"{first}['step'] += 1"]
        step.lines.append(f"found = {optimizer}.constants({first}, {group})")
        for name in self.counts:
            step.lines.append("".join(f"{state}[{name!r}] = " for state in others) + f"{first}[{name!r}]")
        structures, numbers = step.name(structure), step.name(self.numbers.data)  # 40 ns a number, not 80
        for key, fixed in self.constants.items():
            step.lines.append(f"if {structures}(found[{key!r}]) != {step.name(fixed)}: raise {changed}")
        for i, (key, *rest) in enumerate(self.places):
            if key in self.constants:
                step.lines.append(f"{numbers}[{i}] = found[{key!r}]" + "".join(f"[{part}]" for part in rest))
        self._step = step.function("self")

    def run(self) -> None:
        """Write every number into its array. Raises Changed, with nothing done, if anything else has changed."""
        if not self._steps():
            self._look()
            if not self._steps():
                raise Changed

    def _steps(self) -> bool:
        """Go on by one step; False, with nothing done, if what the optimizer keeps is elsewhere."""
        self.before = {}
        try:
            return bool(self._step(self))
        except BaseException as error:
            if self.before:
                self.undo()
            elif isinstance(error, KeyError | IndexError):  # of a parameter or a group that is gone
                return False
            raise

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
