"""`Reach`: what the code of a function leads to, by the names in it.

These are closure cells, globals, defaults and the code of the functions that may run; all attributes of modules, but
what is in their lists, dicts and sets of numbers and texts only if the code names them; of other objects, classes and
Python modules the attributes that the code names, and of those that it writes on objects only whether they are there
and of which class. What Python's own library does is not asked.
"""

from __future__ import annotations

import builtins
import dis
import functools
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .._source import _PACKAGE, codes_of
from .._tensor import Tensor
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .attributes import Slots, defaults_of, slots_of, table_of
from .frozen import SOURCES

MISSING: Any = type("missing", (), {"__repr__": lambda self: "nothing"})()
PLAIN = (bool, int, float, str, bytes, type(None), np.generic, np.dtype)
_INERT = (*PLAIN, np.ndarray)  # which lead nowhere
COLLECTIONS = (list, tuple, dict, set, frozenset, deque)
UNSEEN = {"_path", "training"}  # of a Module: where it was last called; its mode is looked at apart
_SHOWN = {"__repr__", "__str__", "__format__", "__del__"}  # what no computation depends on
_WRITES = {"STORE_ATTR", "DELETE_ATTR"}
_DEEP = 3  # objects in objects in an object: there is no end to what these may lead to
_KNOWN = {__name__.partition(".")[0], "builtins"}  # packages whose classes stay as they are
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_OWN = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})  # Python's; others may be inside


