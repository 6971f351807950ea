"""The measured training steps in autograd and in MyGrad, which record NumPy as this library does."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .peers import ADAM_EPS, EPS, FIRST, RATE, SECOND, Array, Case, Network
from .timing import Contestant


class _State:
    """Parameters, statistics of batch norm and Adam's averages, all NumPy arrays."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.weights = [np.ascontiguousarray(w.T) for w in network.weights()]
        widths = [b for _, b in network.pairs]
        self.scales = [np.ones(b, np.float32) for b in widths[:-1]]
        self.shifts = [np.zeros(b, np.float32) for b in widths]
        self.statistics = [(np.zeros(b, np.float32), np.ones(b, np.float32)) for b in widths[:-1]]
        self.parameters = [*self.weights, *self.scales, *self.shifts]
        self.averages = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        self.count, self.rng = 0, np.random.default_rng(0)

    def observe(self, layer: int, mean: Array, variance: Array) -> None:
        n = self.network.batch
        for running, now in zip(self.statistics[layer], (mean, variance * (n / (n - 1))), strict=True):
            running *= 0.9
            running += 0.1 * now

    def mask(self, shape: tuple[int, ...]) -> Array:
        keep = 1 - self.network.dropout
        return (self.rng.random(shape, np.float32) < keep) / np.float32(keep)

    def update(self, gradients: list[Array]) -> None:
        self.count += 1
        scale = (1 - SECOND**self.count) ** 0.5
        rate = RATE / (1 - FIRST**self.count)
        for p, g, (first, second) in zip(self.parameters, gradients, self.averages, strict=True):
            first += (1 - FIRST) * (g - first)
            second *= SECOND
            second += (1 - SECOND) * g * g
            p -= rate * first / (np.sqrt(second) / scale + ADAM_EPS)


def _autograd(network: Network) -> Contestant:
    autograd: Any = importlib.import_module("autograd")
    anp: Any = importlib.import_module("autograd.numpy")
    getval: Any = importlib.import_module("autograd.tracer").getval
    state = _State(network)
    hidden, (x, y) = len(state.scales), network.data()
    rows = np.arange(len(x))

    def loss_of(parameters: list[Any]) -> Any:
        weights, rest = parameters[: hidden + 1], parameters[hidden + 1 :]
        scales, shifts = rest[:hidden], rest[hidden:]
        h = x
        for i in range(hidden):
            h = anp.dot(h, weights[i])
            mean = anp.mean(h, axis=0)
            centred = h - mean
            variance = anp.mean(centred * centred, axis=0)
            state.observe(i, getval(mean), getval(variance))
            h = anp.maximum(centred / anp.sqrt(variance + EPS) * scales[i] + shifts[i], 0)
        if network.dropout:
            h = h * state.mask(h.shape)
        scores = anp.dot(h, weights[-1]) + shifts[-1]
        scores = scores - getval(scores).max(1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(scores), axis=1)) - scores[rows, y])

    both = autograd.value_and_grad(loss_of)

    def step() -> Any:
        loss, gradients = both(state.parameters)
        state.update(gradients)
        return loss

    return Contestant(step, lambda loss: [np.asarray(loss)])


def _mygrad(network: Network) -> Contestant:
    mg: Any = importlib.import_module("mygrad")
    nnet: Any = importlib.import_module("mygrad.nnet")
    state = _State(network)
    hidden, (x, y) = len(state.scales), network.data()

    def loss_of(parameters: list[Any]) -> Any:
        weights, rest = parameters[: hidden + 1], parameters[hidden + 1 :]
        scales, shifts = rest[:hidden], rest[hidden:]
        h = x
        for i in range(hidden):
            h = mg.matmul(h, weights[i])
            state.observe(i, h.data.mean(0), h.data.var(0))
            h = nnet.relu(nnet.batchnorm(h, gamma=scales[i], beta=shifts[i], eps=EPS))
        if network.dropout:
            h = h * state.mask(h.shape)
        return nnet.softmax_crossentropy(mg.matmul(h, weights[-1]) + shifts[-1], y)

    def step() -> Any:
        parameters = [mg.tensor(p, copy=False) for p in state.parameters]
        loss = loss_of(parameters)
        loss.backward()
        state.update([p.grad for p in parameters])
        return loss

    return Contestant(step, lambda loss: [np.asarray(loss.data)])


def make(variant: str, case: Case) -> Contestant | None:
    """A training step with hidden layers; variant: "autograd" or "mygrad"."""
    if not isinstance(case, Network) or len(case.sizes) == 2 or case.sizes[1] > 1000:
        return None
    return _autograd(case) if variant == "autograd" else _mygrad(case)
