"""Initialisation of a whole model from a batch of data: `lsuv_`, `data_dependent_`, `dropout_adjusted_`.

Each function changes, in place, every layer with a weight of two or more axes that is not frozen, in the order in
which the batch passes them, and returns the model. A layer that sets its own scale (CentredLinear) does not change.
The batch is run in evaluation mode; for `lsuv_` and `data_dependent_`, batch norms use the batch's own statistics.
Running statistics do not change. After an exception the model is unchanged.

batch: inputs, or a tuple whose first part is the inputs, as from a Loader. Random numbers come from the scope's or
    process's generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..random import generator, normal
from ..scope import enable_grad, no_grad
from ..transforms import gradients
from .initializers import orthogonal_
from .layers import CentredLinear, Dropout
from .module import Module
from .observing import evaluating, inputs_of, observed, undone_on_error
from .state import Parameter
from .statistics import population_statistics


@no_grad()
def lsuv_(model: Module, batch: Any) -> Module:
    """Orthogonal weights, then layer by layer W ← W / σ, where σ is the standard deviation of all the layer's outputs
    on the batch, until |σ − 1| < 0.1, at most 10 times (Mishkin and Matas 2015, All you need is a good init,
    algorithm 1).

    Raises ValueError for a layer whose outputs are all equal, and for a model without layers to initialise."""
    x = inputs_of(batch)
    with undone_on_error(model), population_statistics(model):
        layers = _layers("lsuv_", model, x)
        for layer in layers:
            orthogonal_(layer.weight)
        for number, layer in enumerate(layers):
            for _ in range(10):
                output = _output(model, layer, x)
                _must_vary("lsuv_", number, layer, output.reshape(-1, 1))
                std = float(output.std())
                if abs(std - 1) < 0.1:
                    break
                layer.weight.assign(layer.weight / std)
    return model


@no_grad()
def data_dependent_(model: Module, batch: Any) -> Module:
    """W ← W / σ and b ← −μ / σ for each unit, with μ and σ of its outputs on the batch; then the layers are balanced
    (Krähenbühl et al. 2015, Data-dependent initializations of convolutional neural networks, algorithms 1 and 2; the
    second's iteration has a closed form).

    It starts with the model's current weights, and with biases of zero. Balanced means that all weights change at the
    same relative rate, ‖∂L/∂W‖ / ‖W‖, for a loss with random weights on the outputs. Scaling one layer against another
    does not change the function if the activation between them is homogeneous (ReLU, leaky ReLU, none). In a model
    where it would change (tanh, batch norm), the layers are not balanced.

    Raises ValueError for a unit with equal outputs, and for a model without layers to initialise."""
    x = inputs_of(batch)
    with undone_on_error(model), population_statistics(model):
        layers = _layers("data_dependent_", model, x)
        for number, layer in enumerate(layers):
            if _bias(layer) is not None:
                layer.bias.assign(0.0)
            units = _by_unit(layer, _output(model, layer, x))
            _must_vary("data_dependent_", number, layer, units)
            mean, std = units.mean(0), units.std(0)
            layer.weight.assign(layer.weight / std.reshape((-1,) + (1,) * (layer.weight.ndim - 1)))
            if _bias(layer) is not None:
                layer.bias.assign(-mean / std)
        _balance(model, layers, x)
    return model


@no_grad()
def dropout_adjusted_(model: Module, batch: Any) -> Module:
    """Each unit's weights uniform on the unit sphere, divided by √(E[f²] / p + p · E[f′²]) (Hendrycks and Gimpel 2016,
    Adjusting for dropout variance in batch normalization and weight initialization).

    p is the probability of keeping a unit. E[f²] / p refers to what precedes the layer, and is 1 before the first
    layer, whose inputs should be normalised; p · E[f′²] refers to what follows it, and is 1 after the last. The
    expectations, ½ and ½ for ReLU, are estimated by passing standard normal numbers, as many as the batch has, through
    whatever the model does between two layers. p comes from the `nn.Dropout` layers there.

    Raises ValueError for a model that is no chain of layers, and for `Dropout(scale="test")`."""
    x = inputs_of(batch)
    with evaluating(model):  # a batch norm that has just been made does nothing then
        layers = _layers("dropout_adjusted_", model, x)
        for layer, variance in zip(layers, _variances(model, layers, x), strict=True):
            w = generator().normal(size=(layer.weight.shape[0], math.prod(layer.weight.shape[1:])))
            w /= np.linalg.norm(w, axis=1, keepdims=True) * math.sqrt(variance)
            layer.weight.assign(w.reshape(layer.weight.shape))
    return model


def _layers(who: str, model: Module, x: Any) -> list[Any]:
    """The layers to initialise, in the order in which they run."""
    able = [m for m in model.modules() if _is_layer(m)]
    order: dict[Any, None] = {}
    with observed(able, lambda layer, x, y: order.setdefault(layer)):
        model(x)
    if not order:
        raise ValueError(f"{who}: {type(model).__name__} has no layer with a weight (out, in, ...) that is not frozen")
    return list(order)


def _is_layer(module: Any) -> bool:
    weight = vars(module).get("weight")
    return (
        isinstance(weight, Parameter)
        and weight.ndim >= 2
        and weight.requires_grad
        and not isinstance(module, CentredLinear)
    )


def _bias(layer: Any) -> Any:
    """The bias, if there is one that is not frozen."""
    bias = vars(layer).get("bias")
    return bias if bias is not None and bias.requires_grad else None


def _output(model: Module, layer: Any, x: Any) -> Any:
    """What the layer gives for this input of the model, an ndarray."""
    found: list[Any] = []
    with observed([layer], lambda layer, x, y: found.append(y.data)):
        model(x)
    return found[0]


def _by_unit(layer: Any, output: Any) -> Any:
    """Outputs as (values, units): the units of a Linear lie on the last axis, channels on the one behind the batch."""
    axis = -1 if layer.weight.ndim == 2 else 1
    return np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])


def _must_vary(who: str, number: int, layer: Any, units: Any) -> None:
    """Raise a ValueError for columns that are constant up to rounding, or not finite."""
    constant = ~(units.std(0) > 1e-6 * np.abs(units).max(0))
    if constant.any():
        unit = f"unit {constant.argmax()} of " if units.shape[1] > 1 else ""
        raise ValueError(
            f"{who}: {unit}layer {number}, {layer}, gives equal (or no finite) outputs for the whole batch of "
            f"{len(units)}, which no scale can help; give a larger batch, or other weights to begin with"
        )


def _balance(model: Module, layers: Sequence[Any], x: Any) -> None:
    """Scale the layers to one relative rate of change, if that leaves the function as it is.

    A factor on W divides the gradient of W by the same factor, so the relative rate by its square."""
    weights = [layer.weight for layer in layers]
    with enable_grad():
        y = model(x)
        if not isinstance(y, Tensor):  # several outputs: no chain of layers
            return
        grads = gradients(y, weights, gradient=normal(shape=y.shape, dtype=y.dtype), allow_unused=True)
    norms = [0.0 if g is None else float(np.linalg.norm(g.data)) for g in grads]
    rates = np.array(norms) / [np.linalg.norm(w.data) for w in weights]
    if not (rates > 0).all():
        return
    before = model.state_dict()
    reach = 1.0
    for layer, factor in zip(layers, np.sqrt(rates / np.exp(np.log(rates).mean())).tolist(), strict=True):
        reach *= factor
        layer.weight.assign(layer.weight * factor)
        if _bias(layer) is not None:
            layer.bias.assign(layer.bias * reach)
    if not np.abs(model(x).data - y.data).max() < 1e-3 * np.abs(y.data).max():
        model.load_state_dict(before)


def _variances(model: Module, layers: Sequence[Any], x: Any) -> list[float]:
    """E[f²] / p + p · E[f′²] of each layer."""
    sent: dict[Any, Tensor] = {}
    arrived: list[Tensor] = []
    keep = [1.0]

    def see(module: Module, x: Any, y: Any) -> Any:
        if isinstance(module, Dropout):
            keep[-1] *= _kept(module)
            return None
        if module in sent:
            raise ValueError(f"dropout_adjusted_: expected a chain of layers, but {module} runs twice")
        arrived.append(x)
        sent[module] = Tensor(_standard_normal(y.shape), y.dtype, requires_grad=True)
        keep.append(1.0)
        return sent[module]

    dropouts = [m for m in model.modules() if isinstance(m, Dropout)]
    with observed([*layers, *dropouts], see), enable_grad():
        model(x)
        totals = [np.sum(u) for u in arrived[1:]]
    before, behind = [1 / keep[0]], []
    for number, (z, u, total) in enumerate(zip(sent.values(), arrived[1:], totals, strict=False), 1):
        slope = gradients(total, [z], allow_unused=True)[0] if getattr(total, "requires_grad", False) else None
        if slope is None:
            raise ValueError(
                f"dropout_adjusted_: expected a chain of layers, but {layers[number]} (layer {number}) does not get "
                f"what {layers[number - 1]} (layer {number - 1}) gives"
            )
        before.append(float(np.square(u.data).mean()) / keep[number])
        behind.append(keep[number] * float(np.square(slope.data).mean()))
    return [f + b for f, b in zip(before, [*behind, 1.0], strict=True)]


def _kept(dropout: Dropout) -> float:
    if dropout.scale != "train" or dropout.p == 1:
        raise ValueError(f"dropout_adjusted_: expected dropout that keeps something and divides by it, got {dropout}")
    return 1 - dropout.p


def _standard_normal(shape: tuple[int, ...]) -> Any:
    """Draws with mean 0, variance 1 and every value beside its negative, so that ReLU's expectations are exact."""
    size = math.prod(shape)
    half = generator().normal(size=size // 2)
    values = np.concatenate([half, -half, np.zeros(size % 2)])
    return generator().permutation(values / values.std()).reshape(shape)
