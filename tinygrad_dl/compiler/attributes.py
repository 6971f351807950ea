"""What attributes an object has, without asking it: somebody's own object may do anything when it is asked."""

from __future__ import annotations

import functools
from types import MemberDescriptorType
from typing import Any


def table_of(value: Any) -> Any:
    """The attributes of an object, without asking it."""
    if isinstance(value, type):
        return value.__dict__
    try:
        table = object.__getattribute__(value, "__dict__")
    except Exception:  # it has none, or a property of this name that fails
        return {}
    return table if type(table) is dict else {}


def attributes(value: Any) -> dict[str, Any]:
    """Those of an object itself, by name, without asking it."""
    return {name: getattr(value, name, None) for name in slots_of(value)} | dict(table_of(value))


def slots_of(value: Any) -> frozenset[str]:
    """The names of its slots, set or not."""
    kind: Any = type(value)
    return _members(kind)


@functools.lru_cache(maxsize=1024)
def _members(kind: type) -> frozenset[str]:
    tables = [each.__dict__ for each in kind.__mro__]
    return frozenset(name for table in tables for name in table if isinstance(table[name], MemberDescriptorType))


@functools.lru_cache(maxsize=1024)
def defaults_of(kind: type) -> frozenset[str]:
    """What objects of a class have from it unless they get their own."""
    return frozenset(name for each in kind.__mro__[:-1] for name in each.__dict__ if not name.startswith("__"))


class Slots:
    """The attributes of an object that are in no table, as if they were: slots, the code of a function, the class."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __contains__(self, name: str) -> bool:
        return hasattr(self.value, name)

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self.value, name, default)
