"""Clipping of gradients, and exponentially weighted averages."""

import math

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

# clipping


def test_clipping_by_norm_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gs = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    for limit in (0.5, 100.0):
        ours = [tg.tensor(np.zeros(g.shape), requires_grad=True) for g in gs]
        theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gs]
        for p, q, g in zip(ours, theirs, gs, strict=True):
            p.grad, q.grad = g, torch.tensor(g)
        norm = optim.clip_grad_norm(ours, limit)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, limit).item())
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)


def test_clipping_by_value(quadratic):
    quadratic.grad = [3.0, -0.2]
    assert optim.clip_grad_value([quadratic], 0.5) == 3
    assert quadratic.grad.tolist() == [0.5, -0.2]


@pytest.mark.parametrize("order", [1, -1])
def test_no_number_is_the_largest(order):
    ps = [tg.tensor([0.0], requires_grad=True) for _ in range(2)][::order]
    ps[0].grad, ps[1].grad = [math.nan], [3.0]
    assert math.isnan(optim.clip_grad_value(ps, 1.0))


def test_a_norm_that_is_not_finite_changes_nothing(quadratic):
    quadratic.grad = [math.nan, 1.0]
    with pytest.raises(RuntimeError, match="nan"):
        optim.clip_grad_norm([quadratic], 1.0)
    assert quadratic.grad[1].item() == 1


# averages


def test_the_recipes_average():
    average = optim.ExponentialAverage(0.98)
    average.update(1.0)
    weights = []
    for first, second in ((1.0, 0.0), (0.0, 1.0)):
        average = optim.ExponentialAverage(0.98)
        average.update(first)
        weights.append(average.update(second))
    assert weights == pytest.approx([0.0196 / 0.0396, 0.02 / 0.0396])
    plain = optim.ExponentialAverage(0.98, bias_correction=False)
    plain.update(1.0)
    assert plain.update(0.0) == pytest.approx(0.0196)


@pytest.mark.parametrize(("beta", "days"), [(0.5, 2), (0.9, 10), (0.98, 50)])
def test_an_average_covers_one_over_one_minus_beta_values(beta, days):
    assert 1 / (1 - beta) == pytest.approx(days)
    average = optim.ExponentialAverage(beta, bias_correction=False)
    average.update(1.0)
    for _ in range(days):
        last = average.update(0.0)
    assert last / (1 - beta) == pytest.approx(beta**days)
    assert abs(last / (1 - beta) - 1 / math.e) < 0.13


@pytest.mark.parametrize("make", [tg.tensor, np.array])
def test_averages_of_whole_numbers_are_floating(make):
    average = optim.ExponentialAverage(0.5)
    average.update(make([1, 2]))
    np.testing.assert_allclose(average.update(make([2, 4])), [5 / 3, 10 / 3])


def test_averages_of_a_model():
    model = nn.Linear(2, 3)
    average = optim.ExponentialAverage(0.9)
    first = model.weight.detach().numpy().copy()
    average.update(model)
    with tg.no_grad():
        model.weight += 1
    state = average.update(model)
    np.testing.assert_allclose(state["weight"].numpy(), (0.09 * first + 0.1 * (first + 1)) / 0.19, rtol=1e-5, atol=1e-6)
    model.load_state_dict(state)
    with pytest.raises(ValueError, match="other names or shapes"):
        average.update(nn.Linear(2, 4))


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value], ids=lambda f: f.__name__)
def test_the_clipped_gradient_of_a_number_is_an_array(clip):
    w = nn.Parameter(np.array(2.0))
    (w * w * 100).backward()
    clip([w], 0.1)
    assert type(w.grad.data) is np.ndarray
    assert w.grad.item() == pytest.approx(0.1)
