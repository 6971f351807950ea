"""Nested tuples, lists and dicts of arguments and results: taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any

import numpy as np

from .._source import describe
from ..graph import Handle
from ..nn.state import is_state
from ..scope import current


class Place:
    """Stands in a structure for array number `number`; `raw` if it is a plain ndarray there."""

    __slots__ = ("number", "raw")

    def __init__(self, number: int, raw: bool) -> None:
        self.number, self.raw = number, raw


def take_apart(tree: Any, arrays: list[Any], stays: Callable[[Any], bool] = is_state) -> Any:
    """The structure with a Place for each array, which is appended to `arrays`; what `stays` is left as it is."""
    kind = type(tree)
    if kind is tuple:
        return tuple([take_apart(v, arrays, stays) for v in tree])
    if isinstance(tree, list):
        return _filled(tree, enumerate([take_apart(v, arrays, stays) for v in tree]))
    if isinstance(tree, dict):
        return _filled(tree, [(k, take_apart(v, arrays, stays)) for k, v in tree.items()])
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return kind(*[take_apart(v, arrays, stays) for v in tree])
    if isinstance(tree, Handle | np.ndarray | np.generic) and not stays(tree):
        arrays.append(tree)
        return Place(len(arrays) - 1, not isinstance(tree, Handle))
    return tree


def put_together(tree: Any, arrays: list[Any]) -> Any:
    """The structure with arrays in their places."""
    if isinstance(tree, Place):
        return arrays[tree.number]
    if isinstance(tree, tuple):
        parts = [put_together(v, arrays) for v in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, list):
        return _filled(tree, enumerate([put_together(v, arrays) for v in tree]))
    if isinstance(tree, dict):
        return _filled(tree, [(k, put_together(v, arrays)) for k, v in tree.items()])
    return tree


def _filled(tree: Any, parts: Iterable[tuple[Any, Any]]) -> Any:
    """A list or dict, or one of a kind of them, such as an OrderedDict, with other parts."""
    new = copy(tree)
    for key, part in parts:
        new[key] = part
    return new


def same_number(value: Any) -> Any:
    """What is equal only for numbers that compute the same: not for 0.0 and -0.0, but for two that are not a number."""
    return repr(value) if value != value or (isinstance(value, float | np.floating) and value == 0) else value


def signature(tree: Any, arrays: list[Any]) -> Any:
    """What must be the same for a program to fit: structure, shapes, dtypes, Python values, identities."""
    return tuple(_sign(tree, arrays))


def _sign(tree: Any, arrays: list[Any]) -> Iterator[Any]:
    kind = type(tree)
    if kind is Place:
        array = arrays[tree.number]
        if isinstance(array, Handle) and array.node is not None:
            raise TypeError(
                f"compile: expected arguments that require no grad, got the result {describe(array)}; use .detach()"
            )
        yield kind, array.shape, array.dtype
    elif kind is tuple or isinstance(tree, list) or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        yield kind, len(tree)
        for part in tree:
            yield from _sign(part, arrays)
    elif isinstance(tree, dict):
        yield kind, tuple(tree)
        for part in tree.values():
            yield from _sign(part, arrays)
    elif kind in (bool, int, float, str, bytes, type(None), np.dtype):
        yield kind, same_number(tree)
    elif isinstance(tree, Handle):  # state, by which someone outside may ask for a gradient
        yield kind, id(tree), current().recording
    else:
        yield kind, id(tree)
