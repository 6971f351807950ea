"""Run a model to look at it: see what its modules get and give, and leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .module import Module


def inputs_of(batch: Any) -> Any:
    """The inputs of a batch: the batch itself, or the first of the arrays that a loader gives."""
    return batch[0] if isinstance(batch, tuple | list) else batch


@contextmanager
def observed(modules: Iterable[Module], see: Callable[[Module, Any, Any], Any]) -> Iterator[None]:
    """Inside the block, every call of these modules ends in `see(module, input, output)`.

    What `see` returns stands in for the output, unless it is None. Not for two threads on one model at once."""
    own = [(module, vars(module).get("forward")) for module in modules]
    try:
        for module, _ in own:
            module.forward = _seen(module, module.forward, see)
        yield
    finally:
        for module, forward in own:
            if forward is not None:
                module.forward = forward
            elif "forward" in vars(module):
                del module.forward


def _seen(module: Module, forward: Callable[..., Any], see: Callable[[Module, Any, Any], Any]) -> Callable[..., Any]:
    def seen(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        instead = see(module, args[0] if args else None, output)
        return output if instead is None else instead

    return seen


def evaluating(model: Module) -> AbstractContextManager[None]:
    """Inside the block the model is in evaluation mode; afterwards each module is in its own mode again."""
    return in_mode(model, training=False)


@contextmanager
def in_mode(model: Module, training: bool) -> Iterator[None]:
    """Inside the block the model is in this mode; afterwards each module is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def undone_on_error(model: Module) -> Iterator[None]:
    """If the block raises, the model's parameters and buffers get back the values that they had before it."""
    before = model.state_dict()
    try:
        yield
    except BaseException:
        model.load_state_dict(before)
        raise
