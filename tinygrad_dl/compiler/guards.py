"""What a recorded program took for granted of the Python around it, checked before each later run.

Seen are: closure cells and globals that the function's code names (and the functions among them, in turn),
plain attributes, children, tensors and methods of the modules reached, and which parameters an optimizer has. Of other
objects only the modules, optimizers, parameters and buffers are. Numbers in `param_groups` are read anew at each run
instead. Nothing else is seen.
"""

from __future__ import annotations

import builtins
import dis
import functools
from collections.abc import Iterable, Iterator
from operator import is_
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .. import scope
from .._source import _PACKAGE
from .._tensor import Tensor
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .straight import Straight
from .structure import is_state, same_number

_MISSING: Any = type("missing", (), {"__repr__": lambda self: "nothing"})()
_EMPTY = CellType()
_PLAIN = (bool, int, float, str, bytes, type(None), np.generic, np.dtype)
_UNSEEN = {"_path"}  # of a Module: where it was last called
_KNOWN = {__name__.partition(".")[0], "builtins"}  # packages whose classes stay as they are
_DEEP = 3  # objects in objects in an object: there is no end to what these may lead to


class Guards:
    """The state of what a function reaches, at the time of its making."""

    def __init__(self, function: Any, arguments: Iterable[tuple[str, Any]]) -> None:
        self.entries: list[tuple[dict[Any, Any], Any, Any, str]] = []
        self.lists: list[tuple[Any, list[Any], str]] = []
        self.cells: list[tuple[Any, Any, str]] = []
        self.optimizers: list[tuple[Optimizer, list[list[Tensor]]]] = []
        self.tensors: list[tuple[Tensor, bool]] = []
        self.sizes: list[tuple[dict[str, Any], int, str]] = []  # of modules' tables
        self.lengths: list[tuple[dict[Any, Any] | set[Any] | frozenset[Any], int, str]] = []  # of dicts and sets
        self._modules: set[int] = set()  # tables of attributes of modules, whose changes are counted
        self._seen: set[int] = set()
        self._kept: list[Any] = []
        self._visit(function, getattr(function, "__name__", "the function"))
        for where, argument in arguments:
            self._visit(argument, where)
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
        same.check(f"{same.name(scope)}.changes == {same.name(self)}.changes")
        for table, key, old, _ in self.entries:
            if id(table) not in self._modules:
                where, name = same.name(table), same.name(key)
                same.check(f"{name} not in {where}" if old is _MISSING else f"{where}[{name}] is {same.name(old)}")
        same.check(*(f"len({same.name(table)}) == {length}" for table, length, _ in self.lengths))
        for cell, old, _ in self.cells:
            empty = f"{same.name(cell)} == {same.name(_EMPTY)}"
            same.check(empty if old is _MISSING else f"{same.name(cell)}.cell_contents is {same.name(old)}")
        for sequence, parts, _ in self.lists:
            same.check(*_same_parts(same, same.name(sequence), parts))
        for optimizer, groups in self.optimizers:
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
        for table, key, old, where in self.entries:
            new = table.get(key, _MISSING)
            if new is not old and not _equal(new, old):
                return f"{where} was {_shown(old)}, is {_shown(new)}"
        for table, size, where in self.sizes:
            if _size(table) != size:
                return f"{where} had {size} attributes, has {_size(table)}"
        for collection, length, where in self.lengths:
            if len(collection) != length:
                return f"{where} had {length} entries, has {len(collection)}"
        for sequence, parts, where in self.lists:
            if len(sequence) != len(parts):
                return f"{where} had {len(parts)} entries, has {len(sequence)}"
            for new, old in zip(sequence, parts, strict=True):
                if new is not old and not _equal(new, old):
                    return f"an entry of {where} was {_shown(old)}, is {_shown(new)}"
        for cell, old, where in self.cells:
            new = _content(cell)
            if new is not old and not _equal(new, old):
                return f"{where} was {_shown(old)}, is {_shown(new)}"
        for optimizer, groups in self.optimizers:
            if len(optimizer.param_groups) != len(groups):
                return f"{type(optimizer).__name__} has other parameter groups than before"
            for group, params in zip(optimizer.param_groups, groups, strict=True):
                if not _same(group["params"], params):
                    return f"{type(optimizer).__name__} has other parameters than before"
        for tensor, frozen in self.tensors:
            if (tensor.node is None) is not frozen:
                return f"{tensor.name or 'a tensor'} was {'frozen' if frozen else 'not frozen'}, and is no more"
        return None

    def modules(self) -> Iterator[tuple[dict[Any, Any], Any, Any, str]]:
        """`(table, key, value at the time, where)` of every attribute that is watched."""
        return iter(self.entries)

    def _visit(self, value: Any, where: str) -> None:
        if isinstance(value, _PLAIN) or value is _MISSING or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if isinstance(value, Module):
            self._attributes(value, where)
        elif isinstance(value, Optimizer):
            self.optimizers.append((value, [list(group["params"]) for group in value.param_groups]))
            self._visit(tuple(p for group in value.param_groups for p in group["params"]), where)
        elif isinstance(value, Tensor):
            self.tensors.append((value, value.node is None))
        elif isinstance(value, list | tuple):
            if isinstance(value, list):
                self.lists.append((value, list(value), where))
            for i, part in enumerate(value):
                self._visit(part, f"{where}[{i}]")
        elif isinstance(value, dict):
            self.lengths.append((value, len(value), where))
            for key, part in list(value.items()):
                self.entries.append((value, key, part, f"{where}[{key!r}]"))
                self._visit(part, f"{where}[{key!r}]")
        elif isinstance(value, set | frozenset):
            self.lengths.append((value, len(value), where))
            for part in value:
                self._visit(part, f"an element of {where}")
        elif isinstance(value, functools.partial):
            self._visit((value.func, value.args, value.keywords), where)
        elif isinstance(value, MethodType):
            self._visit(value.__self__, where)
            self._visit(value.__func__, where)
        elif isinstance(value, FunctionType):
            self._function(value)
        elif hasattr(value, "__wrapped__"):  # as a compiled function has
            self._visit(value.__wrapped__, where)
        else:
            self._object(value, where, _DEEP)

    def _object(self, value: Any, where: str, deep: int) -> None:
        """Look for modules, optimizers and state among the attributes of an object of any other class."""
        table = getattr(value, "__dict__", None)
        if type(table) is not dict or isinstance(value, type | ModuleType):
            return
        for name, part in list(table.items()):
            if isinstance(part, Module | Optimizer) or is_state(part):
                self.entries.append((table, name, part, f"{where}.{name}"))
            self._search(part, f"{where}.{name}", deep - 1)

    def _search(self, value: Any, where: str, deep: int) -> None:
        if isinstance(value, Module | Optimizer | Tensor):
            self._visit(value, where)
        elif isinstance(value, list | tuple | dict | set | frozenset):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                if not isinstance(part, _PLAIN) and deep:
                    self._search(part, f"{where}[{key!r}]", deep - 1)
        elif deep and not isinstance(value, _PLAIN) and id(value) not in self._seen:
            self._seen.add(id(value))
            self._kept.append(value)
            self._object(value, where, deep)

    def _attributes(self, module: Module, where: str) -> None:
        table = module.__dict__
        self._modules.add(id(table))
        self.sizes.append((table, _size(table), where))
        for name in [*table, "training"]:
            if name not in _UNSEEN:
                part = table.get(name, _MISSING)
                self.entries.append((table, name, part, f"{where}.{name}"))
                self._visit(part, f"{where}.{name}")
        for kind in type(module).__mro__:
            if kind.__module__.partition(".")[0] not in _KNOWN:
                self._methods(kind)

    def _methods(self, kind: type) -> None:
        """What the methods of a class name, and its plain attributes."""
        if id(kind) in self._seen:
            return
        self._seen.add(id(kind))
        table: Any = kind.__dict__
        for name, part in table.items():
            part = getattr(part, "fget", None) or getattr(part, "__func__", part)
            if isinstance(part, FunctionType):
                self._visit(part, f"{kind.__name__}.{name}")
            elif isinstance(part, _PLAIN) and not name.startswith("__"):
                self.entries.append((table, name, part, f"{kind.__name__}.{name}"))

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        if code.co_filename.startswith(_PACKAGE):
            return
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = _content(cell)
            self.cells.append((cell, value, name))
            self._visit(value, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value, code.co_name)
        table = function.__globals__
        for name in _names(code):
            if name in table or not hasattr(builtins, name):
                value = table.get(name, _MISSING)
                self.entries.append((table, name, value, name))
                self._visit(value, name)


def _size(table: dict[str, Any]) -> int:
    return sum(name not in _UNSEEN for name in table)


def _names(code: CodeType) -> set[str]:
    """The global names in a code object and in those inside it."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names(constant)
    return found


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return _MISSING


def _same_parts(same: Straight, sequence: str, parts: list[Any]) -> list[str]:
    """That a list has these parts and no others."""
    return [f"len({sequence}) == {len(parts)}", *(f"{sequence}[{i}] is {same.name(p)}" for i, p in enumerate(parts))]


def _same(new: list[Any], old: list[Any]) -> bool:
    return len(new) == len(old) and all(map(is_, new, old))


def _equal(new: Any, old: Any) -> bool:
    if type(new) is not type(old):
        return False
    if isinstance(old, tuple):
        return len(new) == len(old) and all(a is b or _equal(a, b) for a, b in zip(new, old, strict=True))
    return isinstance(old, _PLAIN) and same_number(new) == same_number(old)


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (*_PLAIN, tuple)) or value is _MISSING else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
