"""The function under a gradient check: run at other values of its arguments, with no trace left behind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._source import describe
from .._tensor import Tensor
from ..graph import Array, Leaf, wrap
from ..random import generator
from ..scope import within
from .audit import frozen

Outputs = list[tuple[str, Tensor]]
Function = Callable[[list[Tensor]], Outputs]


@dataclass
class Argument:
    """What a gradient is checked for: an input, by its position, or a leaf that the function closes over."""

    name: str
    base: Array  # read-only, so that a kernel that writes into it fails
    position: int | None = None
    leaf: Tensor | None = None
    copied: bool = False


class Subject:
    """`f` with its inputs and the leaves of `wrt`."""

    def __init__(self, f: Callable[..., Any], inputs: Sequence[Any], wrt: Any) -> None:
        self.f, self.inputs, self.evaluations = f, inputs, 0
        names = _names(f, len(inputs))
        self.arguments = [a for i, x in enumerate(inputs) if (a := _input(x, i, names[i])) is not None]
        leaves = {id(t): (name, t) for name, t in _leaves(wrt, "wrt")}
        self.arguments += [Argument(name, t.data, leaf=t) for name, t in leaves.values()]
        for n, argument in enumerate(self.arguments):
            if argument.name in [a.name for a in self.arguments[:n]]:
                argument.name = f"{argument.name} ({n})"
        if not self.arguments:
            raise ValueError(
                f"gradcheck: expected a floating argument, got ({', '.join(map(describe, inputs))}) and "
                f"wrt={describe(wrt)}; pass floats, floating arrays or Tensors, or name leaves in wrt="
            )
        self.modules = [m for m in (f, getattr(f, "__self__", None), *_listed(wrt)) if _is_module(m)]
        state = [t for m in self.modules for walk in (m.named_parameters, m.named_buffers) for _, t in walk()]
        self.state = list({id(t): t for t in (*state, *(t for _, t in leaves.values()))}.values())
        self.data = [t.data for t in self.state]  # held here, so `assign` finds them shared and writes elsewhere

    def call(self, tensors: list[Tensor]) -> Outputs:
        """The floating outputs of f, named."""
        args = list(self.inputs)
        for argument, tensor in zip(self.arguments, tensors, strict=True):
            if argument.position is not None:
                args[argument.position] = tensor
        result = self.f(*args)
        outputs = list(_flatten(result, "output"))
        if not outputs:
            raise TypeError(
                f"gradcheck: f returned {describe(result)}; expected a floating Tensor, or a tuple, list or dict of "
                "them"
            )
        return outputs

    def run(self, function: Function, moved: int = -1, array: Array | None = None) -> tuple[list[Tensor], Outputs]:
        """The arguments as leaves, and the outputs; with one argument replaced by an array."""
        self.evaluations += 1
        for tensor, data in zip(self.state, self.data, strict=True):
            tensor.data = data
        leaf = self.arguments[moved].leaf
        if array is not None and leaf is not None:
            with within(replaying=False):  # `assign` does nothing inside f: what f keeps stays as it is
                leaf.assign(array)
        tensors = []
        for i, argument in enumerate(self.arguments):
            tensor = argument.leaf
            if tensor is None:
                tensor = wrap(frozen(argument.base if array is None or i != moved else array))
                tensor.requires_grad, tensor.name = True, argument.name
            tensors.append(tensor)
        return tensors, function(tensors)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Leave values, gradients, buffers and random generators as they were, whatever happens inside."""
        found = [v for m in self.modules for part in m.modules() for v in vars(part).values()]
        generators = {id(g): g for g in found if isinstance(g, np.random.Generator)}
        states = [(g, g.bit_generator.state) for g in generators.values()]
        drawn = generator().bit_generator.state
        leaves = [(t, t._grad, _stamp(t)) for t in self.state]
        writeable = [data.flags.writeable for data in self.data]
        try:
            for data in self.data:
                data.flags.writeable = False
            yield
        finally:
            for data, flag in zip(self.data, writeable, strict=True):
                data.flags.writeable = flag
            for (tensor, grad, stamp), data in zip(leaves, self.data, strict=True):
                tensor.data, tensor._grad = data, grad
                if stamp is not None and isinstance(tensor.node, Leaf):
                    tensor.node.stamp, tensor.node.written = stamp  # graphs recorded before are as good as ever
            generator().bit_generator.state = drawn
            for g, state in states:
                g.bit_generator.state = state


def _stamp(tensor: Tensor) -> Any:
    return (tensor.node.stamp, tensor.node.written) if isinstance(tensor.node, Leaf) else None


def _input(value: Any, position: int, name: str) -> Argument | None:
    """A floating input as an argument, a float64 copy of it; None for what is passed through."""
    data = value.data if isinstance(value, Tensor) else value
    if not isinstance(data, np.ndarray | np.floating | float) or np.asarray(data).dtype.kind != "f":
        return None
    array = np.asarray(data)
    name = getattr(value, "name", None) or name
    return Argument(name, frozen(np.array(array, np.float64, order="C")), position, copied=array.dtype != np.float64)


def _names(f: Callable[..., Any], count: int) -> list[str]:
    """The names of the first parameters of f, as far as it has names."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = list(getattr(f, "array_names", named)) or named
    return (named + [f"argument {i}" for i in range(len(named), count)])[:count]


def _is_module(value: Any) -> bool:
    return hasattr(value, "named_parameters") and hasattr(value, "named_buffers")


def _listed(wrt: Any) -> list[Any]:
    return list(wrt.values()) if isinstance(wrt, dict) else list(wrt) if isinstance(wrt, list | tuple) else [wrt]


def _leaves(wrt: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The leaves that `wrt` names: a Module's parameters that are not frozen, a leaf, or several of these."""
    if wrt is None:
        return
    if _is_module(wrt):
        for key, parameter in wrt.named_parameters():
            if parameter.requires_grad:
                yield key, _float64(parameter, key, "call model.astype('float64') first")
    elif isinstance(wrt, Tensor):
        name = wrt.name or name
        if not wrt.requires_grad or not wrt.is_leaf:
            raise ValueError(
                f"gradcheck: expected leaves that require grad in wrt, got {name} "
                + ("without requires_grad" if wrt.is_leaf else "that is the result of an operation")
            )
        yield name, _float64(wrt, name, "make it with dtype='float64'")
    elif isinstance(wrt, dict):
        for key, value in wrt.items():
            yield from _leaves(value, str(key))
    elif isinstance(wrt, list | tuple):
        for i, value in enumerate(wrt):
            yield from _leaves(value, f"{name}[{i}]")
    else:
        raise TypeError(f"gradcheck: expected a Module or leaves in wrt, got {describe(wrt)}")


def _float64(leaf: Tensor, name: str, remedy: str) -> Tensor:
    if leaf.dtype != np.float64:
        place = name if name.startswith("wrt") else f"{name} in wrt"
        raise TypeError(f"gradcheck: {place} is {leaf.dtype}, too coarse for differences; {remedy}")
    return leaf


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The floating Tensors of a result; plain numbers and arrays, which no gradient reaches, among them."""
    if isinstance(value, Tensor):
        if value.dtype.kind == "f":
            yield name, value
    elif isinstance(value, np.ndarray | np.floating | float):
        if np.asarray(value).dtype.kind == "f":
            yield name, wrap(np.asarray(value))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flatten(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _flatten(item, f"{name}[{i}]")
