"""Between Tensors and plain values: what a Tensor can be made of, NumPy's protocols, arrays, numbers and texts.

A value that a step reads out while it is recorded would be fixed in the program, so the tape refuses it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._operators import Operators
from ._spelling import KEYWORDS
from .graph import Array, Handle
from .primitive import ANSWERS, Primitive
from .scope import taping


def to_array(data: Any, dtype: Any) -> Array:
    """A fresh ndarray: Python floats become float32, or what arrays beside them have; Python ints int64; arrays keep
    their dtype."""
    if isinstance(data, Handle):
        data = data.data
    elif isinstance(data, list | tuple):
        data = _plain(data)
    if np.ma.isMaskedArray(data):
        raise TypeError("tensor: expected an array without a mask; write tensor(a.filled(0)) and np.where by a.mask")
    array = np.array(data, dtype=dtype, order="C")
    if dtype is None and array.dtype == np.float64:
        found = {a.dtype for a in _arrays(data)} or {np.dtype(np.float32)}
        array = array.astype(np.result_type(*found, 1.0), copy=False)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"tensor: expected real numbers or booleans, got {array.dtype}"
            + ("; complex numbers are not supported" if array.dtype.kind == "c" else "")
        )
    return array


def _plain(data: Any) -> Any:
    return (
        [_plain(d) for d in data] if isinstance(data, list | tuple) else data.data if isinstance(data, Handle) else data
    )


def _arrays(data: Any) -> Iterator[Any]:
    """The arrays and NumPy scalars in nested lists."""
    if isinstance(data, list | tuple):
        for part in data:
            yield from _arrays(part)
    elif isinstance(data, np.ndarray | np.generic):
        yield data


class Conversions(Operators):
    """Mixed into Tensor."""

    __slots__ = ()

    # NumPy's protocols

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        _readable(self, "use as a plain array (for array[tensor] write tg.tensor(array)[tensor])")
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"np.array: {array.dtype} as {np.dtype(dtype)} needs a copy; leave copy=False out")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} is not supported on Tensors; {_instead(ufunc, method)}")
        op = ANSWERS.get(ufunc)
        if op is None:
            raise TypeError(f"np.{ufunc.__name__} has no derivative rule here; {_RAW}")
        _check_keywords(op, ufunc, kwargs)
        return op(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        op = ANSWERS.get(function)
        if op is None:
            raise TypeError(f"{_full_name(function)} has no derivative rule here; {_RAW}")
        _check_keywords(op, function, kwargs)
        return op(*args, **kwargs)

    # conversions

    def numpy(self) -> Array:
        """A read-only view of the value. Raises RuntimeError on a tensor that requires grad."""
        if self.node is not None:
            raise RuntimeError("this tensor requires grad: a plain array would leave the graph; use .detach().numpy()")
        _readable(self, "numpy()")
        view = self.data.view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The value of a one-element tensor as a Python number."""
        _readable(self, "item()")
        return self.data.item()

    def tolist(self) -> Any:
        """The value as nested Python lists."""
        _readable(self, "tolist()")
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        _readable(self, "use as an index")
        return self.data.__index__()

    def __bool__(self) -> bool:
        _readable(self, "bool()")
        return bool(self.data)

    def __format__(self, spec: str) -> str:
        return format(self.item() if spec and self.data.size == 1 else str(self), spec)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, value: Any) -> bool:
        _readable(self, "in")
        return bool(np.any(self.data == (value.data if isinstance(value, Handle) else value)))


def _readable(tensor: Handle, how: str) -> None:
    if (tape := taping()) is not None:
        tape.refuse_reading(tensor, how)


def _check_keywords(op: Any, function: Any, kwargs: dict[str, Any]) -> None:
    """Raise TypeError for what NumPy's function takes and ours does not."""
    for key in kwargs:
        if key not in _keywords(op) and key not in KEYWORDS:
            name = f"np.{function.__name__}" if isinstance(function, np.ufunc) else _full_name(function)
            known = ", ".join(sorted(_keywords(op)))
            only = f", only {known}" if known else ""
            in_place = "; in place of array += t write array = array + t" if key == "out" else ""
            raise TypeError(f"{name}: {key}= is not supported on Tensors{only}; use the result{in_place}")


@functools.cache
def _keywords(op: Any) -> frozenset[str]:
    if isinstance(op, Primitive):
        return frozenset((*op.array_names, *op.static_names))
    return frozenset(inspect.signature(op).parameters)


_ADD_AT = "use tg.scatter_add(t, i, index=(tg.ops.index.ARRAY,), shape=x.shape), which makes a new array"
_RAW = "use t.detach().numpy() for a plain array"


def _instead(ufunc: np.ufunc, method: str) -> str:
    reductions = {
        "add": "np.sum",
        "multiply": "np.prod",
        "maximum": "np.max",
        "minimum": "np.min",
        "logical_or": "np.any",
    }
    if method == "reduce" and ufunc.__name__ in reductions:
        return f"use {reductions[ufunc.__name__]}"
    return _ADD_AT if (ufunc, method) == (np.add, "at") else _RAW


def _full_name(function: Any) -> str:
    return f"{function.__module__}.{function.__name__}".replace("numpy", "np", 1)
