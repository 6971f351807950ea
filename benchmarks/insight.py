"""What explanations cost: the watch for NaN and the check of every operation, beside the step that they look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

from .tables import Table, comparison
from .timing import alternate

RNG = np.random.default_rng(0)


def _network(*sizes: int, norm: bool = True) -> nn.Module:
    layers: list[Any] = []
    for inputs, outputs in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class _Attention(nn.Module):
    """One head: softmax(q kᵀ / √d) v."""

    def __init__(self, width: int) -> None:
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        scores = self.query(x) @ np.swapaxes(self.key(x), 1, 2) / x.shape[-1] ** 0.5
        return nn.functional.softmax(scores, axis=-1) @ self.value(x)


class _Mean(nn.Module):
    """Of the positions."""

    def forward(self, x: Any) -> Any:
        return x.mean(axis=1)


def watching(sizes: tuple[int, ...], batch: int) -> Table:
    """A training step with and without `detect_nan`."""
    tg.seed(0)
    model = _network(*sizes)
    optimizer = optim.Adam(model.parameters())
    x, y = tg.tensor(RNG.normal(size=(batch, sizes[0])).astype(np.float32)), tg.tensor(RNG.integers(0, 10, batch))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    times = alternate({"without": step, "with": tg.detect_nan()(step)}, rounds=25, number=10)
    title = f"`detect_nan`: training step {'-'.join(map(str, sizes))}, batch {batch}, Adam"
    return comparison(title, times, "with", {"without": 1.3})


def checking(title: str, model: nn.Module, *shape: int, zeros: float = 0.0) -> Table:
    """`check_graph` beside the forward and backward pass that it checks. zeros: the share of zeros among the inputs,
    which have a gradient then."""
    data = RNG.normal(size=shape).astype(np.float32)
    data[RNG.random(shape) < zeros] = 0
    x, y = tg.tensor(data, requires_grad=zeros > 0), tg.tensor(RNG.integers(0, 10, shape[0]))

    def forward() -> tg.Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def both() -> None:
        for tensor in (x, *model.parameters()):
            tensor.grad = None
        forward().backward()

    recorded = forward()
    if not (report := tg.check_graph(recorded)):
        raise AssertionError(report)
    times = alternate({"forward + backward": both, "check_graph": lambda: tg.check_graph(recorded)})
    return comparison(f"`check_graph`: {title}", times, "check_graph", {"forward + backward": 5.0})


def tables() -> Iterator[Table]:
    """The watch, then the check on a small network, a middling one, one without batch norm and one at many kinks."""
    yield watching((64, 128, 64, 10), 64)
    tg.seed(0)
    yield checking("64-128-64-10, batch 64, batch norm", _network(64, 128, 64, 10), 64, 64)
    yield checking("784-512-512-10, batch 128, batch norm", _network(784, 512, 512, 10), 128, 784)
    yield checking("784-512-512-10, batch 128", _network(784, 512, 512, 10, norm=False), 128, 784)
    attention = nn.Sequential(_Attention(64), nn.GELU(), nn.Linear(64, 10), _Mean())
    yield checking("attention over 32 × 64, gelu, batch 32", attention, 32, 32, 64)
    kinks = nn.Sequential(nn.ReLU(), _network(784, 256, 10, norm=False))
    yield checking("relu, 784-256-10, batch 128, a third of the inputs at relu's kink", kinks, 128, 784, zeros=1 / 3)
    curves = nn.Sequential(nn.Tanh(), nn.GELU(), nn.Sigmoid(), _Mean())
    yield checking("tanh, gelu, sigmoid, elementwise on 256 × 64 × 16", curves, 256, 64, 16, zeros=1e-6)
