"""One step of training: gradient, clipping, update; eager or compiled; not taken where something is not finite."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..compiler import compile as compiled
from ..compiler.structure import put_together, take_apart
from ..graph import Array
from ..nn.module import Module
from ..optim.gradients import clip_grad_norm
from ..optim.optimizer import Optimizer
from ..primitive import primitive
from ..random import generator
from . import measures


def generators(model: Module) -> dict[str, np.random.Generator]:
    """All that a step draws from: the library's generator, under "", and those that modules have of their own."""
    own = {
        f"{name}.{attribute}" if name else attribute: value
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, np.random.Generator)
    }
    return {"": generator(), **own}


def set_generators(model: Module, states: Mapping[str, Any]) -> None:
    """Put the generators back. Raises ValueError for states of other generators."""
    found = generators(model)
    if set(states) != set(found):
        raise ValueError(f"Trainer: expected the states of generators {sorted(found)}, got {sorted(states)}")
    for name, source in found.items():
        source.bit_generator.state = states[name]


class Step:
    """Call it with a batch, inputs and targets: it gives the loss, the model's output, and the gradient's norm before
    clipping, and moves the parameters."""

    def __init__(
        self, model: Module, loss: Callable[..., Any], optimizer: Optimizer, clip: float | None, compile: bool
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        run: Any = functools.partial(_step, model, loss, optimizer, math.inf if clip is None else clip)
        self._kinds: set[Any] | None = None  # of batches that were recorded, if steps are compiled
        if compile:
            run.__name__ = "step"
            self._kinds = set()
        self._run = compiled(run) if compile else run
        self.prepare()

    def prepare(self) -> None:
        """Find what a step changes besides parameters. Once in a while: it takes as long as a small step."""
        self._buffers = list(self.model.buffers())
        self._generators = generators(self.model)

    def __call__(self, batch: Sequence[Tensor]) -> tuple[float, Any, float]:
        """Raises FloatingPointError for a loss or gradient that is not finite, and says where that comes from; weights,
        buffers and generators are then what they were."""
        *inputs, target = batch
        states = {name: g.bit_generator.state for name, g in self._generators.items()}
        buffers = [b.data.copy() for b in self._buffers]
        try:
            if self._kinds is not None:
                self._record(batch, self._kinds, states)
            loss, output, norm = self._run(*batch)
        except (RuntimeError, FloatingPointError) as error:
            self._restore(states, buffers)
            found = measures.origin(self.model, self.loss, inputs, target)
            self._restore(states, buffers)
            self.optimizer.zero_grad()
            if found is None:
                raise
            raise FloatingPointError(found) from error
        return loss.item(), output, float(norm)

    def _restore(self, states: Mapping[str, Any], buffers: Sequence[Array]) -> None:
        set_generators(self.model, states)
        for buffer, data in zip(self._buffers, buffers, strict=True):
            buffer.assign(data)

    def _record(self, batch: Sequence[Tensor], kinds: set[Any], states: Mapping[str, Any]) -> None:
        """Let a new kind of batch be recorded on the side.

        What is recorded runs as it is written, and its replay may round otherwise. If every step that counts is a
        replay, a resumed run, which has to record anew, computes what an uninterrupted one does."""
        rates = [group["lr"] == 0 for group in self.optimizer.param_groups]
        kind = (*[(b.shape, b.dtype) for b in batch], *rates)
        if kind in kinds:
            return
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                if p.requires_grad and p not in self.optimizer.state:
                    self.optimizer.state[p] = {"step": 0, **self.optimizer.init_state(p, group)}
        model, optimizer = self.model.state_dict(), self.optimizer.state_dict()
        try:
            self._run(*batch)
        finally:
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(optimizer)
            set_generators(self.model, states)
        kinds.add(kind)


def _finite(loss: Any) -> Any:
    if not np.isfinite(loss).all():
        raise RuntimeError(f"the loss is {loss}")
    return np.array(loss)


_checked = primitive(_finite, lambda g, _y, _loss: g, name="loss")  # an operation, so that a compiled step looks, too


def _step(model: Module, loss: Any, optimizer: Optimizer, clip: float, *batch: Tensor) -> tuple[Tensor, Any, Any]:
    *inputs, target = batch
    output = model(*inputs)
    value = _checked(loss(output, target))
    optimizer.zero_grad()
    value.backward()
    norm = clip_grad_norm([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()
    return value.detach(), mapped(output, lambda tensor: tensor.detach()), norm


def mapped(output: Any, change: Callable[[Tensor], Any]) -> Any:
    """What a model gives, a Tensor or several in tuples, lists and dicts, with each one changed."""
    found: list[Any] = []
    structure = take_apart(output, found, stays=lambda _: False)
    return put_together(structure, [change(part) if isinstance(part, Tensor) else part for part in found])
