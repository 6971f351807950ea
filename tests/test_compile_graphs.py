"""Gradients of gradients in compiled steps: what has a graph, and what has none, is as in the eager step."""

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn

BACKENDS = ["interpreter", "numpy", "native"]


def penalty(p, q, x, retain):
    """A gradient's square, added to the gradient itself; twice."""
    for _ in range(2 if retain else 1):
        (p**3 * x).sum().backward(create_graph=True)
        (p.grad * p.grad).sum().backward(retain_graph=retain)
    return p.grad.detach()


def added_to_a_formula(p, q, x):
    """The gradient that is there already leads elsewhere; the sum with it leads nowhere."""
    p.grad = q * x
    (p**2 * x).sum().backward()
    q.grad = None
    (p.grad * q * p).sum().backward()
    return q.grad


def begun_with_a_formula(p, q, x):
    p.backward(q * x)
    return p.grad


def sought(p, q, x):
    return tg.gradients([p], [p], gradient=[q * x])[0]


def begun_with_two_that_are_recorded(p, q, x):
    y = p * p
    g = tg.gradients([y, y], [p], gradient=[q * x, q], create_graph=True)[0]
    g.sum().backward()
    return q.grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "f",
    [
        lambda p, q, x: penalty(p, q, x, retain=False),
        lambda p, q, x: penalty(p, q, x, retain=True),
        added_to_a_formula,
        begun_with_a_formula,
        sought,
        begun_with_two_that_are_recorded,
    ],
    ids=["penalty", "penalty twice", "added", "begun", "sought", "two seeds"],
)
def test_they_are_those_of_the_eager_step(f, backend):
    found = []
    for compiled in (lambda step: step, tg.compile(backend=backend)):
        p, q = nn.Parameter(np.array([1.0, 2.0])), nn.Parameter(np.array([3.0, -1.0]))

        @compiled
        def step(x):
            p.grad = q.grad = None  # noqa: B023
            return f(p, q, x)  # noqa: B023

        results = []
        for k in (1.0, 2.0, 3.0):
            results.append(step(np.array([k, 1.0])).numpy())
            results += [t.grad.numpy() for t in (p, q) if t.grad is not None]  # an error if it requires grad
        found.append(results)
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_seed_that_two_results_share_is_recorded_without_a_recording_around():
    p, q = nn.Parameter(np.array([1.0, 2.0])), nn.Parameter(np.array([3.0, -1.0]))
    y = p * p
    with tg.no_grad():
        g = tg.gradients([y, y], [p], gradient=[q, q], create_graph=True)[0]
    g.sum().backward()
    np.testing.assert_array_equal(q.grad.numpy(), 4 * p.detach().numpy())
