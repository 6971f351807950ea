"""The statements that compute one instruction in NumPy, into a buffer, into a fresh array or as a view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import ops
from ..graph import Array
from ..ops._arguments import count
from ..ops.index import ARRAY
from .kernel_text import Definitions, Unwritable, dtype_text, literal
from .layout import GETITEM, REDUCTIONS, SCATTER_ADD, SETITEM, WHERE, is_view, order_of
from .program import Instruction, Literal, Value

_REDUCE = {ops.sum: "add", ops.mean: "add", ops.max: "maximum", ops.min: "minimum", ops.prod: "multiply"}
_LARGE = 2048  # elements, from which `where` by bits is faster


def _keep_where(mask: Any, x: Any, out: Any) -> Any:
    """`np.where(mask, x, 0)` by bits, which does not slow down where the mask is irregular."""
    bits = out.view(f"i{out.itemsize}")
    bits[...] = mask
    np.negative(bits, out=bits)
    bits &= x.view(bits.dtype)
    return out


def _clear_where(mask: Any, x: Any, out: Any) -> Any:
    """`np.where(mask, 0, x)` by bits, which does not slow down where the mask is irregular."""
    bits = out.view(f"i{out.itemsize}")
    bits[...] = mask
    bits -= 1
    bits &= x.view(bits.dtype)
    return out


def form_of(step: Instruction) -> str:
    """How an instruction is written.

    out: a call that takes `out=`. fill: an array that is written into. view: an expression that shows its
    argument's memory. fresh: a call whose result is always new. call: one whose result may be its argument's."""
    if is_view(step):
        return "view"
    if is_ufunc(step) or step.op is ops.matmul or _is_reduction(step):
        return "out"
    if step.op is WHERE:
        return "fresh" if _masked(step) is None else "out"
    if step.op in (ops.astype, ops.broadcast_to, SCATTER_ADD, SETITEM):
        return "fill"
    return "call"


def is_ufunc(step: Instruction) -> bool:
    """Is it an elementwise function of NumPy with one result?"""
    kernel = step.op.kernel
    return isinstance(kernel, np.ufunc) and kernel.signature is None and kernel.nout == 1


def allocation(prototype: Array) -> str:
    """An expression for an array of the prototype's shape, dtype and order in memory."""
    return _in_order("np.empty", prototype, "")


def on_buffer(prototype: Array, buffer: str) -> str:
    """The same, in the memory of another array."""
    return _in_order("np.ndarray", prototype, f", {buffer}")


def _in_order(function: str, prototype: Array, more: str) -> str:
    dtype, order = dtype_text(prototype.dtype), order_of(prototype)
    if order == tuple(range(prototype.ndim)):
        return f"{function}({literal(prototype.shape)}, {dtype}{more})"
    shape = tuple(prototype.shape[i] for i in order)
    back = tuple(int(i) for i in np.argsort(order))
    return f"{function}({literal(shape)}, {dtype}{more}).transpose({literal(back)})"


def _is_reduction(step: Instruction) -> bool:
    x, dtype = step.inputs[0] if step.inputs else None, step.static.get("dtype")
    if step.op not in REDUCTIONS or x is None or dtype is not None or not step.static.keys() <= _REDUCTION_STATIC:
        return False
    if step.op is ops.mean:
        return x.dtype in (np.float32, np.float64)
    return x.dtype != np.float16


_REDUCTION_STATIC = {"axis", "keepdims", "dtype"}


def _masked(step: Instruction) -> Any:
    """(helper, mask, x) of a `where` that takes x or zero."""
    mask, x, y = step.args
    out = step.outputs[0]
    if not isinstance(mask, Value) or mask.dtype != np.bool_ or out.size < _LARGE or out.dtype.kind not in "iuf":
        return None
    if out.dtype.itemsize > 8:
        return None
    if isinstance(x, Value) and x.dtype == out.dtype and _is_zero(y):
        return _keep_where, mask, x
    if isinstance(y, Value) and y.dtype == out.dtype and _is_zero(x):
        return _clear_where, mask, y
    return None


def _is_zero(arg: Value | Literal) -> bool:
    return type(arg) in (bool, int, float) and repr(arg) in ("False", "0", "0.0")


