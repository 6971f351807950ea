"""One recorded operation at its real inputs, to be run and differentiated by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from .._source import describe_line
from .._tensor import Tensor
from ..autodiff import propagate
from ..checkpointing import Checkpoint
from ..graph import Array, Leaf, Node, Output, is_floating, wrap
from ..primitive import Primitive
from .audit import at, frozen
from .differences import norm

STEP = 1e-6  # of the size of each element
SHIFTS = 7  # arguments that move each in its own way
SAMPLE = 2**14  # elements of a large elementwise operation that are looked at closely
ZEROS = 2**10  # zeros among them, of each argument: there are kinks
SPREAD = 0.1  # of each element: how far apart points nearby are
ALIKE = 1e-2  # relative: what float32 may make of a value
PERIOD = 8191  # random numbers, then the same again: a prime, which fits no axis


class Operation:
    """An operation with its arguments, read-only and floating ones in one precision. live: those that a gradient is
    for."""

    outputs: list[Tensor]  # once `record` has run

    def __init__(self, node: Node, given: Sequence[Any], precision: type[np.floating[Any]] = np.float64) -> None:
        op: Any = node.primitive
        self.node, self.static = node, node.static
        self.op: Primitive = op
        self.given, self.precision = given, precision
        self.output: Any = node.output  # as it was recorded, if it was kept
        self.live = [i for i, parent in enumerate(node.parents) if parent is not None]
        self.outputs = []

    @cached_property
    def args(self) -> list[Any]:
        """The arguments as they are run on."""
        return [frozen(a.astype(self.precision, copy=False)) if is_floating(a) else a for a in self.given]

    def single(self) -> Operation | None:
        """The same in float32, if that is what it was given and it takes several matrices together, as a product
        does."""
        given = [a for a in self.given if is_floating(a)]
        if self.op.elementwise or sum(a.ndim > 1 for a in given) < 2 or any(a.dtype != np.float32 for a in given):
            return None
        return Operation(self.node, self.given, np.float32)

    def sample(self) -> Operation | None:
        """The same on some of its elements, where each result depends on one element of each argument: what moves in
        a direction in which only these do. They are chosen at random, but for zeros and extremes. None where all are
        to be looked at: if they are few, not all finite, or not what the arguments give now."""
        shape = self.node.shape
        size, arrays = math.prod(shape), [a for a in self.given if isinstance(a, np.ndarray)]
        if not self.op.elementwise or size <= 2 * SAMPLE or any(a.shape not in (shape, ()) for a in arrays):
            return None
        try:
            (again,) = self.values([frozen(a) for a in self.given])
        except Exception:
            return None
        if not np.isfinite(again).all() or (self.output is not None and not np.array_equal(again, self.output)):
            return None
        zeros = [np.flatnonzero(a == 0)[:ZEROS] for a in arrays if a.ndim]
        extremes = [place for a in arrays if a.ndim for place in (a.argmin(), a.argmax())]
        chosen = np.concatenate([np.random.default_rng(0).integers(0, size, SAMPLE), *zeros, extremes])
        sampled = Operation(self.node, [_taken(a, chosen) for a in self.given])
        sampled.output = _taken(self.output, chosen)
        self.outputs = [wrap(again)]
        return sampled

    @property
    def place(self) -> str:
        """`tanh (train.py:12, in f: y = np.tanh(x))`."""
        return at(self.node)

    def values(self, args: Sequence[Any]) -> list[Array]:
        """The floating outputs at other arguments."""
        y = self.op.forward(*args, **self.static)[0] if self.op.forward else self.op.kernel(*args, **self.static)
        arrays = map(np.asarray, y if isinstance(y, tuple) else (y,))
        return [a for a in arrays if a.dtype.kind == "f"]

    def record(self) -> list[Tensor]:
        """Run it again, recorded, with the live arguments as leaves, which are returned."""
        args = list(self.args)
        for i in self.live:
            args[i] = wrap(args[i])
            args[i].requires_grad = True
        result = self.op(*args, **self.static)
        self.outputs = list(result) if isinstance(result, tuple) else [result]
        return [args[i] for i in self.live]

    @property
    def floating(self) -> list[Tensor]:
        """The outputs, once recorded, that have a gradient."""
        return [y for y in self.outputs if y.dtype.kind == "f"]

    def gradients(self, leaves: Sequence[Tensor], weights: Sequence[Array]) -> list[Any]:
        """By the rules, as the engine runs them, in the order of the live arguments; None where none arrives."""
        seeds = [(y.node, w) for y, w in zip(self.floating, weights, strict=True) if y.node is not None]
        found = propagate(seeds, retain=True)
        return [found.get(leaf.node) for leaf in leaves]  # type: ignore[arg-type]

    def along(self, steps: Sequence[Array | None], t: float) -> list[Array]:
        """The floating outputs with the live arguments moved by t steps; one whose step is None is held."""
        args = list(self.args)
        for i, step in zip(self.live, steps, strict=True):
            if step is not None:
                args[i] = args[i] + step if t == 1 else args[i] - step if t == -1 else args[i] + t * step
        return self.values(args)


class Randomness:
    """Random numbers from a seed: the same ones for all operations. size: that of the largest output, if known."""

    def __init__(self, seed: int, size: int = 0) -> None:
        self.seed, self.size = seed, size
        self._blocks: dict[Any, Array] = {}
        self._weights: dict[Any, Array] = {}

    def weights(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Incoming gradients: none near zero, none 1, so that a rule that forgets to multiply by them shows."""
        size = math.prod(shape)
        if dtype not in self._weights or self._weights[dtype].size < size:
            size = max(size, self.size)
            self._weights[dtype] = frozen(np.resize(self._numbers(0, size, dtype), size))
        return self._weights[dtype][: math.prod(shape)].reshape(shape)

    def step(self, array: Array, n: int) -> Array:
        """How each element of argument n moves: by a share of its size, up or down; a zero by a share of the typical
        size, or of 1 if that is less. The share is one that keeps float64 from crossing zero; in float32 about 1,
        which rounding does not drown."""
        values = array.ravel()
        if not values.all():
            typical = array.dtype.type(math.sqrt(np.vdot(values, values) / values.size) or 1.0)
            values = np.where(values, np.abs(values), min(typical / 16, 1))
        numbers = self._numbers(1 + n % SHIFTS, values.size, array.dtype)
        steps = numbers if array.dtype == np.float32 else STEP * numbers
        whole = values.size // PERIOD * PERIOD
        moves = np.empty_like(values)
        if whole:
            np.multiply(values[:whole].reshape(-1, PERIOD), steps, out=moves[:whole].reshape(-1, PERIOD))
        np.multiply(values[whole:], steps[: values.size - whole], out=moves[whole:])
        return moves.reshape(array.shape)

    def _numbers(self, start: int, size: int, dtype: Any) -> Array:
        """So many of them, at most a period."""
        size = min(size, PERIOD)
        block = self._blocks.get(dtype)
        if block is None or block.size < start + size:
            drawn = 1.6 * np.random.default_rng(self.seed).random(min(max(size, self.size), PERIOD) + 1 + SHIFTS) - 0.8
            block = self._blocks[dtype] = (drawn + np.copysign(1.1, drawn)).astype(dtype)
        return block[start : start + size]


