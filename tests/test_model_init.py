"""Initialisation of whole models: LSUV, data-dependent, adjusted to dropout; and how plain draws behave with depth."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.nn import functional as F
from tinygrad_dl.nn import init

X = np.random.default_rng(0).normal(size=(400, 30)).astype(np.float32)
WIDTHS = [30, 50, 40, 60, 20, 8]


def network(activation=nn.ReLU, p=0.0, norm=False, bias=True):
    parts = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(WIDTHS)):
        if i:
            parts += [*([nn.BatchNorm1d(fan_in)] if norm else []), activation(), *([nn.Dropout(p)] if p else [])]
        parts.append(nn.Linear(fan_in, fan_out, bias=bias))
    return nn.Sequential(*parts)


def values(tensor):
    return tensor.detach().numpy()


def linears(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


def weights(model):
    return [values(layer.weight).copy() for layer in linears(model)]


def by_hand(model, x, activation=lambda z: np.maximum(z, 0)):
    """The outputs of each Linear of a chain, in float64 NumPy."""
    outputs, h = [], x.astype(np.float64)
    for layer in linears(model):
        z = h @ values(layer.weight).T.astype(np.float64)
        outputs.append(z if layer.bias is None else z + values(layer.bias))
        h = activation(outputs[-1])
    return outputs


# depth


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("normal_", 1e10, math.inf), ("he_normal_", 0.4, 2.5), ("he_uniform_", 0.4, 2.5), ("xavier_normal_", 0.1, 1)],
)
def test_activations_and_gradients_through_twenty_layers(name, least, most):
    """N(0, 1) explodes by √(width/2) a layer; He keeps ReLU's scale, and Xavier tanh's."""
    rng = np.random.default_rng(1)
    activation = np.tanh if name.startswith("xavier") else F.relu
    h = tg.tensor(rng.normal(size=(200, 100)), requires_grad=True)
    first = h
    for _ in range(20):
        h = activation(h @ getattr(init, name)(tg.tensor(np.zeros((100, 100))), rng=rng).T)
    h.backward(rng.normal(size=h.shape))
    for a in (h.detach().numpy(), first.grad.numpy()):
        assert least < np.sqrt(np.square(a).mean()) < most


def test_small_normal_draws_vanish():
    rng = np.random.default_rng(1)
    h = tg.tensor(rng.normal(size=(200, 100)))
    for _ in range(20):
        h = np.tanh(h @ init.normal_(tg.tensor(np.zeros((100, 100))), std=0.01, rng=rng).T)
    assert np.abs(h.numpy()).max() < 0.11**20 * 10


# LSUV


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid])
def test_lsuv_gives_every_layer_unit_variance(activation):
    with tg.random.scope(0):
        model = network(activation, p=0.3)
        assert init.lsuv_(model, X) is model
    f = {nn.ReLU: lambda z: np.maximum(z, 0), nn.Tanh: np.tanh, nn.GELU: F.gelu, nn.Sigmoid: F.sigmoid}[activation]
    for z in by_hand(model, X, f):
        assert abs(z.std() - 1) < 0.1
    for w in weights(model):  # still orthogonal
        product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(product, product[0, 0] * np.eye(len(product)), atol=1e-5)


def test_lsuv_leaves_what_is_near_enough():
    """The first layer, orthogonal, gives variance 1 for white inputs: it is not scaled."""
    with tg.random.scope(0):
        model = init.lsuv_(nn.Sequential(nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 5)), (X, np.zeros(400)))
    w, v = weights(model)
    np.testing.assert_allclose(w @ w.T, np.eye(30), atol=1e-5)
    hidden = np.maximum(X @ w.T, 0)
    direction = v / np.linalg.norm(v, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1 / (hidden @ direction.T).std(), rtol=1e-4)


# data-dependent


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid])
def test_data_dependent_units_have_mean_0_and_deviation_1(activation):
    with tg.random.scope(0):
        model = init.data_dependent_(network(activation), X)
    f = np.tanh if activation is nn.Tanh else F.sigmoid
    for z in by_hand(model, X, f):
        np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(z.std(0), 1, rtol=1e-4)


def test_data_dependent_is_w_over_sigma_and_minus_mu_over_sigma():
    model = nn.Linear(30, 4)
    w = values(model.weight).copy()
    model.bias.assign([3.0, 1.0, -2.0, 0.0])
    z = X @ w.T
    init.data_dependent_(model, X)
    np.testing.assert_allclose(values(model.weight), w / z.std(0)[:, None], rtol=1e-5)
    np.testing.assert_allclose(values(model.bias), -z.mean(0) / z.std(0), rtol=1e-4, atol=1e-6)


def relative_rates(model, rng):
    """‖∂L/∂W‖ / ‖W‖ of each layer of a ReLU chain, by the chain rule in NumPy; L weighs the outputs at random."""
    outputs = by_hand(model, X)
    inputs = [X, *(np.maximum(z, 0) for z in outputs[:-1])]
    delta, squares = rng.normal(size=outputs[-1].shape), []
    for w, x, z in list(zip(weights(model), inputs, [None, *outputs], strict=False))[::-1]:
        squares.append(np.square(delta.T @ x).sum() / np.square(w).sum())
        delta = delta @ w * (z > 0) if z is not None else None
    return np.array(squares[::-1])


def test_data_dependent_layers_are_balanced_and_the_function_stays():
    rng = np.random.default_rng(2)
    with tg.random.scope(0):
        model = init.data_dependent_(network(), X)
    outputs = by_hand(model, X)
    np.testing.assert_allclose(outputs[-1].std(0), 1, rtol=1e-3)  # of the function that the first part left
    np.testing.assert_allclose(outputs[-1].mean(0), 0, atol=1e-3)
    rates = np.sqrt(np.mean([relative_rates(model, rng) for _ in range(20)], axis=0))
    assert rates.max() / rates.min() < 1.2  # one draw of the loss against the mean of twenty
    plain = network()
    spread = np.sqrt(np.mean([relative_rates(plain, rng) for _ in range(20)], axis=0))
    assert spread.max() / spread.min() > 1.5


@pytest.mark.parametrize("make", [lambda: network(norm=True), lambda: network(norm=True, bias=False)])
def test_statistics_modes_and_draws_are_left_alone(make):
    model = make()
    model[1].eval()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items() if "weight" not in k and "bias" not in k}
    for f in (init.lsuv_, init.data_dependent_, init.dropout_adjusted_):
        f(model, X)
        assert all(np.array_equal(model.state_dict()[k].numpy(), v) for k, v in before.items())
        assert model.training
        assert not model[1].training
        assert all("forward" not in vars(m) for m in model.modules())


# dropout


def expectations(name):
    """E[f²] and E[f′²] for z ~ N(0, 1), by quadrature of the closed forms."""
    f, slope = {
        "relu": (lambda z: max(z, 0), lambda z: float(z > 0)),
        "tanh": (math.tanh, lambda z: 1 - math.tanh(z) ** 2),
        "gelu": (lambda z: z * stats.norm.cdf(z), lambda z: stats.norm.cdf(z) + z * stats.norm.pdf(z)),
    }[name]
    return [integrate.quad(lambda z, h=h: h(z) ** 2 * stats.norm.pdf(z), -10, 10, points=[0])[0] for h in (f, slope)]


@pytest.mark.parametrize(("name", "rel"), [("relu", 1e-6), ("tanh", 0.01), ("gelu", 0.01)])
@pytest.mark.parametrize("keep", [1.0, 0.8])
def test_dropout_adjusted_weights_have_the_recipes_length(name, rel, keep):
    module = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}[name]
    with tg.random.scope(0):
        model = init.dropout_adjusted_(network(module, p=1 - keep), X)
    square, slope = expectations(name)
    first, hidden, last = 1 + keep * slope, square / keep + keep * slope, 1 + square / keep
    for w, variance in zip(weights(model), [first, hidden, hidden, hidden, last], strict=True):
        np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1 / math.sqrt(variance), rtol=rel)
    if name == "relu":
        assert square == pytest.approx(0.5, abs=1e-9)
        assert slope == pytest.approx(0.5, abs=1e-9)


def test_a_new_batch_norm_does_not_change_the_length():
    found = []
    for norm in (False, True):
        with tg.random.scope(0):
            found.append([np.linalg.norm(w, axis=1)[0] for w in weights(init.dropout_adjusted_(network(norm=norm), X))])
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_dropout_adjusted_directions_are_uniform():
    """Coordinate t of a uniform direction in d dimensions: t² ~ Beta(1/2, (d − 1)/2)."""
    with tg.random.scope(0):
        [w] = weights(init.dropout_adjusted_(nn.Linear(30, 500), X))
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1 / math.sqrt(2), rtol=1e-5)
    assert stats.kstest(2 * w[:, 0] ** 2, stats.beta(0.5, 29 / 2).cdf).pvalue > 1e-3


class Residual(nn.Module):
    """Two branches beside each other: no chain."""

    def __init__(self):
        self.left, self.right = nn.Linear(30, 8), nn.Linear(30, 8)

    def forward(self, x):
        return self.left(x) + self.right(x)


class Functional(nn.Module):
    """A chain whose activation is a function."""

    def __init__(self):
        self.last, self.first = nn.Linear(40, 8), nn.Linear(30, 40)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


def test_the_order_is_that_of_running_not_of_definition():
    model = init.dropout_adjusted_(Functional(), X)
    for layer in (model.first, model.last):
        assert np.linalg.norm(values(layer.weight), axis=1) == pytest.approx(1 / math.sqrt(1.5))
    init.lsuv_(model, X)
    assert model(tg.tensor(X)).detach().std().item() == pytest.approx(1, abs=0.1)


# what they have in common


ALL = (init.lsuv_, init.data_dependent_, init.dropout_adjusted_)


@pytest.mark.parametrize("f", ALL)
def test_frozen_and_self_scaled_layers_stay(f):
    model = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.CentredLinear(20, 10), nn.ReLU(), nn.Linear(10, 5))
    model[0].requires_grad_(False)
    before = weights(model)
    f(model, X)
    after = weights(model)
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [True, True, False]
    assert not values(model[0].bias).any()


class Branches(nn.Module):
    """Two outputs."""

    def __init__(self):
        self.left, self.right = nn.Linear(30, 8), nn.Linear(30, 8)

    def forward(self, x):
        return self.left(x), self.right(x)


def test_several_outputs_are_normalised_each():
    model = init.data_dependent_(Branches(), X)
    for y in model(tg.tensor(X)):
        np.testing.assert_allclose(values(y).mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values(y).std(0), 1, rtol=1e-5)


@pytest.mark.parametrize("f", ALL)
def test_a_seed_decides_and_no_gradient_is_left(f):
    results = []
    for _ in range(2):
        with tg.random.scope(5):
            model = f(network(), X)
        results.append(weights(model))
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("f", "model", "x", "match"),
    [
        (init.lsuv_, nn.Sequential(nn.ReLU()), X, "Sequential has no layer with a weight"),
        (init.lsuv_, nn.Linear(30, 5), 0 * X, r"lsuv_: layer 0, Linear\(30, 5\), gives equal"),
        (init.data_dependent_, nn.Linear(30, 5), X[:1], "unit 0 of layer 0"),
        (init.data_dependent_, nn.Linear(30, 5, init="zeros"), X, "unit 0 of layer 0"),
        (init.data_dependent_, nn.Linear(30, 5), np.full((9, 30), np.nan), "no finite"),
        (init.dropout_adjusted_, Residual(), X, r"a chain of layers, but Linear\(30, 8\) \(layer 1\) does not get"),
        (
            init.dropout_adjusted_,
            nn.Sequential(nn.Linear(30, 5), nn.Dropout(0.5, scale="test"), nn.Linear(5, 2)),
            X,
            r"dropout that keeps something and divides by it, got Dropout\(p=0.5, scale='test'\)",
        ),
        (init.lsuv_, nn.Linear(20, 5), X, "20 features"),
    ],
)
def test_what_cannot_work_is_refused_and_changes_nothing(f, model, x, match):
    before = [values(p).copy() for p in model.parameters()]
    with pytest.raises(ValueError, match=match):
        f(model, x)
    assert all(np.array_equal(values(p), b) for p, b in zip(model.parameters(), before, strict=True))
    assert model.training


def test_a_layer_that_runs_twice_is_no_chain():
    shared = nn.Linear(30, 30)
    with pytest.raises(ValueError, match=r"Linear\(30, 30\) runs twice"):
        init.dropout_adjusted_(nn.Sequential(shared, nn.ReLU(), shared), X)


def test_initialisers_of_models_are_none_of_tensors():
    with pytest.raises(ValueError, match="expected a callable or one of"):
        nn.Linear(3, 2, init="lsuv_")
