"""Eager mode: the cost of one recorded operation, whole training steps, and a chain of a million operations."""

from __future__ import annotations

import gc
import importlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

from .peers import TORCH, missing
from .tables import Table, comparison
from .timing import alternate

RNG = np.random.default_rng(0)


def _peer(name: str) -> Any:
    """A package, None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def chain(length: int = 200, size: int = 16) -> Table:
    """Multiply and add in turn, forward and backward, per operation."""
    x, a = (RNG.uniform(0.5, 1.0, size).astype(np.float32) for _ in range(2))

    def run(start: Any, factor: Any) -> Any:
        y = start
        for _ in range(length // 2):
            y = y * factor
            y = y + factor
        return y.sum()

    ours, factor = tg.tensor(x, requires_grad=True), tg.tensor(a)

    def tinygrad_dl() -> Any:
        ours.grad = None
        run(ours, factor).backward()
        return ours.grad.numpy()

    contestants: dict[str, Callable[[], Any]] = {"tinygrad_dl": tinygrad_dl}
    if torch := _peer("torch"):
        torch.set_num_threads(1)
        t, ta = torch.tensor(x, requires_grad=True), torch.tensor(a)

        def pytorch() -> Any:
            t.grad = None
            run(t, ta).backward()
            return t.grad.numpy()

        contestants["PyTorch eager"] = pytorch
    if autograd := _peer("autograd"):
        gradient = autograd.grad(lambda v: run(v, a))
        contestants["autograd"] = lambda: gradient(x)
    if mygrad := _peer("mygrad"):

        def with_mygrad() -> Any:
            m = mygrad.tensor(x)
            run(m, a).backward()
            return m.grad

        contestants["MyGrad"] = with_mygrad
    for name, call in contestants.items():
        np.testing.assert_allclose(call(), tinygrad_dl(), rtol=1e-4, err_msg=name)
    times = {name: [t / length for t in ts] for name, ts in alternate(contestants, rounds=25).items()}
    return comparison(
        f"Eager: chain of {length} multiply/add on {size} floats, forward + backward, per operation",
        times,
        "tinygrad_dl",
        {"PyTorch eager": 0.65, "autograd": 0.25, "MyGrad": 0.25},
        missing([TORCH, "autograd", "MyGrad"]),
    )


def _layers(lib: Any, sizes: tuple[int, ...]) -> list[Any]:
    layers: list[Any] = []
    for a, b in itertools.pairwise(sizes[:-1]):
        layers += [lib.Linear(a, b, bias=False), lib.BatchNorm1d(b), lib.ReLU()]
    return [*layers, lib.Dropout(0.2), lib.Linear(sizes[-2], sizes[-1])]


def step(sizes: tuple[int, ...], batch: int, target: float, threads: int) -> Table:
    """A training step: batch norm, ReLU, dropout 0.2, cross-entropy, Adam; the threads are everybody's."""
    if threads_of_blas := _peer("threadpoolctl"):
        threads_of_blas.threadpool_limits(threads, user_api="blas")
    x, y = RNG.normal(size=(batch, sizes[0])).astype(np.float32), RNG.integers(0, sizes[-1], batch)
    tg.seed(0)
    model = nn.Sequential(*_layers(nn, sizes))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    inputs, labels = tg.tensor(x), tg.tensor(y)

    def ours() -> Any:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    contestants: dict[str, Callable[[], Any]] = {"tinygrad_dl": ours}
    if torch := _peer("torch"):
        torch.set_num_threads(threads)
        theirs = torch.nn.Sequential(*_layers(torch.nn, sizes))
        state = {k: torch.tensor(v.numpy()) for k, v in model.state_dict().items()}
        theirs.load_state_dict(state)
        tx, ty = torch.tensor(x), torch.tensor(y)
        with torch.no_grad(), tg.no_grad():
            a, b = theirs.eval()(tx).numpy(), model.eval()(inputs).numpy()
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
        theirs.train()
        model.train()
        adam = torch.optim.Adam(theirs.parameters(), lr=1e-3)

        def pytorch() -> float:
            loss = torch.nn.functional.cross_entropy(theirs(tx), ty)
            adam.zero_grad()
            loss.backward()
            adam.step()
            return float(loss.item())

        contestants["PyTorch eager, default Adam"] = pytorch
    shape = "-".join(map(str, sizes))
    return comparison(
        f"Eager: training step {shape}, batch {batch}, {threads} thread{'s' * (threads > 1)}",
        alternate(contestants, rounds=25, number=10),
        "tinygrad_dl",
        {"PyTorch eager, default Adam": target},
        missing([TORCH]),
    )


def _resident() -> float:
    """Memory of this process in MB, where the system tells."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096 / 1e6
    except OSError:
        return float("nan")


def million(lengths: tuple[int, ...] = (250_000, 500_000, 1_000_000)) -> Table:
    """Long chains: time and memory per operation, and what is left when only reference counting frees."""
    rows = []
    gc.collect()
    gc.disable()
    try:
        for length in lengths:
            x = tg.tensor(np.ones(4, np.float32), requires_grad=True)
            before, start = _resident(), time.perf_counter()
            y = x
            for _ in range(length // 2):
                y = y * 1.0
                y = y + 0.0
            recorded, peak = time.perf_counter(), _resident()
            y.sum().backward()
            done = time.perf_counter()
            del y
            row = [f"{length:,}", f"{recorded - start:.2f}", f"{done - recorded:.2f}"]
            row += [f"{(peak - before) * 1e6 / length:.0f}", f"{_resident() - before:.0f}"]
            rows.append([*row, str(gc.collect())])
    finally:
        gc.enable()
    header = ["operations", "forward, s", "backward, s", "bytes/op", "left, MB", "garbage found"]
    return Table("Eager: long chains, with the garbage collector off", header, rows)


def tables() -> Iterator[Table]:
    """The chain, training steps and long chains."""
    yield chain()
    for threads in (1, 2):
        yield step((64, 128, 64, 10), 64, 0.8, threads)
        yield step((784, 512, 256, 10), 128, 1.0, threads)
    yield million()
