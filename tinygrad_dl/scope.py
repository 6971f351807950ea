"""What an operation needs to know of its surroundings: one immutable record per thread or task.

A new thread starts with the defaults; `contextvars` carries the record through tasks and generators.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import _GeneratorContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np


class Path(NamedTuple):
    """Where in a model an operation ran: the calling module's place in its parent, as plain data.

    `module` is a weak reference, for those who want to know more of it while it lives."""

    parent: Path | None
    name: str
    kind: str
    module: weakref.ref[Any]

    def __str__(self) -> str:
        return self.name if self.parent is None else f"{self.parent}.{self.name}"


@dataclass(slots=True)  # not frozen: that makes creation three times as slow; nothing changes one all the same
class Scope:
    """Fields: is the graph recorded; is `checkpoint` running its function a second time (`assign` is
    then a no-op); the running module and its path; the generator of a `random.scope` block; what stands in for
    the generators that a checkpoint names; the tape of a function that is being compiled; is one, even if the tape
    looks away."""

    recording: bool = True
    replaying: bool = False
    module: Any = None
    path: Path | None = None
    generator: np.random.Generator | None = None
    sources: Callable[[np.random.Generator], np.random.Generator] | None = None
    tape: Any = None
    compiling: bool = False


_SCOPE: ContextVar[Scope] = ContextVar("tinygrad_dl.scope", default=Scope())
current = _SCOPE.get
enter = _SCOPE.set  # inside of a `try` that enters the scope before again: Ctrl-C may come as soon as it is done

_STAND_INS: ContextVar[bool] = ContextVar("tinygrad_dl.stand_ins", default=False)
stand_ins = _STAND_INS.get  # do a module's tensors stand for others, as in `functional_call`?


@contextmanager
def standing_in() -> Iterator[None]:
    """Run a block in which they do."""
    before = _STAND_INS.get()
    try:
        _STAND_INS.set(True)
        yield
    finally:
        _STAND_INS.set(before)


_WATCH: ContextVar[Any] = ContextVar("tinygrad_dl.watch", default=None)  # apart: a watch leaves it at every operation
watch_by = _WATCH.set


P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _refuse_later(function: Any) -> None:
    if runs_later(function):
        raise TypeError(
            f"{function.__name__}: expected a function that runs when it is called, got a generator or coroutine, "
            "whose body runs after the decorator has left; open the `with` block inside of it"
        )


class _Block(_GeneratorContextManager[None]):
    def __call__(self, function: Any) -> Any:
        _refuse_later(function)
        return super().__call__(function)


def runs_later(function: Any) -> bool:
    """Does a call of it only make a generator or coroutine?"""
    kinds = inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction
    return any(is_kind(function) for is_kind in kinds)


def block(function: Callable[P, Iterator[None]]) -> Callable[P, _GeneratorContextManager[None]]:
    """`contextmanager`, for blocks that are decorators too. They raise TypeError for generators and coroutines."""

    @functools.wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> _Block:
        return _Block(function, args, kwargs)  # type: ignore[arg-type]

    return made


class within:
    """A block, or a function, under the current scope with some fields changed."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._before: list[Scope] = []  # of the blocks that it is open in

    def __enter__(self) -> None:
        self._before.append(current())
        try:
            enter(replace(self._before[-1], **self._changes))
        except BaseException:
            enter(self._before[-1])
            raise

    def __exit__(self, *_: object) -> None:
        enter(self._before[-1])
        self._before.pop()

    def __call__(self, function: F) -> F:
        _refuse_later(function)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with within(**self._changes):
                return function(*args, **kwargs)

        return cast(F, inside)


changes = 0  # of attributes of modules and of `requires_grad`: who has seen the same number need not look again
observers = 0  # blocks with a tape or a watch, in all threads: a look at it costs less than one at the scope


def taping() -> Any:
    """The tape that this thread writes to, or None."""
    return current().tape if observers else None


def compiling() -> bool:
    """Is a function being compiled here?"""
    return observers > 0 and current().compiling


def watching() -> Any:
    """The watch that looks at this thread's values, or None."""
    return _WATCH.get() if observers else None


def observer() -> Any:
    """Who runs this thread's operations: a tape, or else a watch, or None."""
    tape = current().tape
    return _WATCH.get() if tape is None else tape


def written_to(tape: Any, run: Callable[[], T], **changes: Any) -> T:
    """What `run()` gives; its operations are written to a tape, under a scope with some fields changed.

    Whatever Ctrl-C leaves open in there is closed: at the end of a `with` block it may come before `__exit__` begins,
    but not before a `finally` does."""
    global observers
    before = current()
    observers += 1
    try:
        enter(replace(before, tape=tape, compiling=True, **changes))
        return run()
    finally:
        observers -= 1
        enter(before)


@contextmanager
def watched_by(watch: Any) -> Iterator[None]:
    """Run a block whose operations and gradients a watch looks at; None: nobody does."""
    global observers
    before = _WATCH.get()
    observers += 1
    try:
        watch_by(watch)
        yield
    finally:
        observers -= 1
        watch_by(before)


def no_grad() -> within:
    """Record no graph in a `with` block, or in a function with the decorator `@no_grad()`.

    Results computed there do not require grad. Per thread and per task."""
    return within(recording=False)


def enable_grad() -> within:
    """Record the graph again inside a `no_grad()` block or function; same forms as `no_grad`."""
    return within(recording=True)
