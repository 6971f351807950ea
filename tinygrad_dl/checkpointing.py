"""`checkpoint`: trade time for memory by computing a part of a model again in the backward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .autodiff import propagate
from .graph import Handle, Leaf, Node, next_order, wrap
from .primitive import Primitive
from .random import generator
from .scope import current, stand_ins, taping, within


def checkpoint(f: Callable[..., Any], *args: Any) -> Any:
    """`f(*args)`, without keeping f's intermediate results for the backward pass, which runs f again.

    args: Tensors, or anything else that f takes. f returns a Tensor or a tuple of Tensors, and may use parameters of a
        module. The second run gets the same random numbers, if this library draws them (not a NumPy generator of f's
        own), and updates no state: batch-norm statistics are updated once. It uses the modules' mode at that time, so
        call `eval()` after backward. Gradients of any order are those of `f(*args)`. Inside `functional_call`, which
        replaces tensors temporarily, everything is kept.
    Raises TypeError if f returns anything else.
    """
    if not current().recording or taping() is not None or stand_ins():  # a compiled step plans its own memory
        return f(*args)
    call = Checkpoint(f, args)
    start = next_order()
    with within(sources=call.noted):
        result = f(*args)
    outputs = result if isinstance(result, tuple) else (result,)
    for y in outputs:
        if not isinstance(y, Handle):
            raise TypeError(f"checkpoint: expected f to return Tensors, got {type(y).__name__}")
    parents = _boundary([y.node for y in outputs], start)
    if not parents:
        return result
    arrays = [_value(p, args) for p in parents]
    plain = tuple(y.data for y in outputs)
    return call._record(plain if isinstance(result, tuple) else plain[0], arrays, parents, {}, None, None, 2)


def _value(parent: Node, args: Sequence[Any]) -> Any:
    """What the second run will read of a parent: kept, so that an overwritten parameter is noticed."""
    if isinstance(parent, Leaf):
        tensor = parent.tensor()
        return parent if tensor is None else tensor.data
    return next((a.data for a in args if isinstance(a, Handle) and a.node is parent), parent)


def _as_now(arg: Any) -> Any:
    """A result as it is now, whatever `t *= v` makes of its handle later; leaves and anything else themselves."""
    return wrap(arg.data, arg.node) if isinstance(arg, Handle) and not isinstance(arg.node, Leaf) else arg


def _boundary(nodes: Sequence[Node | None], start: int) -> list[Node]:
    """The nodes older than `start` that these were computed from."""
    older: list[Node] = []
    stack, seen = list(nodes), set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.order < start:
            older.append(node)
        else:
            stack.extend(node.parents)
    return older


class Checkpoint(Primitive):
    """One call of `checkpoint`: its gradient comes from running the function again, recorded."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
        super().__init__(lambda *arrays: None, (None,), "checkpoint", elementwise=False)
        self.f, self.inputs, self.joint, self.drops = f, [_as_now(a) for a in args], True, ()
        self.bits = copy.deepcopy(generator().bit_generator)
        self.scope = current()
        self.named: dict[int, tuple[np.random.Generator, np.random.Generator]] = {}  # as found, by identity

    def noted(self, rng: np.random.Generator) -> np.random.Generator:
        """A generator that the first run names, after a copy for the second run."""
        outer = self.scope.sources
        source = rng if outer is None else outer(rng)
        self.named.setdefault(id(rng), (rng, copy.deepcopy(source)))
        return source

    def pull(self, node: Node, g: Any, targets: Sequence[Node | None], second: bool) -> Sequence[Any]:
        rng = np.random.Generator(copy.deepcopy(self.bits))
        place = {"module": self.scope.module, "path": self.scope.path}
        named = {key: copy.deepcopy(found) for key, (_, found) in self.named.items()}
        sources = lambda rng: named.get(id(rng), rng)
        with within(recording=True, replaying=True, generator=rng, sources=sources, **place):
            again = self.f(*[_as_now(a) for a in self.inputs])
        pairs = zip(again, g, strict=True) if isinstance(again, tuple) else [(again, g)]
        seeds = [
            (y.node, wrap(gy) if second and not isinstance(gy, Handle) else gy) for y, gy in pairs if gy is not None
        ]
        wanted = {p for p in targets if p is not None}
        found = propagate(seeds, second=second, retain=second, wanted=wanted, stop=True)
        return [p and found.get(p) for p in targets]
