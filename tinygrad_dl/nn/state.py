"""What a module's state is: one ordered walk finds it, one function writes it.

State is a matter of kind: a Parameter, frozen or not, a leaf that requires grad, or a Buffer. Any other
Tensor (a cached activation, a list of losses) is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._tensor import Tensor
from ..graph import Leaf, wrap

if TYPE_CHECKING:
    from .module import Module


class Parameter(Tensor):
    """A Tensor that training changes.

    data: as `tinygrad_dl.tensor` takes it. requires_grad: False freezes it; it keeps its name in the state."""

    is_state = True

    def __init__(self, data: Any, requires_grad: bool = True, dtype: Any = None) -> None:
        super().__init__(data, dtype, requires_grad)


class Buffer(Tensor):
    """A Tensor that is saved with a module but not trained, such as running statistics."""

    is_state = True

    def __init__(self, data: Any, dtype: Any = None) -> None:
        super().__init__(data, dtype)


def is_parameter(value: Any) -> bool:
    return isinstance(value, Parameter) or (isinstance(value, Tensor) and type(value.node) is Leaf)


def is_buffer(value: Any) -> bool:
    return isinstance(value, Buffer)


def items(value: Any) -> Iterator[tuple[str, Any]]:
    """The named parts of a module or container, in order."""
    if isinstance(value, dict):
        yield from ((key, part) for key, part in value.items() if isinstance(key, str))
    elif isinstance(value, tuple | list):
        yield from ((str(i), part) for i, part in enumerate(value))
    elif not isinstance(value, Tensor) and hasattr(value, "forward") and hasattr(value, "__dict__"):
        yield from value.__dict__.items()


def walk(root: Module, wanted: Callable[[Any], bool], every_name: bool = False) -> Iterator[tuple[str, Any]]:
    """`(dotted name, part)` of all wanted parts below and including root, in order of definition.

    A part that stands in two places is given once, under its first name; with `every_name`, under each.
    Cycles are allowed: what is being walked is not entered again."""
    from .module import Module

    given: set[int] = set()
    entered: set[int] = set()

    def visit(name: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
        if wanted(value) and (every_name or id(value) not in given):
            given.add(id(value))
            yield name, value
        closed = above if every_name else entered
        if id(value) in closed or not isinstance(value, Module | dict | list | tuple):
            return
        entered.add(id(value))
        for key, part in items(value):
            yield from visit(f"{name}.{key}" if name else key, part, (*above, id(value)))

    yield from visit("", root, ())


def state_dict(module: Module) -> dict[str, Tensor]:
    """The values of all parameters and buffers by dotted name; a shared one under each of its names."""
    found = walk(module, lambda v: is_parameter(v) or is_buffer(v), every_name=True)
    return {name: wrap(tensor.data) for name, tensor in found}


def load_state_dict(module: Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Write values by name. Everything is checked before the first write."""
    targets = dict(walk(module, lambda v: is_parameter(v) or is_buffer(v), every_name=True))
    missing = [name for name in targets if name not in state]
    unexpected = [name for name in state if name not in targets]
    kind = type(module).__name__
    if strict and (missing or unexpected):
        raise KeyError(f"{kind}.load_state_dict: {_difference(missing, unexpected)}")
    values: dict[int, tuple[str, Any]] = {}
    for name, tensor in targets.items():
        if name not in state:
            continue
        value = state[name]
        array = value.data if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != tensor.shape:
            raise ValueError(f"{kind}.load_state_dict: {name}: expected shape {tensor.shape}, got {array.shape}")
        if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
            raise TypeError(f"{kind}.load_state_dict: {name}: expected {tensor.dtype}, got {array.dtype}")
        first, other = values.setdefault(id(tensor), (name, array))
        if not np.array_equal(other, array, equal_nan=array.dtype.kind == "f"):
            raise ValueError(f"{kind}.load_state_dict: {first} and {name} are one tensor, but the state has two values")
    for name, tensor in targets.items():
        if id(tensor) in values and values[id(tensor)][0] == name:
            tensor.assign(values[id(tensor)][1])


def _difference(missing: list[str], unexpected: list[str]) -> str:
    parts = []
    for name in missing:
        near = difflib.get_close_matches(name, unexpected, 1)
        parts.append(f"no value for {name!r}" + (f" (the state has {near[0]!r})" if near else ""))
    parts += [f"no place for {name!r}" for name in unexpected]
    return "; ".join(parts) + "; pass strict=False to load the names that match"
