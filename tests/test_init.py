"""Initialisation: the spreads of the recipe, and what is drawn from where."""

import math

import numpy as np
import pytest
from scipy import stats

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.nn import init

OUT, IN = 200, 300
NORMAL = {
    "xavier_normal_": math.sqrt(2 / (IN + OUT)),
    "he_normal_": math.sqrt(2 / IN),
    "kaiming_normal_": math.sqrt(2 / IN),
    "lecun_normal_": math.sqrt(1 / IN),
}
UNIFORM = {
    "xavier_uniform_": math.sqrt(6 / (IN + OUT)),
    "he_uniform_": math.sqrt(6 / IN),
    "kaiming_uniform_": math.sqrt(6 / IN),
    "fan_in_uniform_": 1 / math.sqrt(IN),
}


@pytest.fixture
def weight():
    return nn.Parameter(np.zeros((OUT, IN)))


@pytest.mark.parametrize(("name", "sigma"), NORMAL.items())
def test_normal_draws_have_the_recipes_spread(weight, name, sigma):
    assert getattr(init, name)(weight, rng=0) is weight
    assert stats.kstest(weight.detach().numpy().ravel() / sigma, "norm").pvalue > 1e-3


@pytest.mark.parametrize(("name", "bound"), UNIFORM.items())
def test_uniform_draws_have_the_recipes_bound(weight, name, bound):
    getattr(init, name)(weight, rng=0)
    w = weight.detach().numpy().ravel() / bound
    assert abs(w).max() < 1
    assert stats.kstest(w, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_gain_slope_and_receptive_fields():
    for shape in ((64, 32, 3, 3), (50, 90)):
        w = nn.Parameter(np.zeros(shape))
        fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
        assert init.xavier_normal_(w, gain=3.0, rng=0).detach().std().item() == pytest.approx(
            3 * math.sqrt(2 / (fan_in + fan_out)), rel=0.05
        )
        assert init.he_normal_(w, negative_slope=1.0, rng=0).detach().std().item() == pytest.approx(
            math.sqrt(1 / fan_in), rel=0.05
        )


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 3, 2)])
def test_orthogonal(shape):
    w = init.orthogonal_(nn.Parameter(np.zeros(shape)), gain=2.0, rng=0).detach().numpy().reshape(shape[0], -1) / 2
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_constants(weight):
    assert set(np.unique(init.constant_(weight, 10).detach().numpy())) == {10}
    assert init.ones_(weight).detach().mean().item() == 1
    assert not init.zeros_(weight).detach().numpy().any()


def test_zero_initialisation_keeps_units_identical():
    """The recipe's demonstration: after training, all hidden units of a zero-initialised layer are one unit."""
    rng = np.random.default_rng(0)
    x, y = tg.tensor(rng.normal(size=(50, 4))), rng.integers(0, 2, 50)
    model = nn.Sequential(nn.Linear(4, 5, init="zeros_"), nn.Tanh(), nn.Linear(5, 2, init="zeros_")).astype(np.float64)
    model[2].weight.data[...] = [[0.1], [-0.1]]
    optimizer = tg.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    w = model[0].weight.detach().numpy()
    assert np.linalg.norm(w) > 0.1
    np.testing.assert_allclose(w, w[:1].repeat(5, 0), rtol=1e-9)  # a BLAS may add up differently for each


def test_seeds_scopes_and_generators(weight):
    first = init.he_normal_(weight, rng=7).tolist()
    with tg.random.scope(7):
        assert init.he_normal_(weight).tolist() == first
    assert init.he_normal_(weight, rng=np.random.default_rng(7)).tolist() == first


def test_layers_take_names_and_callables():
    assert nn.Linear(3, 2, init="ones").weight.tolist() == [[1] * 3] * 2
    assert nn.Linear(3, 2, init=lambda w: init.constant_(w, 4)).weight.tolist() == [[4] * 3] * 2
    assert nn.Linear(3, 2).bias.tolist() == [0, 0]
    assert nn.Linear(3, 2, dtype=np.float64).weight.dtype == np.float64


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda w: init.he_normal_(nn.Parameter([1.0])), r"weight \(out, in, ...\), got shape \(1,\)"),
        (lambda w: init.orthogonal_(nn.Parameter([1.0])), "two axes"),
        (lambda w: init.variance_scaling_(w, mode="fan"), "fan_in, fan_out, fan_avg"),
        (lambda w: init.variance_scaling_(w, distribution="beta"), "'normal' or 'uniform'"),
        (lambda w: init.normal_(w, std=-1), "std >= 0"),
        (lambda w: init.uniform_(w, 2, 1), "low <= high"),
    ],
)
def test_bad_arguments_change_nothing(weight, call, match):
    with pytest.raises(ValueError, match=match):
        call(weight)
    assert not weight.detach().numpy().any()
