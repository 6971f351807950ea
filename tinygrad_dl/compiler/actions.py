"""Actions: what Python does at each run of a compiled step, before anything is computed.

They run in the order in which the recorded step had them: the numbers of optimizers, and steps of schedules. Draws from
generators, which are feeds, come after them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np

from .._source import describe
from .._tensor import Tensor
from .feeds import Changed, Draw
from .straight import Straight


class Schedule:
    """A step of a learning-rate schedule."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def moved(self) -> bool:
        """Never: what it changes is the schedule itself."""
        return False

    def check(self, text: Straight) -> None:
        """It always fits."""

    def keep(self, text: Straight) -> None:
        """Write out how what is now is noted."""
        text.lines.append(f"{text.name(self)}.note()")

    def count(self, text: Straight) -> None:
        """Write out the step."""
        text.lines.append(f"{text.name(self.schedule)}.step()")

    def note(self) -> None:
        """Note how things are, for `undo`."""
        groups = self.schedule.optimizer.param_groups
        self.before = dict(self.schedule.__dict__), [g["lr"] for g in groups]

    def undo(self) -> None:
        """Back to what was noted."""
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
        for key, option in self.options.items():
            if isinstance(option, list | np.ndarray | Tensor):
                raise TypeError(
                    f"compile: {type(optimizer).__name__}: expected the option {key} to be a number or a tuple, got "
                    f"{describe(option)}; what is changed in place would not be seen"
                )
        self.fixed = {k: structure(v) for k, v in self.options.items()}
        self.places = [p for k, v in self.options.items() for p in _numbers(v, (k,))]
        self.numbers = np.empty(len(self.places), np.float64)
        self.results = [self.numbers[i : i + 1].reshape(()) for i in range(len(self.places))]
        self._write(self.options)
        self.before: dict[str, Any] = {name: self.states[0][name] for name in self.counts}
        for state in self.states:
            state.update({name: first[name] for name in self.counts})

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

    def read(self) -> None:
        """Read the options anew. Raises Changed, with nothing done, if more than numbers differ."""
        options = {k: self.group[k] for k, old in zip(self.keys, self.seen, strict=True) if self.group[k] is not old}
        if any(structure(v) != self.fixed[k] for k, v in options.items()):
            raise Changed
        self.seen[:] = [self.group[k] for k in self.keys]
        self._write(options)

    def moved(self) -> bool:
        """Does the optimizer keep its numbers elsewhere than when it was last looked for? Raises Changed if they are
        gone."""
        before = self.table, self.group, *self.states
        self.table, self.group, self.states = self._found()
        return not all(map(is_, before, (self.table, self.group, *self.states)))

    def check(self, text: Straight) -> None:
        """Write out whether everything is where it was, and has been counted alike."""
        optimizer, table, group = text.name(self.optimizer), text.name(self.table), text.name(self.group)
        text.check(f"{optimizer}.state is {table}", f"{optimizer}.param_groups[{self.number}] is {group}")
        states = [*map(text.name, self.states)]
        text.check(*(f"{table}[{text.name(p)}] is {state}" for p, state in zip(self.members, states, strict=True)))
        if len(states) > 1:
            for name in self.counts:
                text.check(" == ".join(f"{state}[{name!r}]" for state in states))

    def keep(self, text: Straight) -> None:
        """Write out how what is now is noted."""
        first = text.name(self.states[0])
        before = ", ".join(f"{name!r}: {first}[{name!r}]" for name in self.counts)
        text.lines.append(f"{text.name(self)}.before = {{{before}}}")

    def count(self, text: Straight) -> None:
        """Write out how it goes on by one step, and every number into its array. Where another program is needed,
        Changed is raised."""
        own, optimizer, group = text.name(self), text.name(self.optimizer), text.name(self.group)
        same = [f"{group}[{key!r}] is {text.name(self.seen)}[{i}]" for i, key in enumerate(self.keys)]
        if same:
            text.lines.append(f"if not ({' and '.join(same)}): {own}.read()")
        first, *others = map(text.name, self.states)
        text.lines += [f"{first}['step'] += 1", f"found = {optimizer}.constants({first}, {group})"]
        for name in self.counts:
            text.lines.append("".join(f"{state}[{name!r}] = " for state in others) + f"{first}[{name!r}]")
        structures, numbers = text.name(structure), text.name(self.numbers.data)  # 40 ns a number, not 80
        for key, fixed in self.constants.items():
            text.lines.append(f"if {structures}(found[{key!r}]) != {text.name(fixed)}: raise {text.name(Changed)}")
        for i, (key, *rest) in enumerate(self.places):
            if key in self.constants:
                text.lines.append(f"{numbers}[{i}] = found[{key!r}]" + "".join(f"[{part}]" for part in rest))

    def undo(self) -> None:
        """Take the latest step back."""
        for state in self.states:
            state.update(self.before)


class Actions:
    """What Python does at each run, in order; all of it is undone if the program turns out not to fit."""

    def __init__(self) -> None:
        self.numbers: list[Schedule | Optimize] = []
        self.draws: list[Draw] = []
        self._run: Callable[[], bool] | None = None

    def check(self, text: Straight) -> None:
        """Write out whether all of it is possible."""
        for action in self.numbers:
            action.check(text)

    @contextmanager
    def counted(self, text: Straight) -> Iterator[None]:
        """Write out everything but draws. If anything that is added meanwhile raises, it is undone."""
        for action in self.numbers:
            action.keep(text)
        with text.block("try:"):
            for action in self.numbers:
                action.count(text)
            yield
        with text.block("except BaseException:"):
            text.lines += [*(f"{text.name(action)}.undo()" for action in reversed(self.numbers)), "raise"]

    def run(self) -> None:
        """Everything but draws, apart from any program. Raises Changed, with nothing done, if another is needed."""
        self._run = self._run or self._written()
        if not self._run():
            if not self.moved():
                raise Changed
            self._run = self._written()
            if not self._run():
                raise Changed

    def _written(self) -> Callable[[], bool]:
        text = Straight()
        with text.checks():
            self.check(text)
        with self.counted(text):
            pass
        return text.function()

    def moved(self) -> bool:
        """Do optimizers keep their numbers elsewhere than when this was last asked? Raises Changed if they are gone."""
        found = [action.moved() for action in self.numbers]  # all of them are asked
        return any(found)

    def undo(self) -> None:
        """Take back what the latest run has counted; what was drawn stays drawn."""
        for action in reversed(self.numbers):
            action.undo()