class Writer:
    """names: of values. definitions: what the statements need besides."""

    def __init__(self, names: Mapping[Value, str], definitions: Definitions) -> None:
        self.names, self.definitions = names, definitions

    def statements(self, step: Instruction, target: str | None, empty: str) -> list[str]:
        """target: an expression for the array to write into, None for any. empty: one for a new array."""
        form, name = form_of(step), ", ".join(self.names[v] for v in step.outputs)
        if form == "fill":
            if target is None and step.op is ops.astype:
                return [f"{name} = {self._text(step.args[0])}.astype({dtype_text(step.outputs[0].dtype)})"]
            return [f"{name} = {target or empty}", *self._filling(step, name)]
        if form == "out":
            return [f"{name} = {self._into(step, target, empty)}"]
        return [f"{name} = {self._value(step)}"]

    def _text(self, arg: Value | Literal) -> str:
        return self.names[arg] if isinstance(arg, Value) else literal(arg)

    def _arguments(self, step: Instruction) -> str:
        return ", ".join(self._text(a) for a in step.args)

    def _into(self, step: Instruction, target: str | None, empty: str) -> str:
        """A call with `out=`."""
        out = f", out={target}" if target else ""
        masked = _masked(step) if step.op is WHERE else None
        if masked is not None:
            helper, mask, x = masked
            function = self.definitions.expression(helper, "where")
            return f"{function}({self._text(mask)}, {self._text(x)}, out={target or empty})"
        if step.op in _REDUCE:
            text = self._reduction(step, out)
        else:
            text = f"{self.definitions.expression(step.op.kernel, step.op.name)}({self._arguments(step)}{out})"
        return text if target or step.outputs[0].ndim else f"np.asarray({text})"

    def _reduction(self, step: Instruction, out: str) -> str:
        x, axis = step.inputs[0], step.static.get("axis")
        axes = literal(axis if axis is None or isinstance(axis, int) else tuple(axis))
        keepdims = ", keepdims=True" if step.static.get("keepdims") else ""
        text = f"np.{_REDUCE[step.op]}.reduce({self._text(x)}, axis={axes}{keepdims}{out})"
        return text if step.op is not ops.mean else f"np.divide({text}, {count(x.shape, axis)}{out})"

    def _filling(self, step: Instruction, name: str) -> list[str]:
        """Statements that fill an array of this name."""
        if step.op in (ops.astype, ops.broadcast_to):
            return [f"{name}[...] = {self._text(step.args[0])}"]
        first = 1 if step.op is SCATTER_ADD else 2
        index = ", ".join(self._index(step, first))
        indices = [a for a in step.args[first:] if isinstance(a, Value)]
        if step.op is SETITEM:
            return [f"{name}[...] = {self._text(step.args[0])}", f"{name}[{index}] = {self._text(step.args[1])}"]
        if all(i.dtype == np.bool_ for i in indices):  # no element is named twice
            return [f"{name}[...] = 0", f"{name}[{index}] = {self._text(step.args[0])}"]
        spelled = ", ".join(self._index(step, first, literal))
        return [f"{name}[...] = 0", f"np.add.at({name}, ({spelled},), {self._text(step.args[0])})"]

    def _index(self, step: Instruction, first: int, write: Callable[[Any], str] | None = None) -> list[str]:
        """What stands between the brackets; arrays are arguments from the first on."""
        arrays = iter(step.args[first:])
        write = write or _part
        return [self._text(next(arrays)) if i is ARRAY else write(i) for i in step.static["index"]] or ["()"]

    def _value(self, step: Instruction) -> str:
        """An expression whose result is taken as it comes."""
        y = step.outputs[0]
        if step.op is GETITEM:
            index = self._index(step, 1)
            if not y.ndim and len(step.args) == 1:  # `x[0, ...]` is an array, `x[0]` a number
                index = [i for i in index if i not in ("...", "()")] + ["..."]
            text = f"{self._text(step.args[0])}[{', '.join(index)}]"
            return text if y.ndim or len(step.args) == 1 else f"np.asarray({text})"
        if step.op is ops.reshape:
            return f"{self._text(step.args[0])}.reshape({literal(y.shape)})"
        if step.op is ops.transpose:
            axes = step.static.get("axes")
            return f"{self._text(step.args[0])}.transpose({'' if axes is None else literal(tuple(map(int, axes)))})"
        return self._call(step)

    def _call(self, step: Instruction) -> str:
        """A call of the operation's own kernel, or of `np.where`."""
        function = "np.where" if step.op is WHERE else self.definitions.expression(step.op.kernel, step.op.name)
        static = [f", {k}={self._static(v, k)}" for k, v in step.static.items()]
        text = f"{function}({self._arguments(step)}{''.join(static)})".replace("(, ", "(", 1)
        if len(step.outputs) > 1:
            return text if all(v.ndim for v in step.outputs) else f"map(np.asarray, {text})"
        return text if step.outputs[0].ndim and _of_library(step) else f"np.asarray({text})"

    def _static(self, value: Any, name: str) -> str:
        """Data in its place; what takes many lines is made once, before the step."""
        try:
            text = literal(value)
        except Unwritable:
            text = ""
        return text if text and "\n" not in text else self.definitions.expression(value, name)


def _part(index: Any) -> str:
    """An integer, slice, `...` or None between brackets."""
    if not isinstance(index, slice):
        return literal(index)
    text = ":".join("" if i is None else literal(i) for i in (index.start, index.stop, index.step))
    return text.removesuffix(":") if index.step is None else text


def _of_library(step: Instruction) -> bool:
    """Is the kernel NumPy's or one of this package's, which return arrays unless they are 0-d?"""
    module = getattr(step.op.kernel, "__module__", None) or "numpy"
    return module.partition(".")[0] in ("numpy", __name__.partition(".")[0])
