"""Python objects as text for a file that needs only NumPy: numbers, arrays, and functions with all that they name.

`Definitions` collects the text. A function's comes from its source file, without annotations and decorators, and
is taken only if it compiles to the same code. What cannot be written is listed in `given` instead.
"""

from __future__ import annotations

import ast
import base64
import copy
import functools
import inspect
import linecache
import math
import sys
import zlib
from collections.abc import Sequence
from textwrap import wrap
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from .._source import codes_of
from ..graph import Array
from .program import unique

SHORT = 64  # elements: longer arrays are not written out
_PLACES = (("np", np), ("np.linalg", np.linalg), ("np.lib.array_utils", np.lib.array_utils))


class Unwritable(Exception):
    """There is no text for this object."""


def literal(value: Any) -> str:
    """The Python expression for plain data. Raises Unwritable for anything else."""
    if value is None or value is ... or type(value) in (bool, int, str, bytes):
        return "..." if value is ... else repr(value)
    if isinstance(value, np.generic):
        plain = _is_plain(value.dtype)
        return f"np.{value.dtype.name}({literal(value.item())})" if plain else f"{array_text(np.asarray(value))}[()]"
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if type(value) is slice:
        return f"slice({literal(value.start)}, {literal(value.stop)}, {literal(value.step)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if type(value) is list:
        return f"[{', '.join(map(literal, value))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return dtype_text(np.dtype(value))
    if isinstance(value, np.ndarray):
        return array_text(value)
    raise Unwritable(repr(value))


def dtype_text(dtype: np.dtype[Any]) -> str:
    """A dtype in NumPy's words."""
    if dtype.hasobject:
        raise Unwritable(repr(dtype))
    return f"np.{dtype.name}" if _is_plain(dtype) else f'np.dtype("{dtype.str}")'


def _is_plain(dtype: np.dtype[Any]) -> bool:
    return dtype.isnative and dtype.kind in "biuf" and dtype.itemsize <= 8


def array_text(array: Array) -> str:
    """An expression for exactly this array."""
    dtype, flat = dtype_text(array.dtype), array.reshape(-1)
    shape = "" if array.ndim == 1 else f".reshape({literal(array.shape)})"
    if _is_plain(array.dtype):
        if array.size <= SHORT:
            return f"np.array({literal(array.tolist())}, {dtype})" + (shape if not array.size else "")
        if flat.tobytes() == np.full(array.size, flat[0]).tobytes():
            return f"np.full({literal(array.shape)}, {literal(flat[0].item())}, {dtype})"
        if array.dtype.kind in "iu":
            start, step = int(flat[0]), int(flat[1]) - int(flat[0])
            stop = start + step * array.size
            if step and max(abs(start), abs(stop)) < 2**62 and np.array_equal(flat, np.arange(start, stop, step)):
                return f"np.arange({start}, {stop}, {step}, {dtype}){shape}"
    data = base64.b64encode(zlib.compress(flat.tobytes())).decode()
    lines = "\n".join(f'    "{line}"' for line in wrap(data, 100))
    return f"np.frombuffer(zlib.decompress(base64.b64decode(\n{lines}\n)), {dtype}){shape}"


class Definitions:
    """blocks: definitions in order. imports: modules that they need besides NumPy. given: what has no text, by name."""

    def __init__(self, taken: set[str]) -> None:
        self.blocks: list[str] = []
        self.imports: set[str] = set()
        self.given: dict[str, Any] = {}
        self._taken = taken
        self._known: dict[int, str] = {}
        self._kept: list[Any] = []  # an identity means something only while the object lives

    def new_name(self, hint: str) -> str:
        """A name that nothing has yet."""
        return unique(hint, self._taken)

    def expression(self, value: Any, hint: str) -> str:
        """What to write in place of an object."""
        try:
            return self._text(value, hint)
        except Unwritable:
            name = self._name(value, hint)
            self.given[name] = value
            return name

    def _name(self, value: Any, hint: str) -> str:
        name = self._known[id(value)] = self.new_name(hint)
        self._kept.append(value)
        return name

    def _text(self, value: Any, hint: str) -> str:
        if id(value) in self._known:
            if self._known[id(value)] in self.given:
                raise Unwritable(hint)
            return self._known[id(value)]
        numpy = _in_numpy(value)
        if numpy is not None:
            return numpy
        if isinstance(value, ModuleType):
            if value.__name__.partition(".")[0] not in sys.stdlib_module_names:
                raise Unwritable(hint)
            self.imports.add(value.__name__)
            return value.__name__
        if isinstance(value, functools._lru_cache_wrapper):
            self.imports.add("functools")
            inner = self._text(value.__wrapped__, hint)
            return self._define(value, hint, f"functools.cache({inner})")
        if isinstance(value, FunctionType):
            return self._function(value, hint)
        if type(value) in (int, float, bool, str, type(None)) or isinstance(value, type | np.dtype):
            return literal(value)
        return self._define(value, hint, literal(value))

    def _define(self, value: Any, hint: str, text: str) -> str:
        name = self._name(value, hint)
        self.blocks.append(f"{name} = {text}")
        return name

    def _function(self, function: FunctionType, hint: str) -> str:
        node = _definition(function)
        name = self._name(function, hint if function.__name__ == "<lambda>" else function.__name__)
        try:
            outside = {k: self._text(v, k) for k, v in _named(function, node).items()}
            node.name = name
            _write_defaults(function, node.args)
            text = ast.unparse(ast.fix_missing_locations(_Renamed(outside).visit(node)))
        except Unwritable:
            del self._known[id(function)]
            raise
        self.blocks.append(text)
        return name


