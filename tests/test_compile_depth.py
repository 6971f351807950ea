"""Compiling a network takes Python as many calls for each layer, however many layers there are."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

F = nn.functional


def calls(layers, backend):
    """Of Python's functions and of C's, in the first call of a residual network's training step."""
    parts, last = [nn.Linear(20, 20) for _ in range(layers)], nn.Linear(20, 4)
    optimizer = optim.Adam([p for part in (*parts, last) for p in part.parameters()])

    @tg.compile(backend=backend)
    def step(x, y):
        optimizer.zero_grad()
        for part in parts:
            x = x + F.relu(part(x)) / layers
        loss = F.cross_entropy(last(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = np.ones((16, 20), np.float32), np.arange(16) % 4
    number = 0

    def count(frame, event, arg):
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        step(x, y)
    finally:
        sys.setprofile(before)
    return number


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_calls_grow_as_the_network_does(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    assert calls(48, backend) < 4.5 * calls(12, backend)
