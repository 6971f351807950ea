"""Where a graph is cut: values that came into it, or were handed out, without a gradient, and why.

A graph does not remember what it was cut from: a detached value is an array like any other. Two things still tell: a
recorded tensor that is alive and holds the same array, and the text of the program, read backwards from the line that
used the value to the one that made it.
"""

from __future__ import annotations

import ast
import gc
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from .._source import describe, describe_line, line_number
from ..graph import Handle, Leaf, Node, is_floating
from .expression import arguments, called, expression
from .flow import ancestors

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OFF = {  # wherever they stand in an expression
    "detach": "`.detach()` takes it off the graph",
    "numpy": "`.numpy()` gives a plain array",
    "item": "`.item()` gives a plain number",
    "tolist": "`.tolist()` gives plain numbers",
}
_ENDS = {  # as what an expression does last
    "tensor": "`tensor` copies values, without their history",
    "asarray": "`asarray` gives a plain array",
    "array": "`array` gives a plain array",
    "float": "`float` gives a plain number",
    "int": "`int` gives a plain number",
    "argmax": "an index has no derivative; use a softmax, or weigh with probabilities",
    "argmin": "an index has no derivative",
    "argsort": "an order has no derivative; np.sort has one",
    "one_hot": "a label has no derivative",
    "hardmax": "an index has no derivative; use a softmax",
}


@dataclass(frozen=True)
class Cut:
    """A value without gradient that an operation of the graph read: the line that read it, what it is, and why it
    has no gradient. leads: was it taken off a value that depends on the tensor in question?"""

    text: str
    leads: bool = False


def cuts(loss: Node, target: Node) -> list[Cut]:
    """The values without gradient that a loss's graph reads: floating arrays, those that depend on the target first;
    and whatever else the program's text says was cut off: integers, numbers, indices, values of new leaves."""
    found: dict[tuple[Any, ...], Cut] = {}
    recorded = _recorded()
    for node in sorted(ancestors(loss), key=lambda n: n.order):
        if node.primitive is None:
            for cut in _in_leaf(node) if isinstance(node, Leaf) and node is not target else ():
                found.setdefault((node.line, cut), cut)
            continue
        for i, (arg, parent) in enumerate(zip(node.args, node.parents, strict=True)):
            place = node.line, node.primitive, i
            if parent is None and is_floating(arg) and place not in found:
                found[place] = _cut(node, i, arg, recorded.get(_memory(arg)), target)
        for cut in _told(node):
            found.setdefault((node.line, cut), cut)
    return sorted(found.values(), key=lambda cut: not cut.leads)


def _told(node: Node) -> Iterator[Cut]:
    """What else than floating arrays an operation read, if the text says that it was cut off."""
    op: Any = node.primitive
    text = expression(node.line, op)
    if text is None:
        return
    known = zip(text.operands, node.args, node.parents, strict=False)
    cut = [t for t, arg, parent in known if parent is None and not is_floating(arg)]
    for t in [*cut, *text.operands[len(node.args) :], *text.options]:
        lines, reason = origin(node.code, line_number(*node.line), t)
        if reason is not None:
            yield Cut("\n    ".join([f"{op.name} at {describe_line(node.line)} reads {t}, without gradient", *lines]))


def _in_leaf(leaf: Leaf) -> Iterator[Cut]:
    """What a leaf was made from, if the text says that it was taken off a graph."""
    for text in arguments(leaf.line):
        lines, reason = origin(leaf.code, line_number(*leaf.line), text)
        if reason in _OFF.values():
            yield Cut("\n    ".join([f"the leaf made at {describe_line(leaf.line)} has the values of {text}", *lines]))


def _cut(node: Node, position: int, array: Any, twin: Node | None, target: Node) -> Cut:
    op: Any = node.primitive
    text = expression(node.line, op)
    own = (node.names or {}).get(position) or f"argument {position}"
    name = text.operands[position] if text and position < len(text.operands) else own
    lines = [f"{op.name} at {describe_line(node.line)} reads {name}, {describe(array)}, without gradient"]
    leads = twin is not None and target in ancestors(twin)
    if twin is not None:
        maker: Any = twin.operation
        what = f"the result of {maker.primitive.name}" if maker.primitive is not None else "the leaf made"
        lines.append(f"these are the values of {what} at {describe_line(twin.line)}, taken off the graph")
    if text and position < len(text.operands):
        lines += origin(node.code, line_number(*node.line), text.operands[position])[0]
    if op.vjps[min(position, len(op.vjps) - 1)] is None:
        lines.append(f"{op.name} has no derivative in this argument")
    return Cut("\n    ".join(lines), leads)


