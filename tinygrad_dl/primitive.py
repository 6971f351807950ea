"""Operations: `primitive` makes one from a NumPy kernel and a derivative rule per array argument.

Every operation on a Tensor goes through `Primitive.__call__`: it runs the kernel and, while recording is on, creates a
Node, which is plain data.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import zip_longest
from sys import _getframe
from typing import TYPE_CHECKING, Any

import numpy as np

from . import graph
from . import scope as _scope
from ._source import USER_FILES, describe, explain, user_frame, user_line
from .graph import SEVERAL, SMALL, Handle, Leaf, Node, Output, _empty, next_order, wrap
from .scope import current

if TYPE_CHECKING:
    from ._tensor import Tensor

Rule = Callable[..., Any]
ANSWERS: dict[Any, Callable[..., Any]] = {}  # NumPy function -> ours that answers to it


class Primitive:
    """An operation on Tensors. Call it with arrays by position and metadata by keyword, or in NumPy's
    spelling. Without a Tensor among the arguments it is its kernel: NumPy in, NumPy out."""

    def __init__(self, kernel: Callable[..., Any], vjps: Sequence[Rule | None], name: str, elementwise: bool) -> None:
        self.kernel, self.vjps, self.elementwise = kernel, tuple(vjps), elementwise
        self.name = self.__name__ = name
        self.__doc__ = kernel.__doc__
        parameters = [] if isinstance(kernel, np.ufunc) else list(inspect.signature(kernel).parameters.values())
        self.open = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.variadic = self.open and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
        self.arity = len(self.vjps)
        self.array_names = [p.name for p in parameters[: self.arity] if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.static_names = [p.name for p in parameters[self.arity :] if p.kind is not p.VAR_POSITIONAL]
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        self.keeps_output, self.drops = _unread(self.vjps)
        self.gaps = None in self.vjps
        self.joint = self.variadic  # are the gradients computed together?
        self.forward: Callable[..., tuple[Any, Any]] | None = None

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *args: Any, **static: Any) -> Tensor:
        if _scope.observers and (observer := _scope.observer()) is not None:
            return observer.call(self, args, static)  # type: ignore[no-any-return]
        if static or (len(args) != self.arity and not self.open):
            args, static = self._bind(args, static)
        arrays: list[Any] = []
        parents: list[Node | None] = []
        plain, names = True, None
        for arg in args:
            if isinstance(arg, Handle):
                plain = False
                arrays.append(arg.data)
                parents.append(arg.node)
                if arg.node is None and arg.name is not None:
                    names = {**(names or {}), len(arrays) - 1: arg.name}
            else:
                arrays.append(np.asarray(arg) if type(arg) is list or type(arg) is tuple else arg)
                parents.append(None)
        saved = None
        try:
            if self.forward is None:
                output = self.kernel(*arrays, **static)
            else:
                output, saved = self.forward(*arrays, **static)
        except Exception as error:
            raise explain(error, self.name, args, static, current().path, user_line()) from error
        if plain:
            return output  # type: ignore[no-any-return]
        if self.gaps:
            parents = [p if rule else None for p, rule in zip_longest(parents, self.vjps)]
        if parents.count(None) == len(parents):
            return _unrecorded(output)  # type: ignore[no-any-return]
        for i in range(len(parents)) if self.variadic and self.drops else self.drops:
            if parents[i] is not None:  # what no rule reads is not kept: its Node stands in for it
                arrays[i] = parents[i]
        return self._record(output, arrays, parents, static, saved, names, 2)  # type: ignore[no-any-return]

    def _record(self, output: Any, arrays: Any, parents: Any, static: Any, saved: Any, names: Any, depth: int) -> Any:
        """Wrap the output and, if a gradient may be asked for, write down how it came about.

        depth: how many frames of this package stand between here and the user's line, at least."""
        scope = current()
        if not scope.recording:
            return _unrecorded(output)
        node = Node()
        node.primitive = self
        node.parents = parents
        node.args = arrays
        node.static = static
        node.saved = saved
        node.path = scope.path
        node.names = names
        frame = _getframe(depth)  # each step back makes a frame object: 0.1 µs
        code = frame.f_code
        if code.co_filename not in USER_FILES:
            frame = user_frame(frame)
            code = frame.f_code
        node.code = code
        node.instruction = frame.f_lasti
        node.order = next_order()
        node.output = node.origin = node.grad = node.spent = None
        node.retain = 0
        if type(output) is not _ndarray:
            if type(output) is tuple:
                node.shape, node.dtype = (), SEVERAL
                return tuple(
                    wrap(y, Output(node, i, output)) if y.dtype.kind == "f" else wrap(y) for i, y in enumerate(output)
                )
            if output is None:
                raise TypeError(f"{self.name}: the kernel returned None; expected an array")
            output = np.asarray(output)
        node.shape = output.shape
        dtype = node.dtype = output.dtype
        if dtype is not _FLOAT32 and dtype.kind != "f":
            if dtype.kind not in "iub":
                instead = "real and imaginary parts" if dtype.kind == "c" else "numbers, np.asarray(x, float)"
                raise TypeError(
                    f"{self.name}: the result is of {dtype}, through which no gradient flows, and an argument requires "
                    f"grad; compute with {instead}, or with .detach()"
                )
            return wrap(output)
        if output.base is not None:
            node.origin = next((p if type(p) is Leaf else p.origin for p in parents if p is not None), None)
        if output.size <= SMALL:
            node.output = output
            node.retain = 1
        elif self.keeps_output:
            node.output = output
        tensor: Tensor = _empty(graph.result)  # `wrap`, written out
        tensor.data = output
        tensor.node = node
        tensor.name = tensor._grad = None
        return tensor

    def _bind(self, args: tuple[Any, ...], static: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """NumPy's spellings (`sum(x, 0)`, `clip(x, max=1)`) to arrays by position and metadata by keyword."""
        if isinstance(self.kernel, np.ufunc):
            if static:
                raise TypeError(f"{self.name}: keyword {next(iter(static))!r} is not supported on Tensors")
            return args, static
        if not self.open and len(args) > self.arity:
            extra = args[self.arity :]
            if len(extra) > len(self.static_names):
                most = self.arity + len(self.static_names)
                raise TypeError(f"{self.name}: expected at most {most} arguments, got {len(args)}")
            static = dict(zip(self.static_names, extra, strict=False)) | static
            args = args[: self.arity]
        for name in self.array_names[len(args) :]:
            if name not in static:
                break
            static = dict(static)
            args = (*args, static.pop(name))
        for name, value in static.items():
            if isinstance(value, Handle):
                raise TypeError(
                    f"{self.name}: {name} is metadata here and cannot be a Tensor: {self.arity} array argument(s) have "
                    "rules; give `primitive` one for each array, None for an array without gradient"
                )
        return args, static

    def pull(self, node: Node, g: Any, targets: Sequence[Node | None], second: bool) -> Sequence[Any]:
        """The gradients of the arguments whose nodes are targets; `second` asks for the reading on Tensors."""
        args: Sequence[Any] = node.args
        y: Any = node if node.output is None else node.output
        if second:
            args = _as_tensors(node)
            y = y if y is node else wrap(y, node)
        if self.variadic:
            rule: Any = self.vjps[0]
            return [p and rule(g, y, *args, argnum=i, **node.static) for i, p in enumerate(targets)]
        static = node.static
        results: list[Any] = []  # a comprehension is a call of its own before Python 3.12
        for rule, target in zip(self.vjps, targets, strict=False):
            if target is None:
                results.append(None)
            elif static:
                results.append(rule(g, y, *args, **static))
            else:
                results.append(rule(g, y, *args))
        return results

    def vjp(
        self, g: Any, y: Any, saved: Any, args: Sequence[Any], static: dict[str, Any], wanted: Container[int]
    ) -> Sequence[Any]:
        """The gradients of the arguments at the wanted positions, on arrays and apart from any graph. saved: what a
        fused forward left."""
        node = Node()
        node.args, node.static, node.output, node.saved = args, static, y, saved
        return self.pull(node, g, [node if i in wanted else None for i in range(len(args))], False)


def primitive(
    fn: Callable[..., Any],
    *vjps: Rule | None,
    name: str | None = None,
    elementwise: bool = False,
    numpy: Callable[..., Any] | Iterable[Callable[..., Any]] = (),
) -> Primitive:
    """Make an operation from a kernel and the rules of its derivative.

    fn: the kernel, `fn(*arrays, **static) -> ndarray`; it must not write into its arguments.
    vjps: one rule per array argument, `rule(g, y, *arrays, **static)`, which returns the gradient of that
        argument from the gradient `g` of the output `y`; None for an argument without a gradient. A rule is
        written in NumPy and must not write into its arguments. An argument that no rule reads (its name
        begins with `_`) is not kept: the rule gets an object with its `shape`, `ndim` and `dtype`. A kernel
        of `*arrays` has one rule, which gets the position of the argument as the keyword `argnum`.
    name: shown in drawings and messages; default the kernel's.
    elementwise: NumPy broadcasting applies, and gradients are summed over the broadcast axes. Otherwise a gradient
        must have the shape of its argument.
    numpy: the NumPy function (or functions) that call this operation when they get a Tensor.
    Raises ValueError if such a function already calls another operation, TypeError without rules or a name.
    """
    name = name or getattr(fn, "__name__", None)
    if name is None:
        raise TypeError(f"primitive: expected name= for {describe(fn)}, which has none of its own")
    arrays = fn.nin if isinstance(fn, np.ufunc) else max(1, len(vjps))
    if len(vjps) != arrays:
        raise TypeError(
            f"primitive: {name}: expected a rule for each array argument, None for one without gradient: {arrays}, got "
            f"{len(vjps)}"
        )
    op = Primitive(fn, vjps, name, elementwise)
    answer(op, numpy)
    return op


def answer(op: Callable[..., Any], numpy: Callable[..., Any] | Iterable[Callable[..., Any]]) -> None:
    """Let `np.f(tensor)` call `op`."""
    for function in (numpy,) if callable(numpy) else tuple(numpy):
        if not callable(function):
            raise TypeError(f"primitive: expected a function in numpy=, such as np.sinc, got {function!r}")
        if function in ANSWERS:
            raise ValueError(
                f"{function.__name__} already has an operation; leave numpy= out and call the object that is returned"
            )
        ANSWERS[function] = op


_FLOAT32 = np.dtype(np.float32)
_ndarray = np.ndarray


def _unrecorded(output: Any) -> Any:
    if type(output) is tuple:
        return tuple(wrap(np.asarray(y)) for y in output)
    if output is None:
        raise TypeError("the kernel of a primitive returned None; expected an array")
    return wrap(output if type(output) is np.ndarray else np.asarray(output))


def _unread(vjps: Sequence[Rule | None]) -> tuple[bool, tuple[int, ...]]:
    """Does a rule read the output; which arguments does no rule read?"""
    read = [False] * (len(vjps) + 1)
    for rule in filter(None, vjps):
        names = [
            p
            for p in inspect.signature(rule).parameters.values()
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)
        ][1:]
        for i in range(len(read)):
            if names and not names[min(i, len(names) - 1)].name.startswith("_"):
                read[i] = True
    return read[0], tuple(i for i, r in enumerate(read[1:]) if not r)


def _as_tensors(node: Node) -> list[Any]:
    return [wrap(a, p) if isinstance(a, np.ndarray) else a for a, p in zip(node.args, node.parents, strict=True)]
