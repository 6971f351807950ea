"""`compile`: a function that is recorded on its first call and replayed, optimized, on later ones."""

from __future__ import annotations

import functools
import threading
import warnings
from collections import deque
from collections.abc import Callable, ItemsView, Iterator, Set, ValuesView
from copy import deepcopy
from typing import Any

import numpy as np

from .. import scope
from .._source import describe
from ..graph import Handle, Leaf, behind, wrap
from ..nn.state import is_state
from ..scope import runs_later, taping, written_to
from .attributes import attributes
from .backends import builder, recording
from .feeds import Argument, Changed
from .frozen import Frozen
from .guards import Guards
from .naming import bound, name_values
from .numpy_backend import source
from .program import Program
from .reach import Reach
from .replay import Recorded
from .structure import Place, put_together, signature, take_apart
from .tape import Tape
from .verify import verified

IDLE = 32  # programs that never ran again: as many are kept


class Compiled:
    """A compiled function, called like the original. It records on the first call, and then replays."""

    def __init__(self, function: Callable[..., Any], backend: str, verify: int) -> None:
        self.function, self.verify, self.backend = function, verify, backend
        self._build = builder(backend)
        self._programs: dict[Any, list[Recorded]] = {}
        self._recorded: list[Recorded] = []  # the same, in order
        self._latest: Recorded | None = None  # the next call will most likely fit it
        self._forgotten = 0
        self._lock = threading.RLock()
        functools.update_wrapper(self, function)

    @property
    def programs(self) -> list[Program]:
        """The latest program, and all others that are kept and may run again, in order of recording."""
        return [r.program for r in self._recorded]

    @property
    def latest(self) -> Program:
        """The program that ran last. Raises RuntimeError before the first call."""
        if not self._recorded:
            raise RuntimeError("compile: there is no program before the first call")
        return (self._latest or self._recorded[-1]).program

    @property
    def source(self) -> str:
        """The latest program as a Python file that needs only NumPy, whichever backend runs it.

        Its `step` takes the program's inputs and returns its outputs. Raises RuntimeError before the first call."""
        return source(self.latest)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """A copy of the function, which has not been called yet: of a bound method, that of the copied object."""
        return Compiled(deepcopy(self.function, memo), self.backend, self.verify)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if scope.observers and taping() is not None:  # inside another compiled function it is part of that
            return self.function(*args, **kwargs)
        with self._lock:
            latest = None if kwargs else self._latest
            if latest is not None and latest.flat and latest.runs >= self.verify:
                try:
                    return latest.again(args)
                except Changed:
                    pass
            arrays: list[Any] = []
            tree = take_apart((args, kwargs), arrays)
            key = signature(tree, arrays)
            plain = [a.data if isinstance(a, Handle) else np.asarray(a) for a in arrays]
            reason = None
            for recorded in self._programs.get(key, ()):
                broken = recorded.broken()
                if broken is None:
                    try:
                        if recorded.runs < self.verify:
                            return verified(recorded, plain, lambda: self._eager(tree, plain))
                        self._turn_to(recorded)
                        return recorded(plain)
                    except Changed:
                        broken = "an option, a dtype or a gradient changed"
                reason = broken
            with recording(self.backend):
                return self._record(key, tree, arrays, reason or _difference(key, list(self._programs)))

    def _eager(self, tree: Any, arrays: list[Any]) -> Any:
        args, kwargs = put_together(tree, [wrap(a) for a in arrays])
        return self.function(*args, **kwargs)

    def _record(self, key: Any, tree: Any, arrays: list[Any], why: str) -> Any:
        self._turn_to(None)
        for recorded in self._recorded:
            recorded.forget()  # the state gets other arrays
        guards = Guards(Reach(self.function, _objects(bound(self.function, tree))))
        tape = Tape([tensor for tensor, _ in guards.reach.tensors], guards.reach.arrays)
        handles = []
        for number, given in enumerate(arrays):
            array = (given.data if isinstance(given, Handle) else np.asarray(given)).view()
            tape.feed(array, Argument(number), getattr(given, "name", None))
            handles.append(wrap(array))
            handles[-1].name = getattr(given, "name", None)
        before, frozen = [h.data for h in handles], Frozen(guards.reach.generators)
        args, kwargs = put_together(tree, handles)
        result = written_to(tape, lambda: self.function(*args, **kwargs))
        if any(h.data is not b for h, b in zip(handles, before, strict=True)):
            raise RuntimeError("compile: an argument was changed in place; give the result a name of its own")
        _refuse_rebinding(guards, tape)
        _refuse_arrays(tape)
        frozen.warn(getattr(self, "__name__", "a function"), tape.actions.draws)
        found: list[Any] = []
        results = take_apart(result, found, tape.stays)
        _refuse_gradients(tree, found)
        _refuse_hidden(results, tape)
        plain = [f if isinstance(f, Handle) else np.asarray(f) for f in found]
        recorded = Recorded(why, guards, tape, results, plain, self._build)
        name_values(recorded, self.function, tree)
        recorded.flat = not kwargs and all(isinstance(a, Place) for a in tree[0])
        given = put_together(results, [wrap(f.data.copy()) if isinstance(f, Handle) else f for f in found])
        left = tape.left_behind()
        del tape, result, found, plain
        recorded.unrepeatable = any(thing() is not None for thing in left)
        self._turn_to(None if recorded.unrepeatable else recorded)
        self._programs[key] = [*_repeatable(self._programs.get(key, [])), recorded]
        self._recorded = [*_repeatable(self._recorded), recorded]
        self._forget_idle()
        return given

    def _turn_to(self, recorded: Recorded | None) -> None:
        """Another program is the latest one."""
        if self._latest is not None and self._latest is not recorded:
            self._latest.rest()
        self._latest = recorded

    def _forget_idle(self) -> None:
        """Forget the first of too many programs that never ran again."""
        idle = [recorded for recorded in self._recorded if not recorded.runs]
        if len(idle) <= IDLE:
            return
        self._recorded.remove(idle[0])
        kept = {key: [r for r in found if r is not idle[0]] for key, found in self._programs.items()}
        self._programs = {key: found for key, found in kept.items() if found}
        self._forgotten += 1
        if self._forgotten == 1:
            name = getattr(self, "__name__", "a function")
            text = f"compile: {name} is recorded over and over, the last time because of {idle[-1].why}"
            warnings.warn(f"{text}; explain() says why each time", RuntimeWarning, stacklevel=4)

    def explain(self) -> str:
        """The number of programs; why each was recorded, how often it has been replayed, and its backend."""
        found = self._recorded
        name = getattr(self, "__name__", "a function")
        lines = [f"{name}: {len(found)} program{'s' * (len(found) != 1)}"]
        if self._forgotten:
            lines.append(f"  before them {self._forgotten} that never ran again, and are forgotten")
        for i, r in enumerate(found):
            lines.append(f"  {i}: {r.program!r}, run by {_backend(r.run)}")
            lines.append(f"     recorded because of {r.why}; replayed {r.runs} time{'s' * (r.runs != 1)}")
        floats = sum(r.why.startswith("another float") for r in found)
        if floats >= 2:
            lines.append("  a float argument keeps changing: pass it as a 0-d array, which is read anew at each call")
        return "\n".join(lines)

    def clear(self) -> None:
        """Forget every program."""
        with self._lock:
            self._programs.clear()
            self._recorded.clear()
            self._latest, self._forgotten = None, 0
            self._build = builder(self.backend)


