"""`Module`: a function with state. Nothing is registered: parameters are found where they are.

Subclasses set attributes (Tensors, Modules, lists and dicts of them) and define `forward`; calling
`super().__init__()` is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from .._tensor import Tensor
from ..graph import Leaf
from ..scope import Path, Scope, current, enter, leave
from . import state as _state
from .state import is_buffer, is_parameter, items, walk


class Module:
    """Base class of layers, losses and models. `training` tells batch norm and dropout what to do."""

    training = True
    _path: Path | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scope = current()
        path = self._path
        if path is None or path.parent is not scope.path:
            path = self._path = Path(scope.path, _name_in(scope.module, self), type(self).__name__)
        token = enter(Scope(scope.recording, scope.replaying, self, path, scope.generator))
        try:
            return self.forward(*args, **kwargs)
        finally:
            leave(token)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """`(dotted name, parameter)` in order of definition; a shared one once, under its first name."""
        return walk(self, is_parameter)

    def parameters(self) -> Iterator[Tensor]:
        """All parameters, frozen ones too, each once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """`(dotted name, buffer)` in order of definition."""
        return walk(self, is_buffer)

    def buffers(self) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers())

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """`(dotted name, module)` of this module ('') and all below it, each once."""
        return walk(self, lambda v: isinstance(v, Module))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (m for _, m in self.named_modules())

    def children(self) -> Iterator[Module]:
        """The modules directly below this one, also in its lists and dicts."""
        return (m for _, m in _children(self))

    def state_dict(self) -> dict[str, Tensor]:
        """The values of parameters and buffers by dotted name, in PyTorch's names and layouts.

        Later training does not change them."""
        return _state.state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Self:
        """Write the values of a state dict of Tensors or arrays into parameters and buffers.

        strict: every name must be there and nothing else. Raises KeyError for names, ValueError for shapes and
        TypeError for dtypes; then nothing has been written. Returns the module."""
        _state.load_state_dict(self, state, strict)
        return self

    def train(self, mode: bool = True) -> Self:
        """Set training mode (batch statistics, dropout) here and below."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, flag: bool = True) -> Self:
        """Freeze or thaw every parameter."""
        for parameter in list(self.parameters()):
            parameter.requires_grad = flag
        return self

    def astype(self, dtype: Any) -> Self:
        """Cast parameters and floating buffers in place; gradients are dropped."""
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"{type(self).__name__}.astype: expected a floating dtype, got {np.dtype(dtype)}")
        for _, tensor in list(walk(self, lambda v: is_parameter(v) or is_buffer(v))):
            if tensor.dtype.kind == "f":
                tensor.data = tensor.data.astype(dtype)
                tensor.grad = None
                tensor.node = Leaf(tensor) if tensor.node is not None else None
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call fn on every module below, then on this one."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    def extra_repr(self) -> str:
        """What the repr shows between the parentheses of a module without children."""
        return ""

    def __repr__(self) -> str:
        return _tree(self, ())

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_path"}


def _name_in(parent: Module | None, module: Module) -> str:
    """The name under which a module stands in the one that calls it."""
    if parent is not None:
        for name, child in _children(parent):
            if child is module:
                return name
    return type(module).__name__


def _children(module: Module) -> Iterator[tuple[str, Module]]:
    stack = [iter(items(module))]
    names = [""]
    seen: set[int] = {id(module)}
    while stack:
        try:
            key, part = next(stack[-1])
        except StopIteration:
            stack.pop()
            names.pop()
            continue
        name = f"{names[-1]}.{key}" if names[-1] else key
        if id(part) in seen:
            continue
        if isinstance(part, Module):
            seen.add(id(part))
            yield name, part
        elif isinstance(part, dict | list | tuple):
            seen.add(id(part))
            stack.append(iter(items(part)))
            names.append(name)


def _tree(module: Module, above: tuple[Module, ...]) -> str:
    kind = type(module).__name__
    if any(module is m for m in above):
        return f"{kind}(...)"
    lines = []
    for name, child in _children(module):
        lines.append(f"({name}): " + _tree(child, (*above, module)).replace("\n", "\n  "))
    if not lines:
        return f"{kind}({module.extra_repr()})"
    return f"{kind}(\n  " + "\n  ".join(lines) + "\n)"


def functional_call(model: Module, state: Mapping[str, Any], *inputs: Any, **kwargs: Any) -> Any:
    """`model(*inputs)` with other values for the parameters and buffers that `state` names.

    state: Tensors or arrays by dotted name; Tensors may be results, and gradients flow into them.
    The model's own state is back in place afterwards, also after an error; what the call assigns to a
    replaced buffer is dropped. Raises KeyError for a name that the model does not have."""
    targets = dict(walk(model, lambda v: is_parameter(v) or is_buffer(v), every_name=True))
    for name, value in state.items():
        if name not in targets:
            raise KeyError(f"functional_call: {type(model).__name__} has no {name!r}")
        if np.shape(value) != targets[name].shape:
            raise ValueError(f"functional_call: {name}: expected shape {targets[name].shape}, got {np.shape(value)}")
    kept = {name: (targets[name].data, targets[name].node) for name in state}
    try:
        for name, value in state.items():
            tensor = value if isinstance(value, Tensor) else Tensor(value)
            targets[name].data, targets[name].node = tensor.data, tensor.node
        return model(*inputs, **kwargs)
    finally:
        for name, (array, node) in kept.items():
            targets[name].data, targets[name].node = array, node