def _recorded() -> dict[Any, Node]:
    """The nodes of living tensors by the memory of their arrays, which a detached tensor shares."""
    handles = (o for o in gc.get_objects() if issubclass(type(o), Handle) and hasattr(o, "data"))
    return {_memory(h.data): h.node for h in handles if h.node is not None}


def _memory(array: Any) -> tuple[Any, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype


def origin(code: CodeType, number: int, text: str) -> tuple[list[str], str | None]:
    """What the program's text says of how an expression on a line got its value, and why that has no gradient: the last
    of the lines, if it tells."""
    tree = _parsed(code.co_filename)
    if tree is None:
        return [], None
    expr = ast.parse(text, mode="eval").body
    own = _reason(expr)
    if own is not None:
        return [own], own
    if not isinstance(expr, ast.Name) or (code.co_name == "<lambda>" and expr.id in code.co_varnames):
        return [], None
    found = _assignment(tree, number, expr.id)
    if found is None:
        return [], None
    statement, guarded = found
    line = linecache.getline(code.co_filename, statement.lineno).strip()
    lines = [f"{expr.id} was set on line {statement.lineno}: {line}"]
    reason = "it was computed under no_grad" if guarded else _reason(statement.value)
    if reason is not None:
        lines.append(reason)
    elif isinstance(statement.value, ast.Call) and not _literal(statement.value):
        lines.append("what was called there gave it back without gradient")
    return lines, reason


def _parsed(filename: str) -> ast.Module | None:
    lines = linecache.getlines(filename)
    try:
        return ast.parse("".join(lines)) if lines else None
    except SyntaxError:
        return None


def _assignment(tree: ast.Module, number: int, name: str) -> tuple[ast.Assign, bool] | None:
    """The last assignment to a name before a line of a function, and whether it stands under `no_grad`."""
    around = (n for n in ast.walk(tree) if isinstance(n, _FUNCTIONS) and n.lineno <= number <= (n.end_lineno or 0))
    body = max(around, key=lambda n: n.lineno, default=tree)
    best: tuple[ast.Assign, bool] | None = None
    stack: list[tuple[ast.AST, bool]] = [(body, False)]
    while stack:
        node, guarded = stack.pop()
        if isinstance(node, ast.With):
            guarded |= any("no_grad" in ast.unparse(item.context_expr) for item in node.items)
        if isinstance(node, _FUNCTIONS) and node is not body:
            continue
        if isinstance(node, ast.Assign) and node.lineno < number and _names(node, name):
            best = (node, guarded) if best is None or node.lineno > best[0].lineno else best
        stack.extend((child, guarded) for child in ast.iter_child_nodes(node))
    return best


def _names(node: ast.Assign, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for target in node.targets for n in ast.walk(target))


def _reason(tree: ast.expr) -> str | None:
    """Why the value of this expression has no gradient, if its text tells."""
    if isinstance(tree, ast.Compare):
        return "a comparison has no derivative"
    for node in _last_calls(tree):
        name = called(node)
        if name == "astype" and any(kind in ast.unparse(node) for kind in ("int", "bool")):
            return "integers and booleans have no gradient"
        if name in _ENDS and not _literal(node):
            return _ENDS[name]
    calls = (called(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
    return next((_OFF[name] for name in calls if name in _OFF), None)


def _literal(call: ast.Call) -> bool:
    """Is it given nothing but numbers and the like?"""
    return bool(call.args) and all(not isinstance(n, ast.Name | ast.Call) for a in call.args for n in ast.walk(a))


def _last_calls(tree: ast.expr) -> Iterator[ast.Call]:
    """The calls of a chain of methods, the last first."""
    while isinstance(tree, ast.Call):
        yield tree
        if not isinstance(tree.func, ast.Attribute):
            return
        tree = tree.func.value
