"""What operations mean in basic ones: a composite instruction is replaced by a recording of its meaning.

Basic are NumPy's ufuncs, `where`, `astype`, `sigmoid`, `erf`, reductions, `matmul`, views, `broadcast_to` and
`bits`. What has no entry here stays as it is, an opaque kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from .._tensor import Tensor
from ..graph import Handle, wrap
from ..nn import activations, transformations
from ..ops import index as _index
from ..ops._arguments import count
from ..ops.einsum import _einsum as EINSUM
from ..primitive import Primitive, primitive
from ..random import bits
from ..scope import written_to
from .program import Instruction, Literal, Value
from .tape import Tape

ARRAY = _index.ARRAY
_MOST = 8  # the largest power that is multiplied out


def _mean(a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    if dtype is not None or a.dtype == np.float16 or not a.size:
        return NotImplemented
    if a.dtype.kind != "f":  # as exact as NumPy's: 7 of 10 are 0.7
        return ops.sum(ops.astype(a, dtype=np.float64), axis=axis, keepdims=keepdims) / count(a.shape, axis)
    return ops.sum(a, axis=axis, keepdims=keepdims) * (1 / count(a.shape, axis))


def _logsumexp(a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if a.dtype.kind != "f" or not a.size:
        return NotImplemented
    peak = np.max(a, axis=axis, keepdims=True)
    peak = np.where(np.isfinite(peak), peak, 0)
    y = np.log(np.sum(np.exp(a - peak), axis=axis, keepdims=True)) + peak
    return y if keepdims else y.reshape(np.empty(a.shape, bool).sum(axis=axis).shape)


def _bounded(indices: Any, size: int) -> Any:
    """Indices of as many things, none counted from the end."""
    wrong = (indices < -size) | (indices >= size)
    if wrong.any():
        raise IndexError(f"index {indices[wrong][0]} is out of bounds for axis 1 with size {size}")
    return np.where(indices < 0, indices + size, indices)


bounded = primitive(_bounded, None, name="getitem")


def _picked(index: Any, x_shape: Any, indices: Any) -> bool:
    """Is it one element of each row, by labels behind the numbers of all rows?"""
    return (
        index == (ARRAY, ARRAY)
        and len(x_shape) == 2
        and all(i.dtype.kind in "iu" and i.shape in (x_shape[:1], (x_shape[0], 1)) for i in indices)
        and indices[0].shape == indices[1].shape
        and _is_iota(indices[0].data)
    )


def _is_iota(rows: Any) -> bool:
    """Is it a constant (what stands in for all else has no distances), and counts the rows?"""
    return 0 not in rows.strides and np.array_equal(rows.reshape(-1), np.arange(rows.size))


def _columns(labels: Any, classes: int) -> Any:
    """Where in each row its label stands."""
    own = bounded(ops.astype(labels.reshape(-1, 1), dtype=np.int64), size=classes)
    return np.equal(own, np.arange(classes).reshape(1, classes))


def _reshaped(index: Any, shape: Any) -> Any:
    """The shape of what an index gives that only adds and drops axes of length one, else None."""
    if not all(i is None or i is Ellipsis or i == slice(None) or type(i) is int for i in index):
        return None
    found = np.broadcast_to(False, shape)[index].shape
    return found if math.prod(found) == math.prod(shape) > 0 else None


def _getitem(x: Any, *indices: Any, index: Any) -> Any:
    if (shape := _reshaped(index, x.shape)) is not None:
        return x.reshape(shape)
    if not _picked(index, x.shape, indices):
        return NotImplemented
    picked = np.where(_columns(indices[1], x.shape[1]), x, _least(x.dtype))
    return np.max(picked, axis=1, keepdims=True).reshape(indices[1].shape)


def _least(dtype: Any) -> Any:
    """What is greater than no number of a dtype."""
    return -math.inf if dtype.kind == "f" else False if dtype == np.bool_ else int(np.iinfo(dtype).min)


def _scatter_add(g: Any, *indices: Any, index: Any, shape: Any) -> Any:
    if _reshaped(index, shape) is not None:
        return g.reshape(shape)
    if not _picked(index, shape, indices) or g.shape != indices[1].shape:
        return NotImplemented
    return np.where(_columns(indices[1], shape[1]), g.reshape(-1, 1), 0)


def _setitem(x: Any, v: Any, *indices: Any, index: Any) -> Any:
    if index not in ((Ellipsis,), (slice(None),)) or not isinstance(v, Handle):
        return NotImplemented
    return ops.broadcast_to(ops.astype(v, dtype=x.dtype), shape=x.shape)


def _matmul(a: Any, b: Any) -> Any:
    """Of matrices, where one is a vector or only the first has a batch."""
    if 0 in (*a.shape, *b.shape) or (a.ndim == 2 and b.ndim == 2) or (b.ndim > 2 and a.ndim > 1):
        return NotImplemented
    rows = a.reshape(-1, a.shape[-1])
    y = ops.matmul(rows, b.reshape(-1, 1) if b.ndim == 1 else b)
    return y.reshape(*a.shape[:-1], *b.shape[:-2], *b.shape[-1:]) if b.ndim > 1 else y.reshape(a.shape[:-1])


def _einsum(*operands: Any, subscripts: str, optimize: Any = True) -> Any:
    """Of two operands a product of matrices: batch axes first, then those of one alone, then those summed over."""
    inputs, _, output = subscripts.partition("->")
    if len(operands) == 1:
        return ops.transpose(operands[0], axes=tuple(inputs.index(c) for c in output))
    if len(operands) > 2:
        return NotImplemented
    (a, b), (x, z) = inputs.split(","), operands
    rows, columns = dict(zip(a, x.shape, strict=True)), dict(zip(b, z.shape, strict=True))
    alike = all(rows[c] == columns[c] for c in a if c in b)
    if not alike or x.dtype != z.dtype or x.dtype.kind != "f" or 0 in (*x.shape, *z.shape):
        return NotImplemented
    batch = [c for c in output if c in a and c in b]
    own, other = ([c for c in output if c in names and c not in batch] for names in (a, b))
    summed = [c for c in a if c in b and c not in output]
    sizes = rows | columns
    x = _arranged(x, a, batch, own, summed, sizes)
    z = _arranged(z, b, batch, summed, other, sizes)
    y = np.matmul(x, z) if summed else x * z
    made = [*batch, *own, *other]
    return ops.transpose(y.reshape([sizes[c] for c in made]), axes=tuple(made.index(c) for c in output))


def _arranged(x: Any, names: str, batch: Any, rows: Any, columns: Any, sizes: dict[str, int]) -> Any:
    """An operand as matrices, those of each kind of axes as one."""
    x = ops.transpose(x, axes=tuple(names.index(c) for c in (*batch, *rows, *columns)))
    flat = [math.prod(sizes[c] for c in names) for names in (rows, columns)]
    return x.reshape([sizes[c] for c in batch] + flat)


def _power(x: Any, exponent: Any) -> Any:
    """By a whole or half number that is not large."""
    if not isinstance(x, Tensor) or x.dtype not in (np.float32, np.float64) or isinstance(exponent, Handle):
        return NotImplemented
    if exponent == 0.5:  # as NumPy 2.4 has it; other half powers of -0.0 and -inf lose the sign
        return np.sqrt(x)
    whole, half = divmod(abs(exponent), 1)
    if whole > _MOST or half not in (0, 0.5) or not exponent:
        return NotImplemented
    y: Any = _multiplied(np.abs(x) if half else x, int(whole)) if whole else 1
    if half:
        y = y * np.where(np.equal(x, -math.inf), math.inf, np.sqrt(x) + 0.0)
    return y if exponent > 0 else 1 / y


def _multiplied(x: Any, times: int) -> Any:
    if times == 1:
        return x
    y = np.square(_multiplied(x, times // 2))
    return y * x if times % 2 else y


def _clip(a: Any, low: Any, high: Any) -> Any:
    if a.dtype.kind != "f":
        return NotImplemented
    a = a if low is None else np.maximum(a, low)
    return a if high is None else np.minimum(a, high)


def _same(x: Any, **static: Any) -> Any:
    return x


BASIC: tuple[Primitive, ...] = (
    *(ops.sum, ops.max, ops.min, ops.prod, ops.matmul, ops.reshape, ops.transpose, ops.broadcast_to, ops.astype),
    *(ops.choice._where, activations._sigmoid, activations.erf, bits),
)


FUNCTIONS = (  # elementary ones among the basic operations: some thirty instructions each
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp"),
    *("tanh", "sigmoid", "erf", "sin", "cos"),
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
    ops.power: _power,
    ops.choice._clip: _clip,
    EINSUM: _einsum,
    _index._getitem: _getitem,
    _index.scatter_add: _scatter_add,
    _index._setitem: _setitem,
    activations._gate: lambda g, closed: np.where(closed, 0, g),
    activations._relu: activations._relu.kernel,
    activations._leaky_relu: activations._leaky_relu.kernel,
    activations._elu: activations._elu.kernel,
    activations._softplus: activations._softplus.kernel,
    transformations._towards: transformations._towards.kernel,
}


def lower(step: Instruction, constants: dict[Value, Any]) -> tuple[list[Instruction], dict[Value, Value]] | None:
    """The instructions that an instruction means, and what now stands for its outputs; None for a basic one."""
    meaning = MEANINGS.get(step.op)
    if meaning is None:
        return None
    tape = Tape()
    args = [_stand_in(tape, a, constants) for a in step.args]
    with np.errstate(all="ignore"):  # of zeros, see below
        result = written_to(tape, lambda: meaning(*args, **step.static), recording=False)
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
