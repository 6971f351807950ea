"""What a recorded program took for granted of the Python around it, checked before each later run.

Seen is what the function's code leads to (`reach.py`): what closure cells and globals hold, the attributes of modules,
which parameters are frozen, and which an optimizer has. Numbers in `param_groups` are read anew at each run instead.
"""

from __future__ import annotations

from operator import is_
from types import CellType
from typing import Any

from .. import scope
from .reach import MISSING, PLAIN, Reach, content, size
from .straight import Straight
from .structure import same_number

_EMPTY = CellType()
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
        for table, key, old, _ in reach.entries:
            if id(table) not in reach.modules:
                where, name = same.name(table), same.name(key)
                same.check(f"{name} not in {where}" if old is MISSING else _is(same, f"{where}[{name}]", old))
        same.check(*(f"len({same.name(table)}) == {length}" for table, length, _ in reach.lengths))
        same.check(*(f"{same.name(found)} == {same.name(before)}" for found, before, _ in reach.sets))
        for cell, old, _ in reach.cells:
            empty = f"{same.name(cell)} == {same.name(_EMPTY)}"
            same.check(empty if old is MISSING else _is(same, f"{same.name(cell)}.cell_contents", old))
        for sequence, parts, _ in reach.lists:
            same.check(*_same_parts(same, same.name(sequence), parts))
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
                return f"{where} was {_shown(old)}, is {_shown(new)}"
        for table, number, where in reach.sizes:
            if size(table) != number:
                return f"{where} had {number} attributes, has {size(table)}"
        for collection, length, where in reach.lengths:
            if len(collection) != length:
                return f"{where} had {length} entries, has {len(collection)}"
        for found, before, where in reach.sets:
            if found != before:
                return f"{where} has other elements than before"
        for sequence, parts, where in reach.lists:
            if len(sequence) != len(parts):
                return f"{where} had {len(parts)} entries, has {len(sequence)}"
            for new, old in zip(sequence, parts, strict=True):
                if new is not old and not _equal(new, old):
                    return f"an entry of {where} was {_shown(old)}, is {_shown(new)}"
        for cell, old, where in reach.cells:
            new = content(cell)
            if new is not old and not _equal(new, old):
                return f"{where} was {_shown(old)}, is {_shown(new)}"
        for optimizer, groups in reach.optimizers:
            if len(optimizer.param_groups) != len(groups):
                return f"{type(optimizer).__name__} has other parameter groups than before"
            for group, params in zip(optimizer.param_groups, groups, strict=True):
                if not _same(group["params"], params):
                    return f"{type(optimizer).__name__} has other parameters than before"
        for tensor, frozen in reach.tensors:
            if (tensor.node is None) is not frozen:
                return f"{tensor.name or 'a tensor'} was {'frozen' if frozen else 'not frozen'}, and is no more"
        return None


def _is(same: Straight, expression: str, old: Any) -> str:
    """That an expression is an object, or an equal number or text."""
    found = f"{expression} is {same.name(old)}"
    return f"({found} or {same.name(_equal)}({expression}, {same.name(old)}))" if isinstance(old, _EQUAL) else found


def _same_parts(same: Straight, sequence: str, parts: list[Any]) -> list[str]:
    """That a list has these parts and no others."""
    return [f"len({sequence}) == {len(parts)}", *(_is(same, f"{sequence}[{i}]", p) for i, p in enumerate(parts))]


def _same(new: list[Any], old: list[Any]) -> bool:
    return len(new) == len(old) and all(map(is_, new, old))


def _equal(new: Any, old: Any) -> bool:
    if type(new) is not type(old):
        return False
    if isinstance(old, tuple):
        return len(new) == len(old) and all(a is b or _equal(a, b) for a, b in zip(new, old, strict=True))
    return isinstance(old, PLAIN) and same_number(new) == same_number(old)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (*PLAIN, tuple)) or value is MISSING else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
