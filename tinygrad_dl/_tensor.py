"""The Tensor: a handle on an ndarray that records what is done with it.

Operators, methods and NumPy functions (`np.exp(t)`, `np.sum(t, axis=0)`, `array @ t`) all end in the
primitives of `ops`. A Tensor's value is changed only by `assign`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from . import scope as _scope
from ._conversions import Conversions, to_array
from ._spelling import ELSEWHERE, Elsewhere
from .autodiff import accumulate, propagate
from .graph import Array, Handle, Leaf, set_result, unshared, wrap
from .scope import compiling, current, taping


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None) -> Tensor:
    """A Tensor that holds a copy of `data`.

    data: a number, nested sequences, an ndarray or a Tensor. Python floats become float32 and Python ints
        int64; arrays keep their dtype.
    requires_grad: `backward` of later results adds its gradient to `.grad`; floating dtypes only.
    name: shown in drawings and messages.
    Raises TypeError for complex or non-numeric data, and for `requires_grad` of integers or booleans.
    """
    return Tensor(data, dtype, requires_grad, name)


class Tensor(Conversions):
    """An array whose operations are recorded. Made by `tinygrad_dl.tensor`.

    It has ndarray's operators, indexing, attributes and methods, in NumPy's spelling (`axis`, `keepdims`).
    Results of operations on a Tensor that requires grad require grad.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None) -> None:
        tape = taping()
        self.data = to_array(data, dtype) if tape is None else tape.fresh(data, dtype, to_array)
        self.node = self._grad = None
        self.name = name
        self.requires_grad = requires_grad
        if tape is not None:
            tape.make(self)

    # what it is

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    @property
    def itemsize(self) -> int:
        return self.data.itemsize

    @property
    def is_leaf(self) -> bool:
        """Was it made by the user, rather than by a recorded operation?"""
        return self.node is None or type(self.node) is Leaf

    @property
    def _is_state(self) -> bool:
        """Is it a parameter, a buffer or a leaf that requires grad, which is assigned to, never replaced?"""
        return type(self.node) is Leaf

    @property
    def requires_grad(self) -> bool:
        """Are operations on it recorded? Settable on leaves of a floating dtype."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if not self.is_leaf:
            raise RuntimeError(
                "requires_grad can be set on leaves only; this tensor is a result: use .detach() instead"
            )
        if bool(flag) is (self.node is not None):
            return
        if flag and self.data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad needs a floating dtype, got {self.data.dtype}; use .astype('float32') first"
            )
        _scope.changes += 1
        self.node = Leaf(self) if flag else None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has accumulated, a Tensor of the same shape and dtype, or None.

        Only leaves have one, and results for which `retain_grad()` was called."""
        if self.node is not None and self.node.retain == 2:
            g = self.node.grad
            return wrap(g) if isinstance(g, np.ndarray) else g
        if (tape := taping()) is not None:
            tape.read_grad(self)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if isinstance(value, Tensor) else Tensor(value, self.dtype)
            if value.shape != self.shape:
                raise ValueError(f"grad: expected shape {self.shape}, got {value.shape}")
            if value.dtype != self.dtype:
                value = value.astype(self.dtype)
        if (tape := taping()) is not None:
            tape.write_grad(self)
        self._grad = value

    def __repr__(self) -> str:
        kind = type(self).__name__
        values = np.array2string(self.data, separator=", ", prefix=kind + "(", threshold=100)
        shape = "" if self.size else f", shape={self.shape}"
        text = f"{kind}({values}{shape}, dtype={self.dtype}"
        if self.name:
            text += f", name={self.name!r}"
        if self.node is not None:
            op = self.node.operation.primitive
            text += f", op={op.name}" if op else ", requires_grad=True"
        return text + ")"

    # gradients

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False) -> None:
        """Add the gradients of this tensor to `.grad` of every leaf that it was computed from.

        gradient: that of some scalar with respect to this tensor, of its shape; optional for a one-element tensor.
        retain_graph: keep the values that the graph saved, to call `backward` again; default: `create_graph`.
        create_graph: record the backward pass, for higher derivatives.
        Raises RuntimeError without a graph, or if it was already consumed; ValueError for a gradient of another shape.
        """
        seeds: list[Any] = [(self.node, self._seed_gradient(gradient, create_graph))]
        retain = create_graph if retain_graph is None else retain_graph
        accumulate(propagate(seeds, second=create_graph, retain=retain), create_graph)

    def _seed_gradient(self, gradient: Any, create_graph: bool) -> Any:
        """Where a backward pass begins: a Tensor for one whose rules run on Tensors, else an array."""
        if self.node is None:
            raise RuntimeError(
                "backward: this tensor does not require grad: no operation on a tensor with requires_grad=True "
                "led to it (or it was computed in no_grad, or detached)"
            )
        if gradient is None:
            if self.size != 1:
                raise ValueError(
                    f"backward: expected a one-element tensor, got shape {self.shape}; pass gradient=, or sum it"
                )
            gradient = np.ones_like(self.data)
        array = gradient.data if isinstance(gradient, Tensor) else np.asarray(gradient)
        if array.shape != self.shape:
            raise ValueError(f"backward: gradient has shape {array.shape}, expected the tensor's shape {self.shape}")
        if create_graph or taping() is not None:
            seed = gradient if isinstance(gradient, Tensor) else Tensor(array, self.dtype)
            return seed if create_graph else seed.detach()
        return array.astype(self.dtype, copy=False)

    def retain_grad(self) -> None:
        """Keep the gradient of this result in `.grad` during backward; leaves always do."""
        if self.node is None:
            raise RuntimeError("retain_grad: this tensor does not require grad; set requires_grad=True before it")
        if not self.is_leaf:
            self.node.retain = 2

    def detach(self) -> Tensor:
        """The same value outside the graph, without a copy."""
        if (tape := taping()) is not None:
            tape.value(self)  # or the array would be known as the result's alone, which nobody ever assigns to
        # Elsewhere an array is one tensor's: by it a step that is compiled later knows this one from the other.
        return wrap(self.data if tape is not None or compiling() else self.data.view())

    def assign(self, value: Any) -> Self:
        """Write a new value: the only way in which a tensor's storage changes.

        value: an array or Tensor of this shape, or a number; cast to this dtype. The write is not recorded in
        the graph. Views and copies that were taken before keep the old value. Returns the tensor.
        Raises ValueError for another shape, TypeError for a dtype that does not fit, RuntimeError on a result
        of an operation and for a value that requires grad.
        """
        scope, tape = current(), taping()
        if scope.replaying:
            return self
        if not self.is_leaf:
            raise RuntimeError("assign: this tensor is the result of an operation; assign to a leaf, or use a new name")
        if isinstance(value, Handle):
            if value.node is not None and scope.recording:
                raise RuntimeError("assign: the value requires grad; use .assign(v.detach()), or `with tg.no_grad():`")
            if tape is not None:
                tape.value(value)
            value = value.data
        array = np.asarray(value)
        if array.shape != self.shape and array.ndim:
            raise ValueError(f"assign: expected shape {self.shape}{_named(self)}, got {array.shape}")
        if not isinstance(value, bool | int | float) and not np.can_cast(array.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"assign: expected {self.dtype}{_named(self)}, got {array.dtype}, which does not fit; use .astype"
            )
        if tape is not None:
            tape.store(self, array)
        elif array is not self.data:
            if self.node is not None and unshared(self):  # nobody else sees the memory: write in place
                self.data[...] = array
            else:
                fresh = np.empty_like(self.data)
                fresh[...] = array
                self.data = fresh
        if self.node is not None:
            self.node.overwritten()  # type: ignore[attr-defined]
        return self

    def _update(self, result: Callable[[], Tensor], form: str) -> Self:
        """`t -= v` and `t[i] = v`: `assign` on state, a new value behind this handle on anything else."""
        if self._is_state and current().recording:
            kind = type(self).__name__
            raise RuntimeError(
                f"`{form}` would overwrite a {kind}{_named(self)} while gradients are recorded; write\n"
                f"  with tg.no_grad():\n      {form}\nor t.assign(value), or give the result a new name"
            )
        new = result()
        if new.shape != self.shape:
            raise ValueError(f"`{form}`: the result has shape {new.shape}, the tensor {self.shape}; give it a new name")
        if new.dtype != self.dtype:
            if not np.can_cast(new.dtype, self.dtype, "same_kind"):
                raise TypeError(f"`{form}`: the result is {new.dtype}, the tensor {self.dtype}; give it a new name")
            new = new.astype(self.dtype)
        if self._is_state:
            return self.assign(new)
        if (tape := taping()) is not None:
            tape.touch(self)
        self.data, self.node = new.data, new.node
        return self

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor; use .item()")
        return (self[i] for i in range(len(self.data)))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        tape = taping()
        if tape is not None:
            tape.read_grad(self)
            tape.value(self)
        build, (kind, data, *rest) = self.__reduce__()
        data = data.copy(order="K") if tape is None else tape.own(data)
        memo[id(self)] = copied = build(kind, data, *copy.deepcopy(rest, memo))
        if tape is not None:
            tape.make(copied)
        return copied  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        if not self.is_leaf:
            raise TypeError("only leaves can be copied or pickled; this tensor is a result: use .detach() first")
        return _rebuild, (
            type(self),
            self.data,
            self.requires_grad,
            self.name,
            None if self._grad is None else self._grad.detach(),
            getattr(self, "__dict__", None),
        )


def _named(tensor: Tensor) -> str:
    return f" of {tensor.name!r}" if tensor.name else ""


def _rebuild(
    cls: type[Tensor], data: Array, requires_grad: bool, name: str | None, grad: Tensor | None, extra: Any
) -> Tensor:
    new: Tensor = object.__new__(cls)
    new.data, new.node, new.name, new._grad = data, None, name, grad
    if extra:
        new.__dict__.update(extra)
    new.requires_grad = requires_grad
    return new


for _name in ELSEWHERE:
    setattr(Tensor, _name, Elsewhere(_name))
set_result(Tensor)
