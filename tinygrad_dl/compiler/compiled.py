"""`compile`: a function that is recorded on its first call and replayed, optimized, on later ones."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import graph
from .._source import user_line
from ..graph import Handle, Leaf, next_order, wrap
from ..scope import taping, written_to
from .guards import Guards
from .host import Argument, Changed, Gradient
from .passes import simplify
from .program import Array, Program
from .structure import Place, is_state, put_together, signature, take_apart
from .tape import Tape


class Recorded:
    """One program with what it reads and writes, and what it takes for granted."""

    def __init__(self, why: str, guards: Guards, tape: Tape, results: Any, arrays: list[Any]) -> None:
        self.why, self.guards, self.results = why, guards, results
        recorded, self.feeds, self.sinks = tape.program(arrays)
        self.program = simplify(recorded)
        self.actions = tape.actions
        self.raw = [not isinstance(a, Handle) for a in arrays]
        self.without_grad = tape.without_grad
        self.cleared = [t for t in tape.gradients if t._grad is None]
        self.stores = [(i, s) for i, s in enumerate(self.sinks) if not isinstance(s, int | Gradient)]
        self.gradients = [(i, s.tensor) for i, s in enumerate(self.sinks) if isinstance(s, Gradient)]
        self.runs = 0
        self.run: Callable[[list[Array]], list[Array]] = functools.partial(interpreted, self.program)

    def broken(self) -> str | None:
        """Why this program does not fit now, or None."""
        for tensor in self.without_grad:
            if tensor._grad is not None:
                return "a gradient was there at the start; call zero_grad() in the step"
        return self.guards.broken()

    def __call__(self, arguments: list[Any]) -> Any:
        """Run it. Raises Changed, with nothing done, if it does not fit after all."""
        arrays: list[Any] = []
        boxes: list[tuple[int, Any]] = []
        for value, feed in zip(self.program.inputs, self.feeds, strict=True):
            if type(feed) is Argument:
                array = arguments[feed.number]
            elif hasattr(feed, "array"):
                boxes.append((len(arrays), feed))
                arrays.append(None)
                continue
            else:
                array = feed.read()
                if array.shape != value.shape or array.dtype != value.dtype:
                    raise Changed
            arrays.append(array)
        self.actions.run()
        for i, box in boxes:
            arrays[i] = box.array
        outputs = self.run(arrays)
        self._write(outputs)
        self.runs += 1
        found = [outputs[i] if raw else wrap(outputs[i]) for i, raw in enumerate(self.raw)]
        return put_together(self.results, found)

    def _write(self, outputs: list[Array]) -> None:
        """Give state and gradients their new values."""
        leaves = []
        for i, sink in self.stores:
            handle = sink.handle()
            handle.data = outputs[i]
            if isinstance(handle.node, Leaf):
                leaves.append(handle.node)
        if leaves:
            stamp, line = next_order(), user_line()
            graph.last_write = stamp
            for leaf in leaves:
                leaf.stamp, leaf.written = stamp, line
        for tensor in self.cleared:
            tensor._grad = None
        for i, tensor in self.gradients:
            tensor._grad = wrap(outputs[i])


def interpreted(program: Program, arrays: list[Array]) -> list[Array]:
    """Run a program by its meaning; what comes out owns its memory."""
    taken = {id(a) for a in (*arrays, *program.constants.values())}
    outputs = []
    for y in program.run(arrays):
        outputs.append(y if y.base is None and id(y) not in taken else y.copy())
        taken.add(id(outputs[-1]))
    return outputs


class Compiled:
    """A function that records itself. Call it as the function."""

    def __init__(self, function: Callable[..., Any], backend: str, verify: int) -> None:
        self.function, self.backend, self.verify = function, backend, verify
        self._programs: dict[Any, list[Recorded]] = {}
        self._lock = threading.RLock()
        functools.update_wrapper(self, function)

    @property
    def programs(self) -> list[Program]:
        """Every program so far, in the order in which they were recorded."""
        return [r.program for found in self._programs.values() for r in found]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if taping() is not None:  # inside another compiled function it is part of that
            return self.function(*args, **kwargs)
        arrays: list[Any] = []
        tree = take_apart((args, kwargs), arrays)
        with self._lock:
            key = signature(tree, arrays)
            plain = [a.data if isinstance(a, Handle) else np.asarray(a) for a in arrays]
            reason = None
            for recorded in self._programs.get(key, ()):
                broken = recorded.broken()
                if broken is None:
                    try:
                        return recorded(plain)
                    except Changed:
                        broken = "an option, a dtype or a gradient changed"
                reason = broken
            return self._record(key, tree, arrays, reason or _difference(key, list(self._programs)))

    def _record(self, key: Any, tree: Any, arrays: list[Any], why: str) -> Any:
        guards = Guards(self.function, _objects(tree))
        tape = Tape()
        handles = []
        for number, given in enumerate(arrays):
            array = (given.data if isinstance(given, Handle) else np.asarray(given)).view()
            tape.feed(array, Argument(number), getattr(given, "name", None))
            handles.append(wrap(array))
            handles[-1].name = getattr(given, "name", None)
        before = [h.data for h in handles]
        args, kwargs = put_together(tree, handles)
        with written_to(tape):
            result = self.function(*args, **kwargs)
        if any(h.data is not b for h, b in zip(handles, before, strict=True)):
            raise RuntimeError("compile: an argument was changed in place; give the result a name of its own")
        _refuse_rebinding(guards, tape)
        found: list[Any] = []
        results = take_apart(result, found)
        recorded = Recorded(why, guards, tape, results, [f if isinstance(f, Handle) else np.asarray(f) for f in found])
        self._programs.setdefault(key, []).append(recorded)
        return put_together(results, [wrap(f.data.copy()) if isinstance(f, Handle) else f for f in found])

    def explain(self) -> str:
        """How many programs there are, and why each was recorded."""
        found = [r for programs in self._programs.values() for r in programs]
        lines = [f"{self.__name__}: {len(found)} program{'s' * (len(found) != 1)}"]  # type: ignore[attr-defined]
        for i, r in enumerate(found):
            lines.append(f"  {i}: {r.program!r}, run {r.runs} times; recorded because of {r.why}")
        floats = sum(r.why.startswith("another float") for r in found)
        if floats >= 2:
            lines.append("  a float argument keeps changing: pass it as a 0-d array, which is read anew at each call")
        return "\n".join(lines)

    def clear(self) -> None:
        """Forget every program."""
        with self._lock:
            self._programs.clear()


def _difference(key: tuple[Any, ...], before: list[tuple[Any, ...]]) -> str:
    """In words, how a signature differs from the latest one that is most like it."""
    alike = [old for old in reversed(before) if len(old) == len(key)]
    changes = [[(a, b) for a, b in zip(old, key, strict=True) if a != b] for old in alike]
    if not before:
        return "the first call"
    if not changes:
        return "arguments of another structure"
    old, new = min(changes, key=len)[0]
    if old[0] is float and new[0] is float:
        return f"another float argument: {old[1]!r}, then {new[1]!r}"
    if old[0] is Place and new[0] is Place:
        return f"an array argument of {new[2]} {new[1]}, after {old[2]} {old[1]}"
    return "arguments of another structure or value"


def _objects(tree: Any) -> list[Any]:
    """What stands in a structure besides arrays and numbers."""
    if isinstance(tree, tuple | list):
        return [x for part in tree for x in _objects(part)]
    if isinstance(tree, dict):
        return [x for part in tree.values() for x in _objects(part)]
    return [tree]


def _refuse_rebinding(guards: Guards, tape: Tape) -> None:
    """An attribute that now names a tensor of the step would keep that tensor at later runs."""
    for table, name, before, where in guards.modules():
        after = table.get(name)
        if after is not before and isinstance(after, Handle) and not is_state(after) and tape.computed(after.data):
            raise RuntimeError(f"compile: {where} was bound to a new tensor in the step; write {where}.assign(value)")


def compile(f: Any = None, *, backend: str = "auto", verify: int = 0) -> Any:
    """Record `f` on its first call, and replay it on later ones; also a decorator."""
    if backend not in ("auto", "interpreter"):
        raise ValueError(f"compile: backend must be 'auto' or 'interpreter', got {backend!r}")
    if f is None:
        return functools.partial(compile, backend=backend, verify=verify)
    return Compiled(f, backend, verify)
