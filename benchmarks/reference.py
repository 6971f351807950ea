"""Parts of the measured steps in plain NumPy: what a step could reach if it did nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np

from .peers import Array, Case, Network, Parameters
from .timing import Contestant

SIDE = 2048  # of the square product


def _nothing(_: Any) -> list[Array]:
    return []


def factors(network: Network) -> list[tuple[Array, Array]]:
    """The matrices of every product in a step, transposed where a step has them transposed."""
    rng = np.random.default_rng(0)
    found = []
    for layer, (weight, (a, b)) in enumerate(zip(network.weights(), network.pairs, strict=True)):
        x = rng.normal(size=(network.batch, a)).astype(np.float32)
        g = rng.normal(size=(network.batch, b)).astype(np.float32)
        found += [(x, weight.T), (g.T, x)]
        found += [(g, weight)] if layer else []
    return found


def products(given: list[tuple[Array, Array]]) -> Contestant:
    """Matrix products into memory that is there."""
    prepared = [(a, b, np.empty((len(a), b.shape[1]), a.dtype)) for a, b in given]

    def step() -> None:
        for a, b, out in prepared:
            np.matmul(a, b, out=out)

    return Contestant(step, _nothing)


def make(variant: str, case: Case) -> Contestant | None:
    """variant: "products", all of a training step; "square", a large one; "copy", of as many numbers as Adam has."""
    match variant, case:
        case "products", Network():
            return products(factors(case))
        case "square", Network():
            side = np.ones((SIDE, SIDE), np.float32)
            return products([(side, side)])
        case "copy", Parameters():
            source, target = case.data()
            return Contestant(lambda: np.copyto(target, source), _nothing)
    return None
