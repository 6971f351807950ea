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
    """before, after: what stands around the operation in its line. operands: their texts."""

    before: str
    after: str
    operands: tuple[str, ...]

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
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return None
    operands = _operands(tree, op)
    return None if operands is None else Expression(before, after, tuple(map(ast.unparse, operands)))


def enclosed(text: str) -> str:
    """An expression in parentheses, unless it holds together without, as a name or a call does."""
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return f"({text})"
    return text if isinstance(tree, ast.Name | ast.Attribute | ast.Call | ast.Subscript) else f"({text})"


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


def _operands(tree: ast.expr, op: Primitive) -> list[ast.expr] | None:
    if isinstance(tree, ast.BinOp) and _OPERATORS.get(type(tree.op)) == op.name:
        return [tree.left, tree.right]
    if not isinstance(tree, ast.Call):
        return None
    function = tree.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if name is None or (name != op.name and ANSWERS.get(getattr(np, name, None)) is not op):
        return None
    if any(isinstance(a, ast.Starred) for a in tree.args) or any(k.arg in op.array_names for k in tree.keywords):
        return None
    if isinstance(function, ast.Attribute) and len(tree.args) < op.arity:
        return [function.value, *tree.args]  # a method
    return list(tree.args)