class Reach:
    """What a function and what stands among its arguments lead to now.

    entries: `(table, key, value, where)`; written: those that the code itself writes; cells, optimizers and tensors
    likewise. sizes: how many attributes modules have. collections: lists, dicts and others with copies. arrays:
    NumPy's. generators: of random numbers, `(generator, where)`. modules: which tables are those of modules."""

    def __init__(self, function: Any, arguments: Iterable[tuple[str, Any]]) -> None:
        self.entries: list[tuple[Any, Any, Any, str]] = []
        self.written: list[tuple[Any, Any, Any, str]] = []
        self.collections: list[tuple[Any, Any, str]] = []
        self.cells: list[tuple[Any, Any, str]] = []
        self.optimizers: list[tuple[Optimizer, list[list[Tensor]]]] = []
        self.tensors: list[tuple[Tensor, bool]] = []
        self.arrays: list[Any] = []
        self.generators: list[tuple[Any, str]] = []
        self.sizes: list[tuple[dict[str, Any], int, str]] = []
        self.modules: set[int] = set()
        self._named = {"forward"}  # which a module that is called calls
        self._stored: set[str] = set()  # attributes that the code writes
        self._attributes: list[tuple[Any, str, Any, str]] = []  # of objects, which count unless the code writes them
        self._places: list[tuple[Any, str, int]] = []  # whose attributes are looked at by name
        self._data: list[tuple[str, Any, str]] = []  # of modules, which lead nowhere: `(name, collection, where)`
        self._looked: set[tuple[int, str]] = set()
        self._kinds: set[tuple[int, bool]] = set()  # classes, and whether objects of them may be made
        self._seen: dict[int, Any] = {}
        self._visit(function, getattr(function, "__name__", "the function"))
        given = list(arguments)
        for where, argument in given:
            self._visit(argument, where)
        done = 0, 0
        while done != (found := (len(self._named), len(self._places))):
            done = found  # a function that is found later may name what was found before
            for place in list(self._places):
                self._look(*place)
        for entry in self._attributes:
            (self.written if entry[1] in self._stored else self.entries).append(entry)
        for name, collection, where in self._data:
            if name in self._named:
                self._visit(collection, where)
        self._arguments = [argument for _, argument in given]  # a program belongs to their identities
        del self._seen, self._places, self._data, self._attributes

    def named(self) -> Iterator[tuple[Any, str]]:
        """`(value, where)` of all that has a name."""
        yield from ((value, where) for _, _, value, where in self.entries)
        yield from ((value, where) for _, value, where in self.cells)
        for _, before, where in self.collections:
            if not isinstance(before, frozenset):
                yield from ((value, f"{where}[{key!r}]") for key, value in _parts(before))

    def _visit(self, value: Any, where: str) -> None:
        if isinstance(value, PLAIN) or value is MISSING or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, np.ndarray):
            self.arrays.append(value)
            return
        if isinstance(value, Module):
            self._module(value, where)
        elif isinstance(value, Optimizer):
            self.optimizers.append((value, [list(group["params"]) for group in value.param_groups]))
            self._visit(tuple(p for group in value.param_groups for p in group["params"]), where)
        elif isinstance(value, Tensor):
            self.tensors.append((value, value.node is None))
        elif isinstance(value, COLLECTIONS):
            self._watch(value, where)
            for key, part in _parts(value):
                self._visit(part, f"{where}[{key!r}]")
        elif isinstance(value, functools.partial):
            self._visit((value.func, value.args, value.keywords), where)
        elif isinstance(value, MethodType):
            self._visit(value.__self__, "self")
            self._visit(value.__func__, where)
        elif isinstance(value, FunctionType):
            self._function(value)
        else:
            self._place(value, where, _DEEP)

    def _watch(self, value: Any, where: str) -> None:
        """All entries of a collection."""
        if isinstance(value, list | dict | deque):
            self.collections.append((value, dict(value) if isinstance(value, dict) else list(value), where))
        elif isinstance(value, set) and all(isinstance(part, (*PLAIN, Module)) for part in value):
            self.collections.append((value, frozenset(value), where))

    def _module(self, module: Module, where: str) -> None:
        table = module.__dict__
        self.modules.add(id(table))
        self.sizes.append((table, size(table), where))
        mode = Slots(module)  # which an object has of its own only when it has been set
        self.modules.add(id(mode))
        self.entries.append((mode, "training", module.training, f"{where}.training"))
        for name, part in [*table.items()]:
            if name not in UNSEEN:
                self.entries.append((table, name, part, f"{where}.{name}"))
                if isinstance(part, COLLECTIONS) and not isinstance(part, tuple) and _leads_nowhere(part):
                    self._data.append((name, part, f"{where}.{name}"))
                else:
                    self._visit(part, f"{where}.{name}")
        self._class_of(module, where)

    def _place(self, value: Any, where: str, deep: int) -> None:
        """An object of any other class, a class or a Python module."""
        if isinstance(value, SOURCES):
            self.generators.append((value, where))
        if isinstance(value, ModuleType):
            if (getattr(value, "__file__", None) or _PACKAGE).startswith((*_INSTALLED, *_OWN, _PACKAGE)):
                return
        elif isinstance(value, type):
            self._classes(value, deep, made=True)
            return
        else:
            self._class_of(value, where)
        wrapped = table_of(value).get("__wrapped__")
        if wrapped is not None:
            self._visit(wrapped, where)
        if wrapped is None or not _is_known(type(value)):  # a compiled function itself is no matter
            self._places.append((value, where, deep))

    def _class_of(self, value: Any, where: str) -> None:
        """A notebook that reloads what was edited gives functions other code, and objects another class."""
        kind = type(value)
        if not _is_known(kind):
            self.entries.append((Slots(value), "__class__", kind, f"the class of {where}"))
        self._classes(kind)

    def _classes(self, kind: type, deep: int = 1, made: bool = False) -> None:
        """A class, and those that it inherits from. made: may objects of it be made?"""
        for each in kind.__mro__:
            if not _is_known(each) and (id(each), made) not in self._kinds:
                self._kinds.add((id(each), made))
                self._places.append((each, each.__name__, deep))

    def _look(self, value: Any, where: str, deep: int) -> None:
        """At the attributes that have been named, and at functions that run without being named."""
        table, shared = table_of(value), isinstance(value, type | ModuleType)
        entries = self.entries if shared else self._attributes
        kind: Any = value if isinstance(value, type) else type(value)
        names = [*table, *defaults_of(kind)]
        names += [] if shared else slots_of(value)
        for name in self._named.intersection(names).union(self._special(value)):
            if (id(value), name) in self._looked:
                continue
            self._looked.add((id(value), name))
            with suppress(Exception):  # somebody's own object may do anything when it is looked at
                where_table = Slots(value) if not shared and name in slots_of(value) else table
                found = where_table.get(name, MISSING)
                part = getattr(found, "fget", None) or getattr(found, "__func__", found) if shared else found
                self._search(part, f"{where}.{name}", deep)
                entries.append((where_table, name, found, f"{where}.{name}"))

    def _special(self, kind: Any) -> Iterator[str]:
        """The methods of a class such as `__mul__`; and `__init__`, where objects are made."""
        unseen = _SHOWN if (id(kind), True) in self._kinds else {*_SHOWN, "__init__"}
        for name, function in kind.__dict__.items() if isinstance(kind, type) else ():
            if name.startswith("__") and isinstance(function, FunctionType) and name not in unseen:
                yield name

    def _search(self, value: Any, where: str, deep: int) -> None:
        """Look for what there is behind an attribute."""
        if isinstance(value, PLAIN) or not deep:
            return
        if isinstance(value, np.ndarray | Module | Optimizer | Tensor | FunctionType | MethodType | functools.partial):
            self._visit(value, where)
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            if isinstance(value, COLLECTIONS):
                self._watch(value, where)
                for key, part in _parts(value):
                    self._search(part, f"{where}[{key!r}]", deep - 1)
            else:
                self._place(value, where, deep - 1)

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        if code.co_filename.startswith(_PACKAGE):
            return
        self.entries.append((Slots(function), "__code__", code, f"the code of {code.co_name}"))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            value = content(cell)
            self.cells.append((cell, value, name))
            if name == "__class__":  # which `super()` names: no objects are made of it
                self._classes(value)
            else:
                self._visit(value, name)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._visit(value, f"a default of {code.co_name}")
        table = function.__globals__
        if code.co_filename.startswith(_OWN) and not code.co_filename.startswith(_INSTALLED):
            return
        for each in codes_of(code):
            self._named.update(c for c in each.co_consts if isinstance(c, str))  # getattr is called with such
            for step in dis.get_instructions(each):
                name = step.argval
                if name in each.co_names:
                    (self._stored if step.opname in _WRITES else self._named).add(name)
                is_global = step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and (id(table), name) not in self._looked
                if is_global and (name in table or not hasattr(builtins, name)):
                    self._looked.add((id(table), name))
                    value = table.get(name, MISSING)
                    self.entries.append((table, name, value, name))
                    self._visit(value, name)


def kind(value: Any) -> Any:
    """What is looked at of an attribute that the code writes: is it there, a truth value or None, or of which class?"""
    return value if value is MISSING or isinstance(value, bool | None) else type(value)


def size(table: dict[str, Any]) -> int:
    """How many attributes there are in the table of a module."""
    return sum(name not in UNSEEN for name in table)


def content(cell: Any) -> Any:
    """Of a closure's cell."""
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return MISSING


def _is_known(kind: type) -> bool:
    """Is it a class of this library, or Python's?"""
    return kind.__module__.partition(".")[0] in _KNOWN


def _leads_nowhere(value: Any, deep: int = _DEEP) -> bool:
    """Is it a number, a text, an array, or a collection of nothing else?"""
    if isinstance(value, COLLECTIONS):
        return deep > 0 and all(_leads_nowhere(part, deep - 1) for _, part in _parts(value))
    return isinstance(value, _INERT)


def _parts(collection: Any) -> Iterator[tuple[Any, Any]]:
    return iter([*collection.items()] if isinstance(collection, dict) else [*enumerate(collection)])
