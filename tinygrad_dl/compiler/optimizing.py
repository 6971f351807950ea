"""`optimize`: an optimizer's step is written down by running the rule of each parameter on Tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .._tensor import Tensor
from ..graph import Array, Leaf, wrap
from ..scope import within
from .actions import Optimize, structure
from .feeds import Held, Slot

if TYPE_CHECKING:
    from .tape import Tape

Ready = Sequence[tuple[Tensor, dict[str, Any]]]


class Number(Tensor):
    """An option of an optimizer that a later run reads anew. Whether it is zero is part of the program."""

    __slots__ = ()

    def __init__(self, data: Array) -> None:
        self.data, self.node, self.name, self._grad = data, None, None, None

    def __bool__(self) -> bool:
        return bool(self.data)


def optimize(tape: Tape, optimizer: Any, ready: Ready) -> None:
    """An optimizer's step: the rule of each parameter runs on Tensors and is written down."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            tape.read_grad(p)  # one that has none now may have one later
    if tape.made(optimizer):
        _once(tape, optimizer, ready)
        return
    for members, group in _alike(optimizer, ready):
        number = next(i for i, g in enumerate(optimizer.param_groups) if g is group)  # comparing compares Tensors
        action = Optimize(optimizer, number, members)
        tape.actions.numbers.append(action)
        options = _options(tape, action.options, iter(action.results))
        for p in members:
            _update(tape, optimizer, p, options)


def _once(tape: Tape, optimizer: Any, ready: Ready) -> None:
    """Of an optimizer that every run makes anew: it counts as it does now, and all of its numbers are fixed."""
    for p, group in ready:
        kept = optimizer.state[p]
        kept["step"] += 1
        for t in kept.values():
            if isinstance(t, Tensor) and tape.find(t.data) is None:
                tape.constant(t.data)
        _rule(tape, optimizer, p, {**group, **optimizer.constants(kept, group)})


def _options(tape: Tape, tree: Any, results: Iterator[Array]) -> Any:
    """Options as a rule gets them: numbers that may change as tensors, everything else as it is."""
    if isinstance(tree, dict):
        return {k: _options(tape, v, results) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_options(tape, v, results) for v in tree)
    if structure(tree) is not float:
        return tree
    held = next(results)
    number = Number(held.copy())
    tape.weak.add(tape.feed(number.data, Held(held)))
    return number


def _update(tape: Tape, optimizer: Any, p: Tensor, options: dict[str, Any]) -> None:
    for name, t in _tensors(optimizer, p).items():
        tape.slots[t] = Slot(optimizer, p, name)
        if tape.own_value(t) is None:
            tape.feed(t.data, tape.slots[t], name)
        tape.written.setdefault(t, tape.of_array(t.data))
    _rule(tape, optimizer, p, options)


def _tensors(optimizer: Any, p: Tensor) -> dict[str, Tensor]:
    return {k: t for k, t in optimizer.state[p].items() if isinstance(t, Tensor)}


def _rule(tape: Tape, optimizer: Any, p: Tensor, options: dict[str, Any]) -> None:
    tape.read_grad(p)
    tape.touch(p)
    new, kept = wrap(p.data), _tensors(optimizer, p)
    state = {name: wrap(t.data) for name, t in kept.items()}
    grad: Any = p._grad
    with within(recording=False):
        optimizer.update(new, grad, state, options)
    for name, t in kept.items():
        t.data = state[name].data
    p.data = new.data
    if isinstance(p.node, Leaf):
        p.node.overwritten()


def _alike(optimizer: Any, ready: Ready) -> Iterator[tuple[list[Tensor], Any]]:
    """Parameters of one group whose state holds the same numbers share the numbers that follow from them."""
    clusters: dict[Any, tuple[list[Tensor], Any]] = {}
    for p, group in ready:
        numbers = tuple((k, v) for k, v in optimizer.state[p].items() if not isinstance(v, Tensor))
        clusters.setdefault((id(group), numbers), ([], group))[0].append(p)
    return iter(clusters.values())