def _backend(run: Any) -> str:
    """The name of the backend that made a function."""
    module: str = run.__module__.rpartition("compiler.")[2]
    return {"native.backend": "native", "numpy_backend": "numpy", "backends": "interpreter"}.get(module, module)


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
        return f"another float argument: {old[1]}, then {new[1]}"
    if old[0] is Place and new[0] is Place:
        return f"an array argument of {new[2]} {new[1]}, after {old[2]} {old[1]}"
    return "arguments of another structure or value"


def _objects(tree: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """`(where, what)` of everything in a structure."""
    if isinstance(tree, tuple | list | dict):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _objects(part, f"{where}[{key!r}]" if where else str(key))
        if type(tree) not in (tuple, list, dict):
            yield where, tree  # it may have attributes of its own
    else:
        yield where, tree


def _repeatable(found: list[Recorded]) -> list[Recorded]:
    """Those that may run again; others stay until there is a next one, to say why it was recorded."""
    return [recorded for recorded in found if not recorded.unrepeatable]


def _refuse_rebinding(guards: Guards, tape: Tape) -> None:
    """An attribute that now names a tensor of the step would keep that tensor at later runs."""
    reach = guards.reach
    read = [entry for entry in reach.written if isinstance(entry[2], Handle) and entry[2] in tape.outside]
    for table, name, before, where in [*reach.entries, *read]:
        after = table.get(name)
        if after is not before and isinstance(after, Handle) and not is_state(after) and tape.computed(after.data):
            raise RuntimeError(f"compile: {where} was bound to a new tensor in the step; write {where}.assign(value)")


def _refuse_arrays(tape: Tape) -> None:
    """What NumPy alone writes into a tensor, it would not write at later runs."""
    for tensor in tape.changed_by_numpy():
        name = tensor.name or f"a {tensor.data.dtype} tensor of shape {tensor.data.shape}"
        raise RuntimeError(
            f"compile: NumPy alone has changed .data of {name}, which later runs would not do; write "
            "tensor.assign(value), with a value computed from tensors"
        )


def _refuse_hidden(results: Any, tape: Tape) -> None:
    """A result in an object of one's own would be that of the recording at later runs."""
    for _, value in _objects(results, "result"):
        parts: list[Any] = [] if isinstance(value, Handle) else [*attributes(value).values()]
        if isinstance(value, Set | deque | ValuesView | ItemsView):
            parts += [part for _, part in _objects([*value])]
        hidden = any(isinstance(part, Handle) and not tape.stays(part) and tape.computed(part.data) for part in parts)
        if hidden or isinstance(value, Iterator):
            raise RuntimeError(
                f"compile: expected results in tuples, lists, dicts and named tuples, got a {type(value).__name__} "
                "with a tensor in it; make it of the results, outside of the step"
            )


def _refuse_gradients(tree: Any, results: list[Any]) -> None:
    """A gradient that someone outside asks for, by an argument that requires it, would be 0 without a word."""
    given = {a.node for _, a in _objects(tree) if isinstance(a, Handle) and isinstance(a.node, Leaf)}
    for result in results if given else ():
        nodes = behind([result.node]) if isinstance(result, Handle) and result.node is not None else []
        if not given.isdisjoint(nodes) and all(node.spent is None for node in nodes):
            raise RuntimeError(
                "compile: the result depends on an argument that requires grad, and no gradient flows through a call "
                "from outside; differentiate inside, as in tg.compile(tg.grad(f)), or return result.detach()"
            )


def compile(f: Any = None, *, backend: str = "auto", verify: int = 0) -> Any:
    """Record a function on its first call, and run that record, simplified and fused, on later ones; also a decorator.

    f: any function of Tensors and arrays, in nested tuples, lists and dicts, such as a training step with `backward`
        and `optimizer.step()`. It gets ndarrays as Tensors. Its state remains that of the original.
    backend: "native" (needs the extra of that name), "numpy", "interpreter", or "auto", the first that is available.
    verify: so many of the first replays are compared with the function itself.

    Returns a `Compiled`, which is called like f. It is recorded again when something that the recording depends on
    has changed; see `docs/compile.md`. Of the programs that were never replayed the latest 32 are kept. A
    RuntimeWarning says when there are more, and when f draws random numbers past `tg.random`. Raises RuntimeError
    if f reads a tensor's value during recording, if a result depends on an argument that requires grad, or if a
    verified replay differs; ValueError for an unknown backend; ImportError if it is not installed.
    """
    if f is None:
        return functools.partial(compile, backend=backend, verify=verify)
    if not callable(f):
        raise TypeError(f"compile: expected a function, got {describe(f)}")
    if runs_later(f):
        raise TypeError(f"compile: expected a function that returns its results, got a generator, {f.__name__}")
    return Compiled(f, backend, verify)
