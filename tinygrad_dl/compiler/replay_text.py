"""`written`: all that a run of a recorded program does in Python, as one function for this program alone.

It ends at once, with nothing done, where something is not as at the latest run. `python -m benchmarks budget` has what
its parts cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .. import graph, scope
from .._source import user_line
from .._tensor import Tensor
from ..graph import Array, Leaf, next_order, unshared, wrap
from ..scope import watching
from .feeds import Changed
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
        _free(recorded, text)
        with text.block("try:"):
            _run(recorded, text)
        with text.block("except BaseException:"):
            text.lines += ["self.failed()", "raise"]
    _effects(recorded, text)
    text.lines.append("self.runs += 1")
    return text.function("self, args", _result(recorded, text))


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
    for arrays, tensors in (recorded.known, recorded.read), (recorded.owned, recorded.written):
        if tensors:
            text.lines.append(f"seen = {text.name(arrays)}")
            text.check(*(f"{text.name(tensor)}.data is seen[{n}]" for n, (_, tensor) in enumerate(tensors)))
    if recorded.written:
        text.check(f"[*map({text.name(getrefcount)}, seen)] == {text.name(recorded.alone)}")
    for i, tensor in recorded.old_gradients:
        text.lines.append(f"g{i} = {text.name(tensor)}._grad")
        text.check(f"g{i} is not None")
    text.check(*(f"{text.name(tensor)}._grad is not None" for _, _, tensor in recorded.added_to))


def _inputs(recorded: Recorded, text: Straight) -> None:
    text.lines.append("arrays = self.arrays")
    text.lines += [f"arrays[{i}] = a{number}" for i, number in recorded.arguments]
    text.lines += [f"arrays[{i}] = g{i}.data" for i, _ in recorded.old_gradients]
    own = text.name(own_gradient)
    text.lines += [f"arrays[{j}] = {own}({text.name(tensor)})" for _, j, tensor in recorded.added_to]


def own_gradient(tensor: Tensor) -> Array:
    """The array of its gradient, which a run may write over: a copy, if somebody else has it."""
    grad = cast(Tensor, tensor._grad)
    if getrefcount(grad) != _ALONE or grad.node is not None or not unshared(grad) or not grad.data.flags.carray:
        tensor._grad = grad = wrap(grad.data.copy())
    return grad.data


def _alone() -> int:
    tensor = wrap(np.empty(1))
    tensor._grad = wrap(np.empty(1))
    grad = tensor._grad
    return getrefcount(grad)


_ALONE = _alone()  # how many refer to a gradient there if nobody else does; differs between Python's versions


def _draw(recorded: Recorded, text: Straight) -> None:
    for i, draw in recorded.draws:
        draw.write(text, f"arrays[{i}]")


def _free(recorded: Recorded, text: Straight) -> None:
    """Let go of gradients' arrays, whose memory may be used again, and of gradients that others have."""
    probe = wrap(np.empty(1))
    probe._grad = wrap(np.empty(1))
    count, nothing = text.name(getrefcount), text.name(np.empty(0))
    if recorded.gradients:
        text.lines += [f"grad = {text.name(probe)}._grad", f"alone = {count}(grad)"]
    for _, tensor in recorded.gradients:
        text.lines += [
            f"grad = {text.name(tensor)}._grad",
            f"if grad is not None and {count}(grad) == alone and grad.node is None: grad.data = {nothing}",
            f"else: {text.name(tensor)}._grad = None",
        ]


def _run(recorded: Recorded, text: Straight) -> None:
    """From `arrays` to `outputs`."""
    run = recorded.run
    text.lines.append(f"watch = {text.name(scope)}.observers and {text.name(watching)}()")
    with text.block("if watch:"):
        text.lines.append(f"outputs = watch.replay({text.name(recorded.program)}, {text.name(run)}, arrays)")
    with text.block("else:"):
        if hasattr(run, "write"):  # a quicker way, if most inputs are the same arrays
            moving = [i for i, _ in (*recorded.arguments, *recorded.draws, *recorded.old_gradients)]
            moving += [j for _, j, _ in recorded.added_to]
            run.write(text, [*moving, *recorded.replaced.values()])
        else:
            text.lines.append(f"outputs = {text.name(run)}(arrays)")


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
    for i, tensor in recorded.gradients:
        text.lines += [
            f"grad = {text.name(tensor)}._grad",
            f"if grad is None: {text.name(tensor)}._grad = {text.name(wrap)}(outputs[{i}])",
            f"else: grad.data = outputs[{i}]",
        ]
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
