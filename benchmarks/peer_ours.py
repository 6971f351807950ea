"""The measured steps as this library's user writes them, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

from .peers import (
    EPS,
    RATE,
    Case,
    Deep,
    Elementwise,
    Gathering,
    Inference,
    Letters,
    Network,
    Parameters,
    Recurrent,
    Transformer,
)
from .timing import Contestant

F = nn.functional


def _arrays(result: Any) -> list[Any]:
    return [t.detach().numpy() for t in (result if isinstance(result, tuple) else (result,))]


def _model(network: Network) -> Any:
    layers: list[Any] = []
    for a, b in network.pairs[:-1]:
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
    layers += [nn.Dropout(network.dropout)] if network.dropout else []
    layers += [nn.Linear(*network.pairs[-1])]
    for layer, weight in zip((x for x in layers if isinstance(x, nn.Linear)), network.weights(), strict=True):
        layer.weight.assign(weight)
    return nn.Sequential(*layers)


def _train(model: Any, compiled: Callable[[Any], Any]) -> Any:
    optimizer = optim.Adam(model.parameters(), lr=RATE)

    @compiled
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def training(network: Network, compiled: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """A step, which takes inputs and labels, and these two."""
    tg.seed(0)
    x, y = network.data()
    return _train(_model(network), compiled), tg.tensor(x), tg.tensor(y)


def _training(network: Network, compiled: Callable[[Any], Any]) -> Contestant:
    step, x, y = training(network, compiled)
    return Contestant(lambda: step(x, y), _arrays)


def _gathering(network: Network, compiled: Callable[[Any], Any]) -> Contestant:
    tg.seed(0)
    model, (x, y) = _model(network), (tg.tensor(a) for a in network.data())

    @compiled
    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return Contestant(lambda: step(x, y), lambda loss: [*_arrays(loss), model[0].weight.grad.numpy()[0]])


def _inference(network: Network, compiled: Callable[[Any], Any]) -> Contestant:
    model = _model(network).eval()
    inputs = tg.tensor(network.data()[0])

    @compiled
    def predict(x: Any) -> Any:
        with tg.no_grad():
            return model(x)

    return Contestant(lambda: predict(inputs), _arrays)


def _elementwise(case: Elementwise, compiled: Callable[[Any], Any]) -> Contestant:
    x, w, b, weights = (tg.tensor(a) for a in case.data())

    def loss(x: Any, w: Any, b: Any, weights: Any) -> Any:
        h = F.gelu(x * w + b, "tanh")
        centred = h - h.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        return (centred / np.sqrt(variance + EPS) * weights).mean()

    both = tg.value_and_grad(loss, (0, 1, 2))

    @compiled
    def step(x: Any, w: Any, b: Any, weights: Any) -> Any:
        value, gradients = both(x, w, b, weights)
        return value, *gradients

    return Contestant(lambda: step(x, w, b, weights), _arrays)


class _Norm(nn.Module):
    """Layer norm."""

    def __init__(self, width: int) -> None:
        self.scale, self.shift = nn.Parameter(np.ones(width, np.float32)), nn.Parameter(np.zeros(width, np.float32))

    def forward(self, x: Any) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPS) * self.scale + self.shift


class _Block(nn.Module):
    """A block of a transformer, and a classifier behind it."""

    def __init__(self, case: Transformer) -> None:
        self.heads, self.norms = case.heads, [_Norm(case.width) for _ in range(2)]
        self.layers = {name: _linear(weight) for name, weight in case.weights().items()}

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norms[0](x))
        hidden = F.gelu(self.layers["up"](self.norms[1](x)), "tanh")
        return self.layers["classes"]((x + self.layers["down"](hidden)).mean(axis=1))

    def attention(self, x: Any) -> Any:
        size = x.shape[-1] // self.heads
        query, key, value = (
            self.layers[name](x).reshape(*x.shape[:2], self.heads, size).transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        weights = F.softmax(query @ key.swapaxes(-1, -2) / size**0.5, axis=-1)
        return self.layers["mix"]((weights @ value).transpose(0, 2, 1, 3).reshape(x.shape))


class _LSTM(nn.Module):
    """Written out, and a classifier behind it."""

    def __init__(self, case: Recurrent) -> None:
        weights = case.weights()
        self.gates = nn.Parameter(np.concatenate([weights["input"], weights["state"]], axis=1))
        self.units, self.classes = case.units, _linear(weights["classes"])

    def forward(self, x: Any) -> Any:
        h = c = np.zeros((len(x), self.units), np.float32)
        for t in range(x.shape[1]):
            i, f, g, o = np.split(np.concatenate([x[:, t], h], axis=1) @ self.gates.T, 4, axis=1)
            c = F.sigmoid(f) * c + F.sigmoid(i) * np.tanh(g)
            h = F.sigmoid(o) * np.tanh(c)
        return self.classes(h)


class _Letters(nn.Module):
    def __init__(self, case: Letters) -> None:
        weights = case.weights()
        self.table = nn.Parameter(weights.pop("table"))
        self.hidden, self.next = map(_linear, weights.values())

    def forward(self, x: Any) -> Any:
        return self.next(np.tanh(self.hidden(self.table[x].reshape(len(x), -1))))


def _linear(weight: Any) -> nn.Linear:
    layer = nn.Linear(*weight.shape[::-1])
    layer.weight.assign(weight)
    return layer


def _model_step(case: Transformer | Recurrent | Letters, compiled: Callable[[Any], Any]) -> Contestant:
    models: dict[type, Any] = {Transformer: _Block, Recurrent: _LSTM, Letters: _Letters}
    step, (x, y) = _train(models[type(case)](case), compiled), (tg.tensor(a) for a in case.data())
    return Contestant(lambda: step(x, y), _arrays)


def _adam(case: Parameters, compiled: Callable[[Any], Any]) -> Contestant:
    value, gradient = case.data()
    parameter = nn.Parameter(value)
    parameter.grad = tg.tensor(gradient)
    optimizer = optim.Adam([parameter], lr=RATE)

    @compiled
    def step() -> None:
        optimizer.step()

    return Contestant(step, lambda _: [parameter.detach().numpy()[:1000]])


class _Residual(nn.Module):
    """x + max(W x + b, 0) / depth, depth times."""

    def __init__(self, case: Deep) -> None:
        self.layers = [nn.Linear(case.width, case.width) for _ in range(case.depth)]
        self.last = nn.Linear(case.width, 10)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = x + F.relu(layer(x)) / len(self.layers)
        return self.last(x)


def _deep(case: Deep, compiled: Callable[[Any], Any]) -> Contestant:
    tg.seed(0)
    x, y = (tg.tensor(a) for a in Network((case.width, 10), 64).data())
    step = _train(_Residual(case), compiled)
    return Contestant(lambda: step(x, y), _arrays)


def make(variant: str, case: Case) -> Contestant | None:
    """The step of a case; variant: "eager" or "compiled"."""
    compiled = tg.compile if variant == "compiled" else lambda f: f
    match case:
        case Network():
            return _training(case, compiled)
        case Inference(network):
            return _inference(network, compiled)
        case Gathering(network):
            return _gathering(network, compiled)
        case Elementwise():
            return _elementwise(case, compiled)
        case Transformer() | Recurrent() | Letters():
            return _model_step(case, compiled)
        case Parameters():
            return _adam(case, compiled)
        case Deep():
            return _deep(case, compiled)