def _in_numpy(value: Any) -> str | None:
    """`np.exp`, `np.linalg.inv` or `np.add.reduce`, if the value is one of these."""
    if value is np:
        return "np"
    name: Any = getattr(value, "__name__", None)
    owner: Any = getattr(value, "__self__", None)
    if not isinstance(name, str):
        return None
    if isinstance(owner, np.ufunc):
        whole = _in_numpy(owner)
        return whole and f"{whole}.{name}"
    return next((f"{text}.{name}" for text, place in _PLACES if getattr(place, name, None) is value), None)


def _definition(function: FunctionType) -> ast.FunctionDef:
    """The function's part of its source file, a lambda as a `def`."""
    code = function.__code__
    try:
        tree = _tree("".join(linecache.getlines(code.co_filename, function.__globals__)))
    except SyntaxError as error:
        raise Unwritable(code.co_name) from error
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno and code.co_name == "<lambda>":
            found = ast.FunctionDef("f", copy.deepcopy(node.args), [ast.Return(copy.deepcopy(node.body))], [])
        elif isinstance(node, ast.FunctionDef) and node.name == code.co_name and _first(node) == code.co_firstlineno:
            found = copy.deepcopy(node)
        else:
            continue
        found.decorator_list = []
        ast.fix_missing_locations(found)
        if _compiles_to(found, code, imports):
            _Bare().visit(found)
            return found
    raise Unwritable(code.co_name)


@functools.lru_cache(maxsize=32)
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _first(node: ast.FunctionDef) -> int:
    return min([node.lineno, *[d.lineno for d in node.decorator_list]])


def _compiles_to(node: ast.FunctionDef, code: CodeType, imports: Sequence[ast.stmt]) -> bool:
    """Is this the text of the code? A closure compiles otherwise at the top of a file: only its names are compared.

    A call of `np.exp` compiles otherwise where `np` is not imported."""
    module = compile(ast.Module([*imports, node], []), "<kernel>", "exec")
    new = next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == node.name)
    if code.co_freevars:
        return new.co_varnames == code.co_varnames
    return bool(_essence(new) == _essence(code))


def _essence(code: CodeType) -> Any:
    constants = [_essence(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, constants


def _named(function: FunctionType, node: ast.FunctionDef) -> dict[str, Any]:
    """What the function's body names that it does not make itself."""
    code = function.__code__
    inside = {n for c in codes_of(code) for n in (*c.co_names, *c.co_freevars)} - set(code.co_varnames)
    loaded = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name)}
    outside = inspect.getclosurevars(function).nonlocals
    found = dict(function.__globals__) | dict(outside)
    return {name: found[name] for name in sorted(inside & loaded) if name in found}


def _write_defaults(function: FunctionType, args: ast.arguments) -> None:
    """Defaults as the values that they have."""
    args.defaults = [_parsed(literal(v)) for v in function.__defaults__ or ()]
    by_name = function.__kwdefaults__ or {}
    args.kw_defaults = [_parsed(literal(by_name[a.arg])) if a.arg in by_name else None for a in args.kwonlyargs]


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


class _Bare(ast.NodeTransformer):
    """Without annotations."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        return node if node.value is None else ast.copy_location(ast.Assign([node.target], node.value), node)


class _Renamed(ast.NodeTransformer):
    """What is named outside, as it is called or written in the new file."""

    def __init__(self, outside: dict[str, str]) -> None:
        self.outside = outside

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _parsed(self.outside[node.id]) if node.id in self.outside else node
