"""What a module's state is: one ordered walk finds it, one function reads it and one writes it.

State is a matter of kind: a Parameter, frozen or not, a leaf that requires grad, or a Buffer. Any other
Tensor (a cached activation, a list of losses) is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._source import describe
from .._tensor import Tensor
from ..graph import Leaf


class Parameter(Tensor):
    """A Tensor that training changes.

    data: as `tinygrad_dl.tensor` takes it. requires_grad: False freezes it; it stays in the state, under its name.
    """

    __slots__ = ()
    _is_state = True

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad=requires_grad)


class Buffer(Tensor):
    """A Tensor that is saved with a module but not trained, such as running statistics."""

    __slots__ = ()
    _is_state = True

    def __init__(self, data: Any) -> None:
        super().__init__(data)


class Holder:
    """What the walk enters besides lists, tuples and dicts: the base of Module."""


def is_parameter(value: Any) -> bool:
    return isinstance(value, Parameter) or (
        isinstance(value, Tensor) and type(value.node) is Leaf and not isinstance(value, Buffer)
    )


def is_buffer(value: Any) -> bool:
    return isinstance(value, Buffer)


def is_state(value: Any) -> bool:
    return isinstance(value, Tensor) and value._is_state


def items(value: Any) -> list[tuple[str, Any]]:
    """The named parts of a module or container, in order; none of anything else."""
    if isinstance(value, Holder):
        return [(name, part) for name, part in vars(value).items() if name != "_path"]
    if isinstance(value, dict):
        return [(key, part) for key, part in value.items() if isinstance(key, str)]
    if isinstance(value, list | tuple):
        return [(str(i), part) for i, part in enumerate(value)]
    return []


def walk(root: Holder, wanted: Callable[[Any], bool], every_name: bool = False) -> Iterator[tuple[str, Any]]:
    """`(dotted name, part)` of all wanted parts below and including root, in order of definition.

    A part that stands in two places is given once, under its first name; with `every_name`, under each.
    Cycles are allowed: what is being walked is not entered again."""
    given: set[int] = set()
    entered: set[int] = set()

    def visit(name: str, value: Any) -> Iterator[tuple[str, Any]]:
        if wanted(value) and (every_name or id(value) not in given):
            given.add(id(value))
            yield name, value
        parts = items(value)
        if not parts or id(value) in entered:
            return
        entered.add(id(value))
        for key, part in parts:
            yield from visit(f"{name}.{key}" if name else key, part)
        if every_name:
            entered.remove(id(value))

    yield from visit("", root)


def named_state(module: Holder) -> dict[str, Tensor]:
    """The parameters and buffers by dotted name, a shared one under each of its names.

    Raises ValueError if two have one name (a dict's key may contain a dot)."""
    found: dict[str, Tensor] = {}
    for name, tensor in walk(module, is_state, every_name=True):
        if found.setdefault(name, tensor) is not tensor:
            raise ValueError(f"{type(module).__name__}: two tensors have the name {name!r}; rename a dict's key")
    return found


def state_dict(module: Holder) -> dict[str, Tensor]:
    """The values of all parameters and buffers. They share memory, which `assign` will not overwrite."""
    return {name: tensor.detach() for name, tensor in named_state(module).items()}


def load_state_dict(module: Holder, state: Mapping[str, Any], strict: bool = True) -> None:
    """Write values by name. Everything is checked, and cast, before the first write."""
    who = f"{type(module).__name__}.load_state_dict"
    if not isinstance(state, Mapping):
        raise TypeError(f"{who}: expected a dict of arrays by name, got {describe(state)}; of a file, tg.load(path)")
    targets = named_state(module)
    missing, unexpected = [n for n in targets if n not in state], [n for n in state if n not in targets]
    if strict and (missing or unexpected):
        raise KeyError(f"{who}: {_difference(missing, unexpected)}; strict=False loads the names that match")
    values: dict[Tensor, tuple[str, Any]] = {}
    for name, tensor in targets.items():
        if name not in state:
            continue
        value = state[name]
        array = value.data if isinstance(value, Tensor) else np.asarray(value)
        if array.shape != tensor.shape:
            raise ValueError(f"{who}: {name}: expected shape {tensor.shape}, got {array.shape}")
        if not np.can_cast(array.dtype, tensor.dtype, "same_kind"):
            raise TypeError(f"{who}: {name}: expected {tensor.dtype}, got {array.dtype}")
        array = array.astype(tensor.dtype)
        first, other = values.setdefault(tensor, (name, array))
        if not np.array_equal(other, array, equal_nan=array.dtype.kind == "f"):
            raise ValueError(f"{who}: {first} and {name} are one tensor, but the state has two values for it")
    named = [(state[name], array) for name, array in values.values()]
    kept = [value.detach() if isinstance(value, Tensor) else array for value, array in named]  # before any is written
    for tensor, value in zip(values, kept, strict=True):
        tensor.assign(value)


def nearest(name: str, names: Sequence[str]) -> str:
    """` (did you mean 'weight'?)`, or nothing."""
    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _difference(missing: list[str], unexpected: list[str], most: int = 8) -> str:
    lines = [f"no value for {name!r}{nearest(name, unexpected)}" for name in missing]
    lines += [f"no place for {name!r}{nearest(name, missing)}" for name in unexpected]
    return "; ".join(lines[:most]) + (f"; and {len(lines) - most} more" if len(lines) > most else "")
