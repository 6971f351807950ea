"""`name_values`: names for what a recorded program reads and leaves behind, as its user would call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..graph import Handle
from ..nn.state import named_state
from ..scope import Path
from .actions import Optimize
from .feeds import Argument, Gradient, Held, Slot, State
from .replay import Recorded
from .structure import Place


def name_values(recorded: Recorded, function: Callable[..., Any], arguments: Any) -> None:
    """Give inputs and outputs of a program that have no name yet one.

    arguments: the structure `(args, kwargs)` of the call. A parameter is called as the function reaches it,
    `model.0.weight`; what is computed for it, `grad of model.0.weight`, `new model.0.weight`."""
    tensors, numbers = dict(_tensors(recorded)), dict(_numbers(recorded))
    given = dict(_places(bound(function, arguments)))

    def name(source: Any) -> str | None:
        if isinstance(source, Argument):
            return given.get(source.number)
        if isinstance(source, Held):
            return numbers.get(id(source.array)) or tensors.get(id(source.array))
        if not isinstance(source, State | Slot | Gradient):
            return None
        own = source.tensor.name or tensors.get(id(source.tensor))
        if isinstance(source, State) or own is None:
            return own
        return f"{source.name if isinstance(source, Slot) else 'grad'} of {own}"

    program = recorded.program
    for value, source in zip(program.inputs, recorded.sources, strict=True):
        value.name = (isinstance(source, Slot) and name(source)) or value.name or name(source)
    results = sum(isinstance(place, int) for place in recorded.places)
    for i, (value, place) in enumerate(zip(program.outputs, recorded.places, strict=True)):
        found = name(place)
        if isinstance(place, int):
            found = f"result {place}" if results > 1 else "result"
        elif found is not None and i in program.updates:
            found = f"new {found}"
        value.name = value.name or found


def _tensors(recorded: Recorded) -> Iterator[tuple[int, str]]:
    """`(identity, name)` of the tensors of the modules that ran, and of tensors and arrays that are reached."""
    roots: dict[int, Path] = {}
    for step in recorded.program.body:
        path = step.path
        while path is not None and path.parent is not None:
            path = path.parent
        if path is not None:
            roots[id(path.module)] = path
    for path in roots.values():
        model = path.module()
        for name, tensor in (named_state(model) if model is not None else {}).items():
            yield id(tensor), f"{path}.{name}"
    for value, where in reversed([*recorded.guards.reach.named()]):  # the first name is the one that stays
        if isinstance(value, Handle | np.ndarray):
            yield id(value), where


def _numbers(recorded: Recorded) -> Iterator[tuple[int, str]]:
    """`(identity, name)` of the arrays in which optimizers' options arrive."""
    for action in recorded.actions.numbers:
        if isinstance(action, Optimize):
            for place, array in zip(action.places, action.results, strict=True):
                yield id(array), ".".join(map(str, place))


def bound(function: Callable[..., Any], arguments: Any) -> dict[str, Any]:
    """Arguments by the names that the function has for them."""
    args, kwargs = arguments
    try:
        return inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # these are too few or too many; some of NumPy's functions have no signature
        return dict(kwargs)


def _places(tree: Any, where: str = "") -> Iterator[tuple[int, str]]:
    """`(number, name)` of every array in a structure."""
    if isinstance(tree, Place):
        yield tree.number, where
    elif isinstance(tree, dict):
        for key, part in tree.items():
            yield from _places(part, f"{where}.{key}" if where else str(key))
    elif isinstance(tree, tuple | list):
        for i, part in enumerate(tree):
            yield from _places(part, f"{where}.{i}")
