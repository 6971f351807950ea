"""One step of training on a batch, run and recorded to be looked at; afterwards everything is as it was before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._tensor import Tensor
from ..graph import Array, Leaf, Node, next_order
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..random import generator
from ..scope import within
from .flow import ancestors, below, gradients_of
from .history import Recorded

_CHANGEABLE = (Module, Tensor, list, dict, set, np.ndarray, np.random.Generator)
MOVING = {"reshape", "transpose", "swapaxes", "moveaxis", "squeeze", "expand_dims", "ravel", "astype", "copy"}


class Product(NamedTuple):
    """A layer's product of inputs and weights. units: the axis of the weight that counts them; the other sums."""

    node: Node
    weight: Leaf
    units: int


class Rehearsal:
    """The graph, the values and the gradients of a step: `loss(model(*inputs), target)`, backwards, no update.

    Where an earlier backward has freed a part of the graph, there are no gradients."""

    def __init__(self, model: Module, batch: Sequence[Any], loss: Callable[..., Any], optimizer: Optimizer) -> None:
        self.model, self.optimizer, self._loss = model, optimizer, loss
        self.inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in batch]
        self.held = [p for group in optimizer.param_groups for p in group["params"]]
        self.parameters = dict(model.named_parameters())
        self._generator = copy.deepcopy(generator())
        self.began = next_order()
        self._outside = [*self.inputs, *self.held]
        with untouched((model, loss), self._outside):
            self.loss = self._run()
        self.graph = Recorded()
        self.nodes = sorted(ancestors(self.loss.node), key=lambda n: n.order)
        self.users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for parent in filter(None, below(node)):
                self.users[parent].append(node)
        self.products = [p for p in map(_product, self.nodes) if p is not None]
        self.layers = list({p.weight: p for p in reversed(self.products)}.values())[::-1]  # each where it first runs

    def _run(self) -> Tensor:
        """The loss, with the random draws of every other run."""
        *inputs, target = self.inputs
        with within(recording=True, generator=copy.deepcopy(self._generator)), np.errstate(all="ignore"):
            value = self._loss(self.model(*inputs), target)
        if not isinstance(value, Tensor):
            raise TypeError(f"doctor: expected loss(output, target) to give a Tensor, got {type(value).__name__}")
        if value.size != 1:
            raise ValueError(f"doctor: expected a loss of one element, got shape {value.shape}; take the mean or sum")
        return value

    def loss_with(self, values: Mapping[Tensor, Array]) -> float:
        """The loss of the same batch and the same random draws, with other values of parameters."""
        with untouched((self.model, self._loss), self._outside):
            for p, value in values.items():
                p.data = value
            return float(self._run().data.item())

    @cached_property
    def gradients(self) -> dict[Node, Array]:
        """The gradient of every value that has one."""
        if self.loss.node is None or any(node.operation.spent is not None for node in self.nodes):
            return {}
        return gradients_of(self.loss, set(self.nodes))

    @cached_property
    def updates(self) -> dict[Tensor, Array]:
        """The values of the optimizer's parameters after its step, which a copy of it takes."""
        twin = copy.deepcopy(self.optimizer)
        pairs = list(zip(self.held, (p for group in twin.param_groups for p in group["params"]), strict=True))
        for p, double in pairs:
            g = None if p.node is None else self.gradients.get(p.node)
            double.grad = None if g is None else Tensor(g)
        if all(double.grad is None for _, double in pairs):
            return {}
        with np.errstate(all="ignore"):
            twin.step()
        return {p: double.data for p, double in pairs}

    @property
    def steps(self) -> int:
        """How many steps the optimizer has taken."""
        return max((state.get("step", 0) for state in self.optimizer.state.values()), default=0)

    def value(self, node: Node) -> Any:
        """A node's value, or None if it is no longer known."""
        return self.graph.value(node)

    def operand(self, node: Node, position: int) -> Any:
        """The value of an operation's operand."""
        return self.graph.operation(node).operands[position].array

    def name(self, p: Any) -> str:
        """What to call a parameter, or its leaf."""
        tensor = p.tensor() if isinstance(p, Leaf) else p
        own = next((name for name, other in self.parameters.items() if other is tensor), None)
        return repr(own or p.name) if own or p.name else f"a parameter {p.shape}"

    def called(self, *names: str) -> Iterator[Node]:
        """The results of the operations of these names; of several results, the first."""
        return (n for n in self.nodes if title(n) in names and getattr(n, "index", 0) == 0)


def title(node: Node) -> str:
    """The name of the operation that gave a value; "" for a leaf."""
    op = node.operation.primitive
    return "" if op is None else op.name


def kind(node: Node) -> str:
    """An operation's name; "relu" also for np.maximum(x, 0), and "selu" for an ELU with its α."""
    name = title(node)
    if name == "maximum" and any(isinstance(a, int | float) and a == 0 for a in node.args):
        return "relu"
    return "selu" if name == "elu" and node.static["alpha"] > 1.6 else name


def source(node: Node | None, through: Iterable[str] = ()) -> Node | None:
    """The value that this one was before it was reshaped, moved or cast, or went through certain operations."""
    passed = {*MOVING, *through}
    while node is not None and title(node) in passed:
        node = below(node)[0]
    return node


def _product(node: Node) -> Product | None:
    if title(node) not in ("linear", "matmul"):
        return None
    weight = below(node)[1]
    units = 0 if title(node) == "linear" else 1
    if weight is not None and title(weight) == "transpose":
        weight, units = below(weight)[0], 1 - units
    known = isinstance(weight, Leaf) and len(weight.shape) == 2 and weight.tensor() is not None
    return Product(node, weight, units) if known else None  # type: ignore[arg-type]


@contextmanager
def untouched(parts: Iterable[Any], tensors: Iterable[Tensor]) -> Iterator[None]:
    """Leave modules, with all that they hold, and tensors as they are, whatever happens inside: values, gradients,
    modes, attributes, arrays, lists, dicts and sets, random generators."""
    modules = [part for part in parts if isinstance(part, Module)]
    before = [(part, _contents(part)) for part in [*_changeable(modules), *tensors]]
    try:
        yield
    finally:
        for part, contents in before:
            _put_back(part, contents)


def _changeable(roots: Iterable[Any]) -> list[Any]:
    """All that modules hold, at any depth, which can be changed in place."""
    found: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        part = waiting.pop()
        if id(part) in found or not isinstance(part, (*_CHANGEABLE, tuple)):
            continue
        found[id(part)] = part
        inside = vars(part) if isinstance(part, Module) else part
        waiting += inside.values() if isinstance(inside, dict) else inside if isinstance(inside, list | tuple) else ()
    return [part for part in found.values() if isinstance(part, _CHANGEABLE)]


def _contents(part: Any) -> Any:
    if isinstance(part, np.ndarray):
        return part.copy()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    if isinstance(part, Tensor):
        leaf = part.node if isinstance(part.node, Leaf) else None
        return part.data, part.node, part._grad, leaf and (leaf.stamp, leaf.written, leaf.output)
    return copy.copy(part if isinstance(part, list | dict | set) else vars(part))


def _put_back(part: Any, contents: Any) -> None:
    if isinstance(part, np.ndarray):
        if part.flags.writeable:
            part[...] = contents
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = contents
    elif isinstance(part, Tensor):
        part.data, part.node, part._grad, written = contents
        if isinstance(part.node, Leaf):
            part.node.stamp, part.node.written, part.node.output = written
    elif isinstance(part, list):
        part[:] = contents
    else:
        held = part if isinstance(part, dict | set) else vars(part)
        held.clear()
        held.update(contents)
