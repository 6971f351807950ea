"""What PyTorch spells otherwise: answered with the name to write instead."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C")

KEYWORDS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims", "input": "the first argument"}

ELSEWHERE = {
    "unsqueeze": "np.expand_dims(t, axis)",
    "view": "t.reshape(shape)",
    "permute": "t.transpose(axes)",
    "expand": "np.broadcast_to(t, shape)",
    "cat": "np.concatenate",
    "gather": "np.take_along_axis(t, indices, axis)",
    "flip": "np.flip(t, axis)",
    "t": "t.T",
    "clone": "t.copy()",
    "dim": "t.ndim",
    "numel": "t.size",
    "norm": "np.linalg.norm(t)",
    "logsumexp": "nn.functional.logsumexp(t)",
    "relu": "nn.functional.relu(t)",
    "sigmoid": "nn.functional.sigmoid(t)",
    "softmax": "nn.functional.softmax(t)",
    "add": "a + b",
    "sub": "a - b",
    "mul": "a * b",
    "div": "a / b",
    "pow": "a ** b",
    "mm": "a @ b",
    "matmul": "a @ b",
    "add_": "t += v",
    "sub_": "t -= v",
    "mul_": "t *= v",
    "zero_": "t.assign(0)",
    "fill_": "t.fill(v)",
    "copy_": "t.assign(v)",
    "requires_grad_": "t.requires_grad = True",
    "grad_fn": "t.node",
    "float": "t.astype('float32')",
    "double": "t.astype('float64')",
    "long": "t.astype('int64')",
    "to": "t.astype(dtype)",
    "cpu": "nothing: arrays live in main memory",
    "cuda": "nothing: arrays live in main memory",
    **{f: f"np.{f}(t)" for f in ("abs", "exp", "log", "sqrt", "sin", "cos", "tanh", "sign", "square")},
    "maximum": "np.maximum(t, v)",
}


class Elsewhere:
    """An attribute that only says what to write. (A `__getattr__` on Tensor would slow down every attribute
    of it: 2.0 µs an operation against 1.6.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, tensor: Any, cls: Any = None) -> Any:
        raise AttributeError(f"Tensor has no attribute {self.name!r}; write {ELSEWHERE[self.name]}")


def spelled(function: F) -> F:
    """Decorate a function with an axis: called with `dim=` or `keepdim=`, it says what to write."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name in KEYWORDS and name not in known:
                raise TypeError(
                    f"{function.__name__}: there is no {name}=; write {KEYWORDS[name]} for it (array functions have "
                    "NumPy's spelling)"
                )
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


def spelled_methods(cls: type[C]) -> type[C]:
    """Decorate a class: `spelled` for all its methods with an axis."""
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and "axis" in inspect.signature(method).parameters:
            setattr(cls, name, spelled(method))
    return cls
