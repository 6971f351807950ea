"""`written`: all that a run of a recorded program does in Python, as one function for this program alone.

It ends at once, with nothing done, where something is not as at the latest run. `python -m benchmarks budget` has what
its parts cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import graph, scope
from .._source import user_line
from .._tensor import Tensor
from ..graph import Leaf, next_order, wrap
from ..scope import watching
from .feeds import Changed
from .gradients import own_gradient
from .straight import Straight
from .structure import put_together

if TYPE_CHECKING:
    from .replay import Recorded

DEPTH = 4  # calls from the user's line, by way of a Compiled and a Recorded: to step back one by one takes 0.3 µs each


def written(recorded: Recorded) -> Callable[[Recorded, Sequence[Any]], Any]:
    """The function, of the recorded program and its arguments. It raises Changed, with nothing done."""
    text = Straight()
    text.otherwise = f"raise {text.name(Changed)}"
    with text.checks():
        _arguments(recorded, text)
        _state(recorded, text)
        recorded.actions.check(text)
    _inputs(recorded, text)
    with recorded.actions.counted(text):
        _draw(recorded, text)
        _look(recorded, text)
        recorded.gradients.write_freed(text)
        with text.block("try:"):
            _run(recorded, text)
        with text.block("except BaseException:"):
            text.lines += ["self.failed()", "raise"]
    _effects(recorded, text)
    text.lines.append("self.runs += 1")
    recorded.gradients.write_new(text, _result(recorded, text))
    return text.function("self, args", "result")


def _arguments(recorded: Recorded, text: Straight) -> None:
    """Are the arguments arrays as they were, and is all that the function names?"""
    names, inputs = [f"a{n}" for n in range(len(recorded.arguments))], recorded.program.inputs
    text.check(f"len(args) == {len(names)}")
    if names:
        text.lines.append(", ".join(names) + ", = args")
    if not recorded.flat:  # a Compiled has looked
        return
    for i, number in recorded.arguments:
        a, shape, dtype = names[number], text.name(inputs[i].shape), text.name(inputs[i].dtype)
        text.lines.append(f"if type({a}) is {text.name(Tensor)} and {a}.node is None: {a} = {a}.data")
        text.check(f"type({a}) is {text.name(np.ndarray)}", f"{a}.shape == {shape}")
        text.check(f"({a}.dtype is {dtype} or {a}.dtype == {dtype})")
    text.check(*(f"{text.name(tensor)}._grad is None" for tensor in recorded.without_grad))
    recorded.guards.check(text)


def _state(recorded: Recorded, text: Straight) -> None:
    """Has no state been replaced since the latest run, nor can it be seen by others?"""
    text.check(*(f"{text.name(table)}[{name!r}] is {text.name(tensor)}" for table, name, tensor in recorded.slots))
    if recorded.words:
        text.check(f"{text.name(recorded.words)}.same(0)")
    else:
        _each(recorded, text)
    for i, tensor in recorded.old_gradients:
        text.lines.append(f"g{i} = {text.name(tensor)}._grad")
        text.check(f"g{i} is not None")
    text.check(*(f"{text.name(tensor)}._grad is not None" for _, _, tensor in recorded.added_to))


def _each(recorded: Recorded, text: Straight) -> None:
    """The same of the values, one by one."""
    for arrays, tensors in (recorded.known, recorded.read), (recorded.owned, recorded.written):
        if tensors:
            text.lines.append(f"seen = {text.name(arrays)}")
            text.check(*(f"{text.name(tensor)}.data is seen[{n}]" for n, (_, tensor) in enumerate(tensors)))
    if recorded.written:
        text.check(f"[*map({text.name(getrefcount)}, seen)] == {text.name(recorded.alone)}")


def _inputs(recorded: Recorded, text: Straight) -> None:
    text.lines.append("arrays = self.arrays")
    text.lines += [f"arrays[{i}] = a{number}" for i, number in recorded.arguments]
    text.lines += [f"arrays[{i}] = g{i}.data" for i, _ in recorded.old_gradients]
    own = text.name(own_gradient)
    text.lines += [f"arrays[{j}] = {own}({text.name(tensor)})" for _, j, tensor in recorded.added_to]


def _draw(recorded: Recorded, text: Straight) -> None:
    for i, draw in recorded.draws:
        draw.write(text, f"arrays[{i}]")


def _look(recorded: Recorded, text: Straight) -> None:
    """Is the program watched; are most inputs the same arrays as before, so that it can use the same memory?"""
    run = recorded.run
    text.lines.append(f"watch = {text.name(scope)}.observers and {text.name(watching)}()")
    usual = "False"
    if hasattr(run, "usual"):
        moving = [i for i, _ in (*recorded.arguments, *recorded.draws, *recorded.old_gradients)]
        moving += [j for _, j, _ in recorded.added_to]
        usual = f"not watch and {run.usual(text, [*moving, *recorded.replaced.values()])}"
    text.lines.append(f"usual = {usual}")
    recorded.gradients.write_kept(text, "usual")


def _run(recorded: Recorded, text: Straight) -> None:
    """From `arrays` to `outputs`."""
    run: Any = recorded.run
    if hasattr(run, "usual"):
        with text.block("if usual:"):
            run.write(text, recorded.gradients.numbers)
        text.lines.append(f"elif not watch: outputs = {text.name(run)}.anew(arrays)")
    else:
        text.lines.append(f"if not watch: outputs = {text.name(run)}(arrays)")
    text.lines.append(f"else: outputs = watch.replay({text.name(recorded.program)}, {text.name(run)}, arrays)")


def _effects(recorded: Recorded, text: Straight) -> None:
    """State and gradients get their new values."""
    places = {i: n for n, (i, _) in enumerate(recorded.written)}
    owned, held = text.name(recorded.owned), text.name(recorded.held)
    for i, tensor in recorded.stores:
        if i in recorded.replaced:  # the next run reads it, and nobody else sees it
            number = recorded.replaced[i]
            known = f"{owned}[{places[number]}]"
            text.lines += [
                f"new = outputs[{i}]",
                f"if new is not {known}:",
                " new = new if new.flags.carray else new.copy()",
                f" {held}.discard(id({known}))",
                f" {text.name(tensor)}.data = {known} = arrays[{number}] = new",
                f" {held}.add(id(new))",
            ]
    leaves = [tensor for _, tensor in recorded.stores if isinstance(tensor.node, Leaf)]
    if leaves:
        text.lines.append(f"{text.name(graph)}.last_write = stamp = {text.name(next_order)}()")
        text.lines.append(f"line = {text.name(user_line)}({DEPTH})")
    for tensor in leaves:
        text.lines += [
            f"node = {text.name(tensor)}.node",
            "if node is not None: node.stamp, node.written = stamp, line",
        ]
    text.lines += [f"{text.name(tensor)}._grad = None" for tensor in recorded.cleared]
    for i, _, tensor in recorded.added_to:
        if i in recorded.replaced:
            text.lines.append(f"{text.name(tensor)}._grad.data = outputs[{i}]")
    read = [i for i, _ in recorded.old_gradients] + [j for _, j, _ in recorded.added_to]
    text.lines += [f"arrays[{i}] = None" for i in read]  # nobody else's, and free once they are cleared


def _result(recorded: Recorded, text: Straight) -> str:
    if recorded.single:
        return f"{text.name(wrap)}(outputs[0])"
    found = [f"outputs[{i}]" if raw else f"{text.name(wrap)}(outputs[{i}])" for i, raw in enumerate(recorded.raw)]
    return f"{text.name(put_together)}({text.name(recorded.results)}, [{', '.join(found)}])"
