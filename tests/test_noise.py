"""Noise of the training recipe on inputs, weights and gradients: its distribution, and where it is off."""

import math

import numpy as np
import pytest
from runs import X, Y, values
from scipy import stats

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.nn import functional as F


def test_gaussian_noise_is_normal_new_at_each_call_and_off_in_evaluation():
    layer = nn.GaussianNoise(0.3)
    x = tg.tensor(np.full((100, 100), 7.0), requires_grad=True)
    with tg.random.scope(0):
        first, second = layer(x), layer(x)
    noise = (values(first) - 7) / 0.3
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise.ravel(), values(second).ravel())[0, 1]) < 0.05
    first.sum().backward()
    assert (x.grad.numpy() == 1).all()
    assert layer.eval()(x) is x
    assert repr(layer) == "GaussianNoise(std=0.3)"


def test_gaussian_noise_keeps_dtypes_and_follows_the_seed():
    for dtype in (np.float16, np.float32, np.float64):
        x = tg.tensor(np.zeros((4, 3), dtype))
        results = []
        for _ in range(2):
            tg.seed(3)
            results.append(nn.GaussianNoise(1.0)(x))
        assert results[0].dtype == dtype
        assert results[0].tolist() == results[1].tolist()
    assert nn.GaussianNoise(0.0)(x) is x


@pytest.mark.parametrize("std", [-1.0, math.nan, math.inf])
def test_gaussian_noise_needs_a_size(std):
    with pytest.raises(ValueError, match="finite std >= 0"):
        nn.GaussianNoise(std)


def test_gaussian_noise_refuses_whole_numbers():
    with pytest.raises(TypeError, match="floating inputs, got int64"):
        nn.GaussianNoise(0.1)(tg.tensor([1, 2]))


def noisy_weights(model, std):
    return {name: p + tg.random.normal(0, std, p.shape, p.dtype) for name, p in model.named_parameters()}


def test_noise_on_weights_passes_the_gradient_at_the_noisy_point():
    """The gradient of ½(w + ε)² is w + ε, and it lands in w."""
    model = nn.Linear(1, 1, bias=False)
    w = model.weight.item()
    with tg.random.scope(0):
        noisy = noisy_weights(model, 0.1)
    loss = 0.5 * nn.functional_call(model, noisy, tg.tensor([[1.0]])).sum() ** 2
    loss.backward()
    assert noisy["weight"].item() != w
    assert model.weight.grad.item() == pytest.approx(noisy["weight"].item(), rel=1e-6)
    assert model.weight.item() == w


def test_noise_on_gradients_has_its_variance():
    model = nn.Linear(100, 100)
    model(tg.tensor(np.zeros((2, 100), np.float32))).sum().backward()
    with tg.random.scope(0):
        for p in model.parameters():
            p.grad = p.grad + tg.random.normal(0, 0.5, p.shape, p.dtype)
    assert stats.kstest(model.weight.grad.numpy().ravel() / 0.5, "norm").pvalue > 1e-3


def train(compiled, steps=6):
    """All four kinds of noise in one step."""
    tg.seed(1)
    model = nn.Sequential(nn.GaussianNoise(0.1), nn.Linear(6, 8), nn.ReLU(), nn.GaussianNoise(0.2), nn.Linear(8, 4))
    optimizer = optim.SGD(model.parameters(), lr=0.05)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(nn.functional_call(model, noisy_weights(model, 0.01), x), y)
        loss.backward()
        for p in model.parameters():
            p.grad = p.grad + tg.random.normal(0, 0.01, p.shape, p.dtype)
        optimizer.step()
        return loss

    step = tg.compile(step) if compiled else step
    losses = [float(step(tg.tensor(X), tg.tensor(Y))) for _ in range(steps)]
    assert not compiled or len(step.programs) == 1
    return losses, [values(p) for p in model.parameters()]


def test_noise_of_every_kind_is_the_same_in_a_compiled_step():
    eager, compiled = train(False), train(True)
    assert len(set(eager[0])) == 6
    np.testing.assert_allclose(eager[0], compiled[0], rtol=1e-5)
    for a, b in zip(eager[1], compiled[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
