"""Batch norm's three ways to evaluate: by running, by population and by recomputed statistics."""

import copy

import numpy as np
import pytest
from runs import X, Y, values

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.nn import functional as F

RNG = np.random.default_rng(0)


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
