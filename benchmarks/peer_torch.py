"""The measured steps in PyTorch: eager, with its fused Adam, and under torch.compile (whose Adam is the fused one)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from .peers import (
    EPS,
    RATE,
    Case,
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

_ATTENTION = ("query", "key", "value")


def _arrays(result: Any) -> list[Any]:
    return [t.detach().numpy() for t in (result if isinstance(result, tuple) else (result,))]


def _compiled(variant: str, f: Any) -> Any:
    """Under torch.compile, which is reset first: it would give up after eight programs of one function."""
    if variant != "compile":
        return f
    torch.compiler.reset()
    return torch.compile(f)


def _model(network: Network) -> Any:
    layers: list[Any] = []
    for a, b in network.pairs[:-1]:
        layers += [torch.nn.Linear(a, b, bias=False), torch.nn.BatchNorm1d(b), torch.nn.ReLU()]
    layers += [torch.nn.Dropout(network.dropout)] if network.dropout else []
    layers += [torch.nn.Linear(*network.pairs[-1])]
    with torch.no_grad():
        layers[-1].bias.zero_()
        linear = (x for x in layers if isinstance(x, torch.nn.Linear))
        for layer, weight in zip(linear, network.weights(), strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
    return torch.nn.Sequential(*layers)


class _Block(torch.nn.Module):
    """A block of a transformer, and a classifier behind it; attention as PyTorch has it fused."""

    def __init__(self, case: Transformer) -> None:
        super().__init__()
        self.heads, weights = case.heads, case.weights()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(case.width, eps=EPS) for _ in range(2))
        self.layers = torch.nn.ModuleDict({name: _linear(w) for name, w in weights.items()})

    def forward(self, x: Any) -> Any:
        x = x + self.attention(self.norms[0](x))
        hidden = F.gelu(self.layers["up"](self.norms[1](x)), approximate="tanh")
        return self.layers["classes"]((x + self.layers["down"](hidden)).mean(1))

    def attention(self, x: Any) -> Any:
        split = (self.layers[name](x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in _ATTENTION)
        return self.layers["mix"](F.scaled_dot_product_attention(*split).transpose(1, 2).reshape(x.shape))


class _LSTM(torch.nn.Module):
    """PyTorch's own, and a classifier behind it."""

    def __init__(self, case: Recurrent) -> None:
        super().__init__()
        weights = case.weights()
        self.lstm = torch.nn.LSTM(case.inputs, case.units, bias=False, batch_first=True)
        self.classes = _linear(weights["classes"])
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(torch.from_numpy(weights["input"]))
            self.lstm.weight_hh_l0.copy_(torch.from_numpy(weights["state"]))

    def forward(self, x: Any) -> Any:
        return self.classes(self.lstm(x)[0][:, -1])


class _WrittenLSTM(torch.nn.Module):
    """Written out, of which torch.compile makes quicker code."""

    def __init__(self, case: Recurrent) -> None:
        super().__init__()
        weights = case.weights()
        self.gates = torch.nn.Parameter(torch.from_numpy(np.concatenate([weights["input"], weights["state"]], 1)))
        self.units, self.classes = case.units, _linear(weights["classes"])

    def forward(self, x: Any) -> Any:
        h = c = x.new_zeros(len(x), self.units)
        for t in range(x.shape[1]):
            i, f, g, o = (torch.cat([x[:, t], h], 1) @ self.gates.T).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.classes(h)


class _Letters(torch.nn.Module):
    def __init__(self, case: Letters) -> None:
        super().__init__()
        weights = case.weights()
        self.table = torch.nn.Embedding.from_pretrained(torch.from_numpy(weights["table"]), freeze=False)
        self.hidden, self.next = (_linear(weights[name]) for name in ("hidden", "next"))

    def forward(self, x: Any) -> Any:
        return self.next(torch.tanh(self.hidden(self.table(x).flatten(1))))


def _linear(weight: Any) -> torch.nn.Linear:
    """With a bias that starts at zero."""
    layer = torch.nn.Linear(*weight.shape[::-1])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.zero_()
    return layer


def _built(case: Network | Transformer | Recurrent | Letters, variant: str) -> Any:
    match case:
        case Network():
            return _model(case)
        case Transformer():
            return _Block(case)
        case Recurrent():
            return (_WrittenLSTM if variant == "compile" else _LSTM)(case)
        case Letters():
            return _Letters(case)


def _training(case: Network | Transformer | Recurrent | Letters, variant: str) -> Contestant:
    model = _built(case, variant)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=variant != "eager")
    x, y = (torch.from_numpy(a) for a in case.data())
    forward = _compiled(variant, lambda x, y: F.cross_entropy(model(x), y))

    def step() -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Contestant(step, _arrays)


def _gathering(network: Network, variant: str) -> Contestant:
    model = _model(network)
    x, y = (torch.from_numpy(a) for a in network.data())
    forward = _compiled(variant, lambda x, y: F.cross_entropy(model(x), y))

    def step() -> Any:
        loss = forward(x, y)
        loss.backward()
        return loss.detach()

    return Contestant(step, lambda loss: [*_arrays(loss), model[0].weight.grad[0].numpy()])


def _inference(network: Network, variant: str) -> Contestant:
    model = _model(network).eval()
    x = torch.from_numpy(network.data()[0])
    predict = _compiled(variant, lambda x: model(x))

    @torch.inference_mode()
    def step() -> Any:
        return predict(x)

    return Contestant(step, _arrays)


def _elementwise(case: Elementwise, variant: str) -> Contestant:
    x, w, b, weights = (torch.from_numpy(a) for a in case.data())
    for leaf in (x, w, b):
        leaf.requires_grad_()

    def loss(x: Any, w: Any, b: Any) -> Any:
        h = F.gelu(x * w + b, approximate="tanh")
        return (F.layer_norm(h, (case.columns,), eps=EPS) * weights).mean()

    forward: Callable[..., Any] = _compiled(variant, loss)

    def step() -> Any:
        value = forward(x, w, b)
        return value, *torch.autograd.grad(value, (x, w, b))

    return Contestant(step, _arrays)


def _adam(case: Parameters, variant: str) -> Contestant:
    value, gradient = (torch.from_numpy(a) for a in case.data())
    parameter = torch.nn.Parameter(value)
    parameter.grad = gradient
    optimizer = torch.optim.Adam([parameter], lr=RATE, fused=variant == "fused")
    return Contestant(_compiled(variant, optimizer.step), lambda _: [parameter.detach().numpy()[:1000]])


def make(variant: str, case: Case) -> Contestant | None:
    """The step of a case; variant: "eager", "fused" or "compile"."""
    match case:
        case Network() | Transformer() | Recurrent() | Letters():
            return _training(case, variant)
        case Inference(network) if variant != "fused":
            return _inference(network, variant)
        case Gathering(network) if variant != "fused":
            return _gathering(network, variant)
        case Elementwise() if variant != "fused":
            return _elementwise(case, variant)
        case Parameters():
            return _adam(case, variant)
    return None
