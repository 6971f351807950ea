"""Rows of the training recipe about weights: centred weight normalisation, and penalties."""

import math

import numpy as np
import pytest
from runs import X, values

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.nn import functional as F

RNG = np.random.default_rng(0)


# centred weight normalisation


def test_centred_weights_are_the_formula():
    layer = nn.CentredLinear(6, 3).astype(np.float64)
    v, g, b = RNG.normal(1, 2, size=(3, 6)), RNG.normal(size=3), RNG.normal(size=3)
    for parameter, value in ((layer.weight, v), (layer.gain, g), (layer.bias, b)):
        parameter.assign(value)
    centred = np.array([row - row.mean() for row in v])
    w = np.array([gain * row / math.sqrt(sum(row**2)) for gain, row in zip(g, centred, strict=True)])
    np.testing.assert_allclose(values(layer(tg.tensor(X))), X @ w.T + b, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(w.sum(1), 0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), np.abs(g), rtol=1e-12)


def test_a_centred_layer_begins_with_its_weights_centred():
    with tg.random.scope(0):
        layer = nn.CentredLinear(6, 3)
    with tg.random.scope(0):
        plain = values(nn.Linear(6, 3).weight)
    expected = X @ (plain - plain.mean(1, keepdims=True)).T
    np.testing.assert_allclose(values(layer(tg.tensor(X))), expected, rtol=1e-4, atol=1e-5)
    assert set(layer.state_dict()) == {"weight", "bias", "gain"}


def test_a_centred_layer_does_not_see_shifts_nor_scales():
    """Of its inputs' common shift, of v's shift and scale: the gradient of v is at right angles to both."""
    layer = nn.CentredLinear(6, 3, bias=False).astype(np.float64)
    x = tg.tensor(X.astype(np.float64))
    y = layer(x)
    np.testing.assert_allclose(values(layer(x + 10)), values(y), rtol=1e-9, atol=1e-9)
    (y * RNG.normal(size=y.shape)).sum().backward()
    g, v = layer.weight.grad.numpy(), values(layer.weight)
    np.testing.assert_allclose(g.sum(1), 0, atol=1e-10)
    np.testing.assert_allclose((g * v).sum(1), 0, atol=1e-10)
    layer.weight.assign(3 * v + 5)
    np.testing.assert_allclose(values(layer(x)), values(y), rtol=1e-9)


def test_gradients_of_a_centred_layer():
    layer = nn.CentredLinear(6, 3).astype(np.float64)
    assert tg.gradcheck(lambda x: np.tanh(layer(x)).sum(), X[:4].astype(np.float64), wrt=layer, order=2)


def test_gains_are_not_decayed_and_equal_weights_are_refused():
    groups = optim.decay_groups(nn.CentredLinear(6, 3), 0.1)
    assert [[p.shape for p in g["params"]] for g in groups] == [[(3, 6)], [(3,), (3,)]]
    with pytest.raises(ValueError, match="got all equal ones for in_features=1; draw two or more"):
        nn.CentredLinear(1, 3)
    with pytest.raises(ValueError, match="init='zeros'"):
        nn.CentredLinear(6, 3, init="zeros")


# penalties


@pytest.mark.parametrize(("penalty", "slope"), [(F.l1_penalty, np.sign), (F.l2_penalty, lambda w: w)])
def test_penalties_of_all_weights_have_the_recipes_gradients(penalty, slope):
    """λ/m · sign(w), 0 at 0, and λ/m · w, over all layers; biases have none unless asked."""
    lam, m = 0.3, 50
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)).astype(np.float64)
    model[0].weight.assign(np.where(RNG.random((5, 6)) < 0.5, 0.0, values(model[0].weight)))
    weights = [p for p in model.parameters() if p.ndim == 2]
    penalty(weights, lam, m).backward()
    for p in model.parameters():
        if p.ndim == 2:
            np.testing.assert_allclose(p.grad.numpy(), lam / m * slope(values(p)), rtol=1e-14)
        else:
            assert p.grad is None


def test_a_penalty_pulls_towards_its_own_solution():
    """min ½(w − a)² + λ|w| is a shrunk by λ or 0 (soft threshold); with ½λw² it is a / (1 + λ)."""
    a, lam = np.array([2.0, -0.5, 0.05, -3.0]), 0.3
    for penalty, expected in (
        (F.l1_penalty, np.sign(a) * np.maximum(np.abs(a) - lam, 0)),
        (F.l2_penalty, a / (1 + lam)),
    ):
        w = nn.Parameter(a.copy())
        optimizer = optim.SGD([w], lr=0.02)
        for _ in range(400):
            optimizer.zero_grad()
            (0.5 * np.square(w - a).sum() + penalty([w], lam)).backward()
            optimizer.step()
        np.testing.assert_allclose(values(w), expected, atol=0.02)


def test_decoupled_decay_of_weights_alone():
    """AdamW by `decay_groups`: with gradients of zero the weights shrink by 1 − αλ, biases, γ and β stay."""
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)).astype(np.float64)
    before = [values(p) for p in model.parameters()]
    optimizer = optim.AdamW(optim.decay_groups(model, 0.2), lr=0.1)
    for p in model.parameters():
        p.grad = np.zeros(p.shape)
    optimizer.step()
    for p, old in zip(model.parameters(), before, strict=True):
        np.testing.assert_allclose(values(p), old * (1 - 0.1 * 0.2 if p.ndim == 2 else 1), rtol=1e-14)
