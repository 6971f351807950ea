"""Batches of many sizes: each size has a program or kernels, and only the latest ones keep large arrays."""

import gc
import tracemalloc

import numpy as np
import pytest
from programs import training_step

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

WIDTH = 256  # so that gradients are large enough to be let go


def step_of(compiled, dtype):
    tg.seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 10)).astype(dtype)
    return model, compiled(training_step(model, optim.Adam(model.parameters(), lr=1e-3)))


def batch(n, dtype):
    return np.random.default_rng(n).normal(size=(n, WIDTH)).astype(dtype), np.arange(n) % 10


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_sizes_in_any_turn_are_equal_to_eager(backend):
    (model, step), (twin, eager) = step_of(tg.compile(backend=backend), float), step_of(lambda f: f, float)
    kept, copies = [], []
    for n in np.random.default_rng(0).choice([5, 64, 7, 32], 24):
        np.testing.assert_allclose(step(*batch(n, float)).item(), eager(*batch(n, float)).item(), rtol=1e-10)
        kept.append(model[0].weight.grad)
        copies.append(kept[-1].numpy().copy())
        np.testing.assert_allclose(copies[-1], twin[0].weight.grad.numpy(), rtol=1e-8, atol=1e-12)
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array.numpy(), copy)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-8, atol=1e-12)
    assert len(step.programs) == 4


EACH = {"eager": (520, lambda f: f), "numpy": (521, tg.compile(backend="numpy")), "native": (522, tg.compile)}


@pytest.mark.parametrize(("first", "compiled"), EACH.values(), ids=EACH.keys())
def test_another_size_takes_hardly_more_memory(first, compiled):
    _, step = step_of(compiled, np.float32)
    tracemalloc.start()
    taken = []
    # A batch is 0.5 to 0.8 MB, and a step computes ten times as much. The largest first: memory that sizes share grows.
    for n in range(first + 280, first - 1, -40):
        for _ in range(3):
            step(*batch(n, np.float32))
        gc.collect()
        taken.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert taken[-1] - taken[2] < 5 * 1e6
