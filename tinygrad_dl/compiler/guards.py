"""What a recorded program took for granted of the Python around it, checked before each later run.

Seen is what the function's code leads to (`reach.py`): what closure cells and globals hold, the attributes of modules,
which parameters are frozen, and which an optimizer has. Numbers in `param_groups` are read anew at each run instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from types import CellType
from typing import Any

from .. import scope
from .._source import shortened
from .attributes import Slots
from .reach import MISSING, PLAIN, Reach, content, kind, size
from .straight import Straight
from .structure import same_number

_EMPTY = CellType()
LONG = 256  # more are looked at in a loop: each one that is written out has to be compiled
_EQUAL = (*PLAIN, tuple)  # which may come as another object


class Guards:
    """The state of what a function reaches, at the time of its making."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self._prepare()

    def _prepare(self) -> None:
        """Note how things are now."""
        self.changes = scope.changes
        same = Straight()
        with same.checks():
            self.check(same)
        self._same = same.function()

    def check(self, same: Straight) -> None:
        """Write out the question whether everything is the same object, besides what only a change that has been
        counted can have replaced."""
        reach = self.reach
        same.check(f"{same.name(scope)}.changes == {same.name(self)}.changes")
        entries = [entry[:3] for entry in reach.entries if id(entry[0]) not in reach.modules]
        for table, key, old in entries[:LONG]:
            where, name = same.name(table), same.name(key)
            if isinstance(table, Slots):
                there = old is not MISSING
                same.check(_is(same, f"{same.name(table.value)}.{key}", old) if there else f"{name} not in {where}")
            else:
                same.check(f"{name} not in {where}" if old is MISSING else _is(same, f"{where}[{name}]", old))
        if len(entries) > LONG:
            same.check(f"{same.name(_unchanged)}({same.name(entries[LONG:])})")
        for table, key, old, _ in reach.written:
            now = f"{same.name(kind)}({same.name(table)}.get({same.name(key)}, {same.name(MISSING)}))"
            same.check(f"{now} is {same.name(kind(old))}")
        for found, before, _ in reach.collections:
            same.check(*_same_parts(same, same.name(found), before))
        for cell, old, _ in reach.cells:
            empty = f"{same.name(cell)} == {same.name(_EMPTY)}"
            same.check(empty if old is MISSING else _is(same, f"{same.name(cell)}.cell_contents", old))
        for optimizer, groups in reach.optimizers:
            same.lines.append(f"groups = {same.name(optimizer)}.param_groups")
            same.check(f"len(groups) == {len(groups)}")
            for i, params in enumerate(groups):
                same.lines.append(f'params = groups[{i}]["params"]')
                same.check(*_same_parts(same, "params", params))

    def broken(self) -> str | None:
        """What has changed, in words; None if nothing has."""
        if self._same():
            return None
        changes, reason = scope.changes, self._broken()
        if reason is None:
            self.changes = changes
        return reason

    def _broken(self) -> str | None:
        reach = self.reach
        for table, key, old, where in reach.entries:
            new = table.get(key, MISSING)
            if new is not old and not _equal(new, old):
                return _became(where, old, new)
        for table, key, old, where in reach.written:
            new = table.get(key, MISSING)
            if kind(new) is not kind(old):
                return _became(where, old, new)
        for table, number, where in reach.sizes:
            if size(table) != number:
                return f"{where} had {number} attributes, has {size(table)}"
        for found, before, where in reach.collections:
            reason = _other_parts(found, before, where)
            if reason is not None:
                return reason
        for cell, old, where in reach.cells:
            new = content(cell)
            if new is not old and not _equal(new, old):
                return _became(where, old, new)
        for optimizer, groups in reach.optimizers:
            if len(optimizer.param_groups) != len(groups):
                return f"{type(optimizer).__name__} has other parameter groups than before"
            for group, params in zip(optimizer.param_groups, groups, strict=True):
                if not _identical(group["params"], params):
                    return f"{type(optimizer).__name__} has other parameters than before"
        for tensor, frozen in reach.tensors:
            if (tensor.node is None) is not frozen:
                return f"{tensor.name or 'a tensor'} was {'frozen' if frozen else 'not frozen'}, and is no more"
        return None


def _is(same: Straight, expression: str, old: Any) -> str:
    """That an expression is an object, or an equal number or text."""
    found = f"{expression} is {same.name(old)}"
    return f"({found} or {same.name(_equal)}({expression}, {same.name(old)}))" if isinstance(old, _EQUAL) else found


def _same_parts(same: Straight, found: str, before: Any) -> list[str]:
    """That a collection has these parts and no others, in this order."""
    if not isinstance(before, list) or len(before) > LONG:
        return [f"{same.name(_alike)}({found}, {same.name(before)})"]
    return [f"len({found}) == {len(before)}", *(_is(same, f"{found}[{i}]", part) for i, part in enumerate(before))]


def _alike(found: Any, before: Any) -> bool:
    """Has a collection the same parts, in the same order, or equal numbers and texts?"""
    if len(found) != len(before):
        return False
    if isinstance(before, dict):
        return _in_turn(found, before) and _in_turn(found.values(), before.values())
    return _in_turn(found, before) if isinstance(before, list) else bool(found == before)


def _in_turn(found: Iterable[Any], before: Iterable[Any]) -> bool:
    return all(map(is_, found, before)) or all(a is b or _equal(a, b) for a, b in zip(found, before, strict=True))


def _unchanged(entries: list[tuple[Any, Any, Any]]) -> bool:
    found = ((table.get(key, MISSING), old) for table, key, old in entries)
    return all(new is old or _equal(new, old) for new, old in found)


def _other_parts(found: Any, before: Any, where: str) -> str | None:
    """What is different in a collection, in words; None if nothing is."""
    if len(found) != len(before):
        return f"{where} had {len(before)} entries, has {len(found)}"
    if _alike(found, before):
        return None
    if isinstance(before, dict):
        parts = [(f"{where}[{key!r}]", found.get(key, MISSING), part) for key, part in before.items()]
    elif isinstance(before, list):
        parts = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(found, before, strict=True))]
    else:
        return f"{where} has other elements than before"
    changed = (f"{name} was {_shown(b)}, is {_shown(a)}" for name, a, b in parts if a is not b and not _equal(a, b))
    return next(changed, f"{where} has another order than before")


def _identical(new: list[Any], old: list[Any]) -> bool:
    return len(new) == len(old) and all(map(is_, new, old))


def _equal(new: Any, old: Any) -> bool:
    if type(new) is not type(old):
        return False
    if isinstance(old, tuple):
        return len(new) == len(old) and all(a is b or _equal(a, b) for a, b in zip(new, old, strict=True))
    return isinstance(old, PLAIN) and same_number(new) == same_number(old)


def _became(where: str, old: Any, new: Any) -> str:
    return f"{where} was {_shown(old)}, is {_shown(new)}"


def _shown(value: Any) -> str:
    plain = isinstance(value, (*PLAIN, tuple)) or value is MISSING
    return shortened(
        repr(value) if plain else value.__name__ if isinstance(value, type) else f"a {type(value).__name__}"
    )
