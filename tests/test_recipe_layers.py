"""Rows of the training recipe about layers: noise, centred weights, the test-time modes of batch norm, penalties."""

import copy
import math

import numpy as np
import pytest
from scipy import stats

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.nn import functional as F

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(50, 6)).astype(np.float32)
Y = np.arange(50) % 4


def values(tensor):
    return tensor.detach().numpy().copy()


# noise


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


# batch norm's three ways to evaluate


def network(p=0.0):
    layers = [nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(p), nn.Linear(9, 5), nn.BatchNorm1d(5)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Linear(5, 4)).astype(np.float64)


def trained(p=0.0):
    """A few steps, so that γ, β and the running statistics are anything but their initial values."""
    tg.seed(0)
    model = network(p)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    for _ in range(8):
        optimizer.zero_grad()
        F.cross_entropy(model(tg.tensor(X.astype(np.float64))), Y).backward()
        optimizer.step()
    return model


def evaluate(model, x, statistics):
    """The network in NumPy; statistics(z, norm) gives μ and σ² of a batch norm."""
    h = x.astype(np.float64)
    for layer in model:
        if isinstance(layer, nn.Linear):
            h = h @ values(layer.weight).T + values(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d):
            mean, var = statistics(h, layer)
            h = values(layer.weight) * (h - mean) / np.sqrt(var + layer.eps) + values(layer.bias)
        elif isinstance(layer, nn.ReLU):
            h = np.maximum(h, 0)
        elif isinstance(layer, nn.Tanh):
            h = np.tanh(h)
    return h


def running(_, norm):
    return values(norm.running_mean), values(norm.running_var)


def population(z, _):
    return z.mean(0), z.var(0)


def unbiased(z, _):
    return z.mean(0), z.var(0, ddof=1)


def test_running_statistics_evaluate_a_single_sample():
    model = trained(0.4).eval()
    np.testing.assert_allclose(values(model(tg.tensor(X[:1]))), evaluate(model, X[:1], running), rtol=1e-6)


def test_population_statistics_are_those_of_what_is_evaluated():
    model = trained(0.4)
    model[1].eval()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    test = RNG.normal(-1, 3, size=(30, 6))
    with nn.population_statistics(model):
        assert not model.training
        found = values(model(tg.tensor(test)))
        with pytest.raises(ValueError, match="more than one value per channel"):
            model(tg.tensor(test[:1]))
    np.testing.assert_allclose(found, evaluate(model, test, population), rtol=1e-9)
    assert all(np.array_equal(model.state_dict()[k].numpy(), v) for k, v in before.items())
    assert model.training
    assert not model[1].training
    model.eval()
    np.testing.assert_allclose(values(model(tg.tensor(test))), evaluate(model, test, running), rtol=1e-9)


def test_population_statistics_nest_and_end_with_an_error():
    model = trained()
    with nn.population_statistics(model):
        with nn.population_statistics(model):
            pass
        inner = values(model(tg.tensor(X)))
    np.testing.assert_allclose(inner, evaluate(model, X, population), rtol=1e-6)
    with pytest.raises(KeyError, match="stop"), nn.population_statistics(model):
        raise KeyError("stop")
    assert model.training
    np.testing.assert_allclose(values(model.eval()(tg.tensor(X))), evaluate(model, X, running), rtol=1e-6)


def test_training_inside_the_block_still_moves_the_running_statistics():
    norm = nn.BatchNorm1d(6).astype(np.float64)
    with nn.population_statistics(norm):
        norm.train()(tg.tensor(X))
    np.testing.assert_allclose(values(norm.running_mean), 0.1 * X.mean(0), rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 50])
