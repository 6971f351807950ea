"""The steps that are measured, and who takes part in them."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .timing import Contestant

Array = NDArray[Any]
EPS = 1e-5  # of batch norm and layer norm
RATE, FIRST, SECOND, ADAM_EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Network:
    """A training step: Linear, batch norm and ReLU in turn, dropout, Linear, cross-entropy, Adam."""

    sizes: tuple[int, ...]
    batch: int
    dropout: float = 0.2

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(self.sizes))

    def weights(self) -> list[Array]:
        """Of every Linear, (out, in); only the last has a bias, which starts at zero."""
        rng = np.random.default_rng(0)
        return [(rng.normal(size=(b, a)) * (2 / a) ** 0.5).astype(np.float32) for a, b in self.pairs]

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(self.batch, self.sizes[0])).astype(np.float32)
        return x, rng.integers(0, self.sizes[-1], self.batch)

    @property
    def flops(self) -> int:
        """Of the matrix products: forward, by the weights, and by the inputs of all layers but the first."""
        products = [2 * self.batch * a * b for a, b in self.pairs]
        return 3 * sum(products) - products[0]

    @property
    def nbytes(self) -> int:
        """Of parameters, Adam's two averages of each, running statistics and the batch."""
        hidden = sum(b for _, b in self.pairs[:-1])
        parameters = sum(a * b for a, b in self.pairs) + 2 * hidden + self.sizes[-1]
        return 4 * (3 * parameters + 2 * hidden + self.batch * (self.sizes[0] + 2))

    def checked(self) -> Network:
        """The same without random numbers."""
        return replace(self, dropout=0.0)


@dataclass(frozen=True)
class Inference:
    """A network in evaluation mode."""

    network: Network

    def checked(self) -> Inference:
        return self


@dataclass(frozen=True)
class Gathering:
    """The gradients of a small batch, added to those of the batches before it."""

    network: Network

    def checked(self) -> Gathering:
        return Gathering(self.network.checked())