def operations_of(nodes: Sequence[Node]) -> Iterator[Operation | tuple[Node, str]]:
    """The operations among nodes, in the order in which they ran, or why one cannot be run again.

    An argument that the graph did not keep is the output of an operation before, if that has been recorded again."""
    values: dict[Node, Any] = {}
    for node in nodes:
        if type(node) is Leaf:
            tensor = node.tensor()
            values[node] = None if tensor is None else tensor.data
        elif type(node) is Output:
            outputs = values.get(node.operation)
            values[node] = outputs[node.index] if outputs else node.output
        elif (reason := _missing(node, values)) is not None:
            values[node] = node.output
            yield node, reason
        else:
            args = [values[a] if isinstance(a, Node) else a for a in node.args]
            operation = Operation(node, args)
            yield operation
            found = [y.data for y in operation.outputs]
            value = next(iter(found), None) if node.output is None else node.output
            values[node] = found if node.several else value


def _missing(node: Node, values: dict[Node, Any]) -> str | None:
    if isinstance(node.primitive, Checkpoint):
        return "a checkpoint is not looked into; to check what is inside, call its function without tg.checkpoint"
    for arg in node.args:
        if type(arg) is Leaf and arg.stamp > node.order and arg.written is not None:
            return f"{arg.name or 'its argument'} was overwritten since, at {describe_line(arg.written)}"
        if isinstance(arg, Node) and values.get(arg) is None:
            return "the value of an argument that no rule reads is gone"
    return None


def nearby(array: Any, rng: np.random.Generator) -> Any:
    """Another point, of the same signs."""
    if not is_floating(array):
        return array
    typical = norm(array) / np.sqrt(max(1, array.size)) or 1.0
    moved = array * rng.uniform(1 - SPREAD, 1 + SPREAD, array.shape)
    moved = np.where(array, moved, typical * SPREAD * rng.standard_normal(array.shape))
    return frozen(moved.astype(array.dtype, copy=False))


def changed(operation: Operation) -> bool:
    """Is the recorded output no longer what the recorded arguments give?"""
    y, outputs = operation.output, operation.outputs
    if not isinstance(y, np.ndarray) or y.dtype == np.float16:
        return False
    if largest(y - outputs[0].data) <= ALIKE * largest(y):
        return False
    dtypes = [parent and parent.dtype for parent in operation.node.parents]
    args = [a if dtype is None else a.astype(dtype) for a, dtype in zip(operation.args, dtypes, strict=True)]
    again = operation.values(args)[0]  # rounded as it was the first time
    return largest(y - again) > ALIKE * max(map(largest, (y, *filter(is_floating, operation.args))))


def half_read(operation: Operation, i: int) -> bool:
    """Is the argument a symmetric matrix of which the kernel reads one half? Then its derivative is that along
    symmetric directions."""
    a = operation.args[i]
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not np.array_equal(a, a.swapaxes(-1, -2)):
        return False
    ones, centre = np.ones(a.shape[-2:]), operation.values(operation.args)
    for half in (np.triu(ones, 1), np.tril(ones, -1)):
        moved = operation.values([*operation.args[:i], a + half, *operation.args[i + 1 :]])
        if all(map(np.array_equal, centre, moved)):
            return True
    return False


def largest(values: Array) -> float:
    return max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))


def _taken(value: Any, chosen: Array) -> Any:
    return value.reshape(-1)[chosen] if isinstance(value, np.ndarray) and value.ndim else value