@pytest.mark.parametrize("labels", [False, True])
def test_recomputed_statistics_are_exact_however_the_data_are_batched(batch_size, labels):
    model = trained(0.4)
    model[3].eval()
    model[1].running_mean.assign(1e6)
    loader = data.Loader(X, *([Y] if labels else []), batch_size=batch_size, shuffle=True)
    assert nn.recompute_statistics(model, loader) is model
    h = X.astype(np.float64)
    for part in (slice(0, 1), slice(0, 5)):
        z = evaluate(model[part], h, unbiased)
        np.testing.assert_allclose(values(model[part.stop].running_mean), z.mean(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(values(model[part.stop].running_var), z.var(0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(values(model.eval()(tg.tensor(X))), evaluate(model, X, unbiased), rtol=1e-5, atol=1e-6)


def test_recomputing_takes_out_what_dropout_adds_to_the_variance():
    """Dropout by p makes E[x²] 1/(1 − p) times as large in training; evaluation has none."""
    rng, p = np.random.default_rng(1), 0.5
    x = rng.normal(size=(20_000, 1))
    model = nn.Sequential(nn.Dropout(p), nn.BatchNorm1d(1, momentum=None)).astype(np.float64)
    with tg.random.scope(0):
        for batch in x.reshape(20, -1, 1):
            model(tg.tensor(batch))
    assert model[1].running_var.item() == pytest.approx(1 / (1 - p), rel=0.05)
    nn.recompute_statistics(model, [x])
    assert model[1].running_var.item() == pytest.approx(x.var(ddof=1), rel=1e-12)


def test_recomputed_statistics_of_sequences_and_large_means():
    x = RNG.normal(1e4, 1e-2, size=(6, 3, 5))
    norm = nn.BatchNorm1d(3).astype(np.float64)
    nn.recompute_statistics(norm, [x[:1], x[1:]])
    np.testing.assert_allclose(values(norm.running_mean), x.mean((0, 2)), rtol=1e-14)
    np.testing.assert_allclose(values(norm.running_var), x.var((0, 2), ddof=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("loader", "match"),
    [
        ([], "loader gave none"),
        (iter([X]), "again for every batch norm"),
        ([X[:1]], "more than one value per channel"),
        ([X, np.full((3, 6), np.nan)], "not finite"),
        ([X[:, :3]], "6 features"),
    ],
)
def test_statistics_that_cannot_be_recomputed_stay(loader, match):
    model = trained()
    before = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        nn.recompute_statistics(model, loader)
    assert all(np.array_equal(model.state_dict()[k].numpy(), v) for k, v in before.items())
    assert model.training
    assert all("forward" not in vars(m) for m in model.modules())


def test_models_without_running_statistics_have_nothing_to_recompute():
    for model in (nn.Linear(6, 2), nn.BatchNorm1d(6, track_running_stats=False)):
        before = copy.deepcopy(model.state_dict())
        nn.recompute_statistics(model, [X])
        assert all(np.array_equal(v.numpy(), model.state_dict()[k].numpy()) for k, v in before.items())


def test_evaluation_by_the_population_is_seen_by_a_compiled_function():
    model = trained().eval()
    predict = tg.compile(lambda x: model(x))
    for _ in range(2):
        np.testing.assert_allclose(values(predict(X)), evaluate(model, X, running), rtol=1e-6)
        with nn.population_statistics(model):
            np.testing.assert_allclose(values(predict(X)), evaluate(model, X, population), rtol=1e-6)
    nn.recompute_statistics(model, [X])
    np.testing.assert_allclose(values(predict(X)), evaluate(model, X, unbiased), rtol=1e-6)
    assert len(predict.programs) == 2


def test_noise_of_the_batch_shrinks_with_its_root():
    """A batch's mean, which batch norm subtracts, scatters by σ/√m: larger batches regularise less."""
    x = np.random.default_rng(0).normal(size=(2000, 64, 1))
    norm = nn.BatchNorm1d(1, momentum=1.0, affine=False).astype(np.float64)
    spread = []
    for m in (4, 16, 64):
        means = []
        for batch in x[:, :m]:
            norm(tg.tensor(batch))
            means.append(norm.running_mean.item())
        spread.append(np.std(means))
    np.testing.assert_allclose(spread, 1 / np.sqrt([4, 16, 64]), rtol=0.06)


@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "NAdam", "RAdam", "Adamax"])
def test_every_optimizer_learns_gamma_and_beta(kind):
    """The target is an affine function of the normalised inputs: γ = 2, β = −1."""
    x = X.astype(np.float64)
    target = 2 * (x - x.mean(0)) / x.std(0) - 1
    norm = nn.BatchNorm1d(6).astype(np.float64)
    optimizer = getattr(optim, kind)(norm.parameters(), lr={"Adagrad": 0.5, "SGD": 0.3}.get(kind, 0.05))
    first = None
    for _ in range(200):
        optimizer.zero_grad()
        loss = F.mse_loss(norm(tg.tensor(x)), target)
        loss.backward()
        optimizer.step()
        first = first or loss.item()
    assert loss.item() < 0.02 * first
    np.testing.assert_allclose(values(norm.weight), 2, atol=0.2)
    np.testing.assert_allclose(values(norm.bias), -1, atol=0.2)


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