@dataclass(frozen=True)
class Elementwise:
    """Layer norm of gelu(x·w + b) without a matrix product; the mean of its product with an array, and gradients."""

    rows: int
    columns: int

    def data(self) -> tuple[Array, Array, Array, Array]:
        """x, w, b and the array, which leans on x so that the mean is far from zero."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(self.rows, self.columns)).astype(np.float32)
        w, b = (rng.uniform(0.5, 1.5, self.columns).astype(np.float32) for _ in range(2))
        return x, w, b, x + rng.normal(size=x.shape).astype(np.float32)

    def checked(self) -> Elementwise:
        return self


def _weights(shapes: dict[str, tuple[int, int]]) -> dict[str, Array]:
    """By the number of inputs, which is the second of each shape."""
    rng = np.random.default_rng(0)
    return {name: (rng.normal(size=s) / s[1] ** 0.5).astype(np.float32) for name, s in shapes.items()}


@dataclass(frozen=True)
class Transformer:
    """A training step of one block: attention of some heads, and two Linear with gelu between, each behind a layer norm
    and added to what it is given; then the mean over positions, Linear, cross-entropy, Adam."""

    batch: int
    positions: int
    width: int
    heads: int

    def weights(self) -> dict[str, Array]:
        """Of every Linear, (out, in); all have biases, which start at zero."""
        n = self.width
        shapes = dict.fromkeys(("query", "key", "value", "mix"), (n, n))
        shapes |= {"up": (4 * n, n), "down": (n, 4 * n), "classes": (10, n)}
        return _weights(shapes)

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(self.batch, self.positions, self.width)).astype(np.float32)
        return x, rng.integers(0, 10, self.batch)

    def checked(self) -> Transformer:
        return self


@dataclass(frozen=True)
class Recurrent:
    """A training step of an LSTM (Hochreiter and Schmidhuber 1997) without biases, from zeros; then Linear of its last
    state, cross-entropy, Adam."""

    batch: int
    steps: int
    inputs: int
    units: int

    def weights(self) -> dict[str, Array]:
        """Of the input and of the state, for the gates i, f, g and o, and of the Linear, (out, in)."""
        n = self.units
        shapes = {"input": (4 * n, self.inputs), "state": (4 * n, n), "classes": (10, n)}
        return _weights(shapes)

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(self.batch, self.steps, self.inputs)).astype(np.float32)
        return x, rng.integers(0, 10, self.batch)

    def checked(self) -> Recurrent:
        return self


@dataclass(frozen=True)
class Letters:
    """A training step of a language model of letters (Bengio et al. 2003): rows of a table, side by side, Linear, tanh,
    Linear, cross-entropy, Adam."""

    letters: int
    before: int
    width: int
    hidden: int
    batch: int

    def weights(self) -> dict[str, Array]:
        """The table, and of every Linear, (out, in); these have biases, which start at zero."""
        n = self.before * self.width
        shapes = {"table": (self.letters, self.width), "hidden": (self.hidden, n), "next": (self.letters, self.hidden)}
        return _weights(shapes)

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(1)
        return rng.integers(0, self.letters, (self.batch, self.before)), rng.integers(0, self.letters, self.batch)

    def checked(self) -> Letters:
        return self


@dataclass(frozen=True)
class Parameters:
    """Adam alone, over one long parameter with a gradient that stays."""

    count: int

    def data(self) -> tuple[Array, Array]:
        rng = np.random.default_rng(0)
        return rng.random(self.count, np.float32) - 0.5, rng.random(self.count, np.float32) - 0.5

    def checked(self) -> Parameters:
        """Fewer of them."""
        return Parameters(100_003)


@dataclass(frozen=True)
class Deep:
    """Training through many layers of one width; each adds a little, so that a thousand of them stay finite."""

    depth: int
    width: int = 64


Case = Network | Inference | Gathering | Elementwise | Transformer | Recurrent | Letters | Parameters | Deep

DIGITS = Network((64, 128, 64, 10), 64)
MIDDLE = Network((784, 512, 256, 10), 128)
WIDE = Network((784, 2048, 2048, 10), 512)
SOFTMAX = Network((784, 10), 256, dropout=0.0)
INFERENCE = Inference(replace(DIGITS, batch=1))
GATHERING = Gathering(replace(MIDDLE, batch=32))
ELEMENTWISE = Elementwise(4096, 1024)
TRANSFORMER = Transformer(16, 64, 128, 4)
LSTM = Recurrent(32, 10, 28, 64)
LETTERS = Letters(27, 3, 10, 200, 32)
ADAM = Parameters(50_000_000)
CASES: dict[str, Case] = {
    "64-128-64-10, batch 64": DIGITS,
    "784-512-256-10, batch 128": MIDDLE,
    "784-2048-2048-10, batch 512": WIDE,
    "softmax regression 784-10, batch 256": SOFTMAX,
    "inference 64-128-64-10, batch 1": INFERENCE,
    "gelu and layer norm, 4096 × 1024": ELEMENTWISE,
    "Adam over 50 million parameters": ADAM,
    "transformer block, 16 × 64 × 128, 4 heads": TRANSFORMER,
    "LSTM of 64 units, 32 × 10 × 28": LSTM,
    "letters, 3 rows of 27 × 10, 200 hidden, batch 32": LETTERS,
    "gathering gradients, 784-512-256-10, batch 32": GATHERING,
}

COMPILED, EAGER = "tinygrad_dl, compiled", "tinygrad_dl, eager"
JAX, TORCH, FUSED, TORCH_COMPILE = "jax.jit", "PyTorch eager", "PyTorch eager, fused Adam", "torch.compile"
PRODUCTS, SQUARE, COPY = "its matrix products, NumPy", "a product of 2048 × 2048, NumPy", "np.copyto, NumPy"
WHERE = {  # contestant: the package, the file of its steps, which of these
    COMPILED: ("tinygrad_dl", "peer_ours", "compiled"),
    EAGER: ("tinygrad_dl", "peer_ours", "eager"),
    JAX: ("jax", "peer_jax", "jit"),
    TORCH: ("torch", "peer_torch", "eager"),
    FUSED: ("torch", "peer_torch", "fused"),
    TORCH_COMPILE: ("torch", "peer_torch", "compile"),
    "autograd": ("autograd", "peer_numpy", "autograd"),
    "MyGrad": ("mygrad", "peer_numpy", "mygrad"),
    PRODUCTS: ("numpy", "reference", "products"),
    SQUARE: ("numpy", "reference", "square"),
    COPY: ("numpy", "reference", "copy"),
}
OURS = (COMPILED, EAGER)
REFERENCES = (PRODUCTS, SQUARE, COPY)  # parts of a step, which give nothing to compare
PEERS = tuple(name for name in WHERE if name not in (*OURS, *REFERENCES))


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def missing(names: Iterable[str]) -> list[str]:
    """For the reader: which packages of these contestants are not installed."""
    packages = dict.fromkeys(WHERE[name][0] for name in names)
    return [f"{p} is not installed (pip install -e '.[bench]')." for p in packages if not _installed(p)]


def make(name: str, case: Case) -> Contestant | None:
    """A contestant, or None where its package is missing or has no such step."""
    package, module, variant = WHERE[name]
    if not _installed(package):
        return None
    maker: Callable[[str, Case], Contestant | None] = importlib.import_module(f".{module}", __package__).make
    return maker(variant, case)
