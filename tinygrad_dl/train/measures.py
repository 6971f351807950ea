"""A look into a model on one batch: what its layers do, and where a NaN or an infinity comes from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import Array
from ..insight import detect_nan
from ..nn.module import Module
from ..nn.observing import observed
from ..random import generator
from ..scope import within


def activations(model: Module, inputs: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """Of every layer, in the order of calls: its kind, the root mean square of its output (`activation`), and, where
    that has the input's shape and no parameters had a part, the share of units that it made zero for every example
    (`dead`).

    A layer is a module that has none below it, or parameters of its own. Looks at a copy, in a random stream of its
    own, and so changes nothing."""
    found: dict[str, dict[str, Any]] = {}

    twin = copy.deepcopy(model)
    names, owners = {id(module): name for name, module in twin.named_modules()}, weights(twin)
    layers = [m for m in twin.modules() if names[id(m)] in owners or next(m.children(), None) is None]

    def look(module: Module, given: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.dtype.kind != "f" or not output.size:
            return
        array = output.data
        rms = float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))
        found[names[id(module)]] = layer = {"kind": type(module).__name__, "activation": rms}
        if array.ndim > 1 and getattr(given, "shape", ()) == array.shape and next(module.parameters(), None) is None:
            layer["dead"] = float(np.mean(np.asarray(given).any(axis=0) & ~array.any(axis=0)))

    with observed(layers, look), within(recording=False, generator=copy.deepcopy(generator())):
        twin(*inputs)
    return found


def weights(model: Module) -> dict[str, dict[str, Tensor]]:
    """The parameters of each layer that has any, by the layer's name."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        layer, _, own = name.rpartition(".")
        found.setdefault(layer, {})[own] = parameter
    return found


def norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all elements, summed in float64."""
    return float(np.sqrt(sum(np.sum(np.square(a, dtype=np.float64)) for a in arrays)))


def accuracy(output: Any, target: Any) -> float:
    """The share of examples whose label has the largest output; (N, C, ...) against (N, ...), ndarrays."""
    return float(np.mean(output.argmax(axis=1) == target))


class Look:
    """What one step does to every layer: made before the step, read after it."""

    def __init__(self, model: Module, inputs: Sequence[Tensor]) -> None:
        self.model, self.found = model, activations(model, inputs)
        self.before = {id(p): p.data.copy() for p in model.parameters() if p.ndim > 1}

    def layers(self) -> dict[str, dict[str, Any]]:
        """The activations, and of each layer the norm of its `gradient` (after clipping), and `update`, ‖ΔW‖ / ‖W‖ of
        its weights (two axes or more)."""
        for name, own in weights(self.model).items():
            measured = self.found.setdefault(name, {})
            gradients = [p.grad.data for p in own.values() if p.grad is not None]
            if gradients:
                measured["gradient"] = norm(gradients)
            changed = [(p.data, self.before[id(p)]) for p in own.values() if id(p) in self.before]
            size = norm([old for _, old in changed])
            if size > 0:
                measured["update"] = norm([new - old for new, old in changed]) / size
        return self.found


def origin(model: Module, loss: Callable[..., Any], inputs: Sequence[Tensor], target: Tensor) -> str | None:
    """Where the first NaN or infinity of a step is: an input, a parameter, or the operation that `detect_nan` names.

    None if all is finite. Runs the step up to the gradients, so buffers and `.grad` change."""
    named = [*[(f"input {i}", t) for i, t in enumerate(inputs)], ("the target", target), *_state(model)]
    for name, tensor in named:
        if bad := _bad(tensor):
            return f"{name} {bad}"
    with within(recording=True, generator=copy.deepcopy(generator())):
        try:
            with detect_nan():
                value = loss(model(*inputs), target)
                value.backward()
        except FloatingPointError as error:
            return str(error)
    gradients = [(f"the gradient of {name!r}", p.grad) for name, p in model.named_parameters() if p.grad is not None]
    return next((f"{name} {bad}" for name, t in [("the loss", value), *gradients] if (bad := _bad(t))), None)


def _state(model: Module) -> Iterator[tuple[str, Tensor]]:
    for name, p in model.named_parameters():
        yield f"parameter {name!r}", p
    for name, b in model.named_buffers():
        yield f"buffer {name!r}", b


def _bad(tensor: Tensor) -> str:
    """`has 3 NaN and 1 infinite of 64 values`, or nothing."""
    array = tensor.data
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    nan, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    counts = " and ".join(f"{n} {kind}" for n, kind in ((nan, "NaN"), (infinite, "infinite")) if n)
    return f"has {counts} of {array.size} values"
