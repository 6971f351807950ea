"""`Module`: a function with state. Nothing is registered: parameters are found where they are.

Subclasses set attributes (Tensors, Modules, lists and dicts of them) and define `forward`; calling
`super().__init__()` is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self
from weakref import ref

import numpy as np

from .. import scope as _scope
from .._source import describe
from .._tensor import Tensor
from ..graph import Leaf
from ..scope import Path, Scope, current, enter, standing_in, taping
from . import state as _state
from .state import Holder, Parameter, is_buffer, is_parameter, is_state, items, named_state, nearest, walk


class Module(Holder):
    """Base class of layers, losses and models. `training` tells batch norm and dropout what to do."""

    training = True
    _path: Path | None = None  # of the latest call; kept, so that a call costs no new record

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, ...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        scope = current()
        path = self._path
        if path is None or path.parent is not scope.path:
            path = self._path = Path(scope.path, _name_in(scope.module, self), type(self).__name__, ref(self))
        inherited = scope.generator, scope.sources, scope.tape, scope.compiling
        try:
            enter(Scope(scope.recording, scope.replaying, self, path, *inherited))
            return self.forward(*args, **kwargs)
        finally:
            enter(scope)

    def __setattr__(self, name: str, value: Any) -> None:
        """Only a Parameter, a Buffer or None replaces one: anything else would take it out of the state unseen."""
        old = self.__dict__.get(name)
        if value is not None and is_state(old) and not is_state(value):
            kind = "buffer" if is_buffer(old) else "parameter"
            raise TypeError(
                f"{type(self).__name__}.{name} is a {kind} and cannot be replaced by {describe(value)}; write\n"
                f"  with tg.no_grad():\n      self.{name}.assign(value)\n"
                f"to change its value, assign an nn.{kind.capitalize()}, or give the result another name"
            )
        if old is not value or name not in self.__dict__:
            _scope.changes += 1
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        _scope.changes += 1
        super().__delattr__(name)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """`(dotted name, parameter)` in order of definition; a shared one once, under its first name."""
        return walk(self, is_parameter)

    def parameters(self) -> Iterator[Tensor]:
        """All parameters, including frozen ones, each once."""
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
        """The modules directly below this one, also in its lists and dicts, each once."""
        return iter({id(m): m for _, m in _children(self)}.values())

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
            if module.training is not mode:
                module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and below."""
        return self.train(False)

    def requires_grad_(self, flag: bool = True) -> Self:
        """Freeze or thaw every parameter."""
        for parameter in list(self.parameters()):
            if type(parameter) is Tensor:
                parameter.__class__ = Parameter  # frozen, a plain leaf would no longer count as state
            parameter.requires_grad = flag
        return self

    def astype(self, dtype: Any) -> Self:
        """Cast parameters and floating buffers in place; gradients of tensors that change are dropped."""
        dtype = np.dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"{type(self).__name__}.astype: expected a floating dtype, got {dtype}")
        for _, tensor in list(walk(self, is_state)):
            if tensor.dtype.kind == "f" and tensor.dtype != dtype:
                tensor.data, tensor.grad = tensor.data.astype(dtype), None
                tensor.node = tensor.node and Leaf(tensor)  # a node knows its dtype
        return self

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call fn on this module and on every one below, in the order of `modules()`."""
        for module in list(self.modules()):
            fn(module)
        return self

    def extra_repr(self) -> str:
        """What the repr shows of the module, in addition to its class and children."""
        return ""

    def __repr__(self) -> str:
        return _tree(self, ())

    def __getstate__(self) -> dict[str, Any]:
        """Without the latest call's place; results that the module keeps are copied without their graphs."""
        parts = ((name, value) for name, value in self.__dict__.items() if name != "_path")
        return {n: v.detach() if isinstance(v, Tensor) and not v.is_leaf else v for n, v in parts}


def _children(value: Any, prefix: str = "", above: tuple[Any, ...] = ()) -> Iterator[tuple[str, Module]]:
    """The modules directly below, under each name that they have there."""
    for key, part in items(value):
        if isinstance(part, Module):
            yield prefix + key, part
        elif not any(part is a for a in above):  # a list may hold itself
            yield from _children(part, f"{prefix}{key}.", (*above, part))


def _name_in(parent: Module | None, module: Module) -> str:
    """The name under which a module stands in the one that calls it."""
    return next((name for name, child in _children(parent) if child is module), type(module).__name__)


def _tree(module: Module, above: tuple[Module, ...]) -> str:
    kind = type(module).__name__
    if any(module is m for m in above):
        return f"{kind}(...)"
    children = [f"({name}): {_tree(child, (*above, module))}" for name, child in _children(module)]
    extra = module.extra_repr()
    if not children:
        return f"{kind}({extra})"
    body = "\n".join([extra, *children] if extra else children)
    return f"{kind}(\n  " + body.replace("\n", "\n  ") + "\n)"


def functional_call(model: Module, state: Mapping[str, Any], *inputs: Any, **kwargs: Any) -> Any:
    """`model(*inputs)` with other values for the parameters and buffers that `state` names.

    state: Tensors or arrays by dotted name; Tensors may be results, and gradients flow into them.
    Afterwards, even after an error, the model has its own state again; what the call assigns to a replaced buffer is
    lost. Not safe for two threads on one model at once. Raises KeyError for a name that the model does not have,
    ValueError for a wrong shape and for two different values of one shared tensor.
    """
    targets = named_state(model)
    values: dict[Tensor, Tensor] = {}
    for name, value in state.items():
        who = f"functional_call: {type(model).__name__}"
        if name not in targets:
            raise KeyError(f"{who} has no {name!r}{nearest(name, list(targets))}")
        value = value if isinstance(value, Tensor) else Tensor(value)
        if value.shape != targets[name].shape:
            raise ValueError(f"{who}: {name}: expected shape {targets[name].shape}, got {value.shape}")
        first = values.setdefault(targets[name], value)
        if first.node is not value.node or not np.array_equal(first.data, value.data, equal_nan=True):
            raise ValueError(f"{who}: {name} has several names; give one value, under one of them")
    own = [(tensor, tensor.data, tensor.node) for tensor in values]
    tape = taping()
    try:
        for tensor, value in values.items():
            data = value.data if tape is None else tape.alias(value)
            tensor.data, tensor.node = data, value.node
        with standing_in():
            return model(*inputs, **kwargs)
    finally:
        for tensor, data, node in own:
            tensor.data, tensor.node = data, node
