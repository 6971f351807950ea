"""The text of one operation in the user's program: where it stands in its line, its operands, and the same line with
something else in its place.

Python keeps the columns of every instruction, so the text is found exactly, however many operations a line has.
"""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .._source import Line
from ..primitive import ANSWERS, Primitive

_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
    ast.Mod: "remainder",
}


@dataclass(frozen=True)
class Expression:
    """before, after: what stands around the operation in its line. operands: their texts, and further arguments' that
    stand by position. options: the texts of its keywords, or of an index."""

    before: str
    after: str
    operands: tuple[str, ...]
    options: tuple[str, ...] = ()

    def replaced(self, text: str) -> str:
        """The line with another expression in the operation's place."""
        bare, safe = ((self.before + t + self.after).strip() for t in (text, enclosed(text)))
        return bare if _meaning(bare) == _meaning(safe) != "" else safe


def expression(line: Line | None, op: Primitive) -> Expression | None:
    """The text of the operation that this line ran, or None where it cannot be read: without the source, over several
    lines, or where the operation ran inside of something else that stands there."""
    found = None if line is None else _segment(line)
    if found is None:
        return None
    before, text, after = found
    tree = _tree(text.strip())
    if tree is None:
        return None
    operands = _operands(tree, op)
    if operands is None:
        return None
    return Expression(before, after, tuple(map(ast.unparse, operands)), tuple(map(ast.unparse, _options(tree))))


def arguments(line: Line) -> list[str]:
    """The texts of what the call on a line is given."""
    found = _segment(line)
    tree = _tree(found[1].strip()) if found is not None else None
    if not isinstance(tree, ast.Call):
        return []
    return [ast.unparse(part) for part in (*tree.args, *_options(tree)) if not isinstance(part, ast.Starred)]


def enclosed(text: str) -> str:
    """An expression in parentheses, unless it holds together without, as a name or a call does."""
    whole = isinstance(_tree(text), ast.Name | ast.Attribute | ast.Call | ast.Subscript)
    return text if whole else f"({text})"


def _tree(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return None


def _meaning(line: str) -> str:
    """The same for any two texts of one statement; "" for a part of one."""
    try:
        return ast.dump(ast.parse(line))
    except SyntaxError:
        return ""


def _segment(line: Line) -> tuple[str, str, str] | None:
    code, instruction = line
    position = next(islice(code.co_positions(), instruction // 2, None), None)
    if position is None:
        return None
    first, last, start, end = position
    if first is None or first != last or start is None or end is None:
        return None
    raw = linecache.getline(code.co_filename, first).encode()
    parts = raw[:start], raw[start:end], raw[end:]
    return (parts[0].decode(), parts[1].decode(), parts[2].decode()) if parts[1] else None


def called(call: ast.Call) -> str:
    """The name of what is called, without what it is an attribute of; "" if it has none."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _operands(tree: ast.expr, op: Primitive) -> list[ast.expr] | None:
    if isinstance(tree, ast.BinOp) and _OPERATORS.get(type(tree.op)) == op.name:
        return [tree.left, tree.right]
    if isinstance(tree, ast.Subscript) and op.name == "getitem":
        return [tree.value]
    if not isinstance(tree, ast.Call):
        return None
    function, name = tree.func, called(tree)
    if not name or (name != op.name and ANSWERS.get(getattr(np, name, None)) is not op):
        return None
    if any(isinstance(a, ast.Starred) for a in tree.args) or any(k.arg in op.array_names for k in tree.keywords):
        return None
    if isinstance(function, ast.Attribute) and len(tree.args) < op.arity:
        return [function.value, *tree.args]  # a method
    return list(tree.args)


def _options(tree: ast.expr) -> list[ast.expr]:
    if isinstance(tree, ast.Call):
        return [keyword.value for keyword in tree.keywords]
    index = tree.slice if isinstance(tree, ast.Subscript) else None
    found: list[ast.expr] = []
    for part in index.elts if isinstance(index, ast.Tuple) else [index]:
        ends = [part.lower, part.upper, part.step] if isinstance(part, ast.Slice) else [part]
        found += [end for end in ends if end is not None]
    return found
