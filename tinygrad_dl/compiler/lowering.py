"""What operations mean in basic ones: a composite instruction is replaced by a recording of its meaning.

Basic are NumPy's ufuncs, `where`, `astype`, `sigmoid`, `erf`, reductions, `matmul`, views, `broadcast_to` and
`bits`. What has no entry here stays as it is, an opaque kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..graph import Handle, wrap
from ..nn import activations, transformations
from ..ops import index as _index
from ..ops._arguments import count
from ..primitive import Primitive
from ..random import bits
from ..scope import within, written_to
from .program import Instruction, Literal, Value
from .tape import Tape

ARRAY = _index.ARRAY


def _mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    if dtype is not None or a.dtype.kind != "f" or a.dtype == np.float16 or not a.size:
        return NotImplemented
    return ops.sum(a, axis=axis, keepdims=keepdims) * (1 / count(a.shape, axis))


def _logsumexp(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if a.dtype.kind != "f" or not a.size:
        return NotImplemented
    peak = np.max(a, axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)
    y = np.log(np.sum(np.exp(a - peak), axis=axis, keepdims=True)) + peak
    return y if keepdims else y.reshape(np.empty(a.shape, bool).sum(axis=axis).shape)


def _picked(index: Any, x_shape: Any, indices: Any) -> bool:
    """Is it one element of each row, by a column of labels behind a column of row numbers?"""
    return (
        index == (ARRAY, ARRAY)
        and len(x_shape) == 2
        and all(i.dtype.kind in "iu" and i.shape == (x_shape[0], 1) for i in indices)
    )


def _columns(rows: int, labels: Any, classes: int) -> Any:
    """Where in each row its label stands; negative labels count from the end."""
    own = np.where(np.less(labels, 0), labels + classes, labels)
    return np.equal(own, np.arange(classes).reshape(1, classes))


def _getitem(x: Any, *indices: Any, index: Any) -> Any:
    if not _picked(index, x.shape, indices) or not _is_iota(indices[0]):
        return NotImplemented
    return np.sum(np.where(_columns(x.shape[0], indices[1], x.shape[1]), x, 0), axis=1, keepdims=True)


def _scatter_add(g: Any, *indices: Any, index: Any, shape: Any) -> Any:
    if not _picked(index, shape, indices) or g.shape != (shape[0], 1) or not _is_iota(indices[0]):
        return NotImplemented
    return np.where(_columns(shape[0], indices[1], shape[1]), g, 0)


def _is_iota(rows: Any) -> bool:
    return bool(np.array_equal(rows.data, np.arange(len(rows.data)).reshape(-1, 1)))


def _setitem(x: Any, v: Any, *indices: Any, index: Any) -> Any:
    if index not in ((Ellipsis,), (slice(None),)) or not isinstance(v, Handle):
        return NotImplemented
    return ops.broadcast_to(ops.astype(v, dtype=x.dtype), shape=x.shape)


def _matmul(a: Any, b: Any) -> Any:
    if a.ndim < 3 or b.ndim != 2 or 0 in a.shape:
        return NotImplemented
    return ops.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])


def _same(x: Any, **static: Any) -> Any:
    return x


BASIC: tuple[Primitive, ...] = (
    *(ops.sum, ops.max, ops.min, ops.prod, ops.matmul, ops.reshape, ops.transpose, ops.broadcast_to, ops.astype),
    *(ops.choice._where, activations._sigmoid, activations.erf, bits),
)


def basic_name(step: Instruction) -> str:
    """A basic operation's name, for a ufunc NumPy's; "" for all others. A user's operation may be called anything."""
    if isinstance(step.op.kernel, np.ufunc):
        name = step.op.kernel.__name__
        return name if getattr(np, name, None) is step.op.kernel else ""
    return step.op.name if step.op in BASIC else ""


MEANINGS: dict[Primitive, Callable[..., Any]] = {
    ops.mean: _mean,
    ops.logsumexp: _logsumexp,
    ops.elementwise.root: np.sqrt,
    ops.copy: _same,
    ops.matmul: _matmul,
    ops.positive: _same,
    _index._getitem: _getitem,
    _index.scatter_add: _scatter_add,
    _index._setitem: _setitem,
    activations._gate: lambda g, closed: np.where(closed, 0, g),
    activations._relu: activations._relu.kernel,
    activations._leaky_relu: activations._leaky_relu.kernel,
    activations._elu: activations._elu.kernel,
    transformations._towards: transformations._towards.kernel,
}


def lower(step: Instruction, constants: dict[Value, Any]) -> tuple[list[Instruction], dict[Value, Value]] | None:
    """The instructions that an instruction means, and what now stands for its outputs; None for a basic one."""
    meaning = MEANINGS.get(step.op)
    if meaning is None:
        return None
    tape = Tape()
    args = [_stand_in(tape, a, constants) for a in step.args]
    with written_to(tape), within(recording=False):
        result = meaning(*args, **step.static)
    if result is NotImplemented:
        return None
    value = tape.value(result)
    constants.update(tape.constants)
    for part in tape.body:
        part.line, part.path, part.backward = step.line, step.path, step.backward
    assert isinstance(value, Value)
    if value.shape != step.outputs[0].shape or value.dtype != step.outputs[0].dtype:
        raise AssertionError(f"the meaning of {step.op.name} gives {value!r}, expected {step.outputs[0]!r}")
    return tape.body, {step.outputs[0]: value}


def _stand_in(tape: Tape, arg: Value | Literal, constants: dict[Value, Any]) -> Any:
    """A tensor of an argument's shape and dtype, which the tape knows as that argument."""
    if not isinstance(arg, Value):
        return arg
    array = constants.get(arg)
    array = np.broadcast_to(np.zeros((), arg.dtype), arg.shape) if array is None else array.view()
    tape.hold(array, arg)
    return wrap(array)
