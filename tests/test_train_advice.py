"""Advice: right on histories whose verdict is known, silent on runs that are well, each figure that of the history."""

import functools
import itertools

import numpy as np
import pytest
from runs import build

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import History, Trainer

LAYERS = {
    "0": {"kind": "Linear", "activation": 1.2, "gradient": 0.3, "update": 2e-3},
    "1": {"kind": "ReLU", "activation": 0.8, "dead": 0.0},
    "2": {"kind": "Linear", "activation": 1.1, "gradient": 0.4, "update": 1e-3},
    "3": {"kind": "ReLU", "activation": 0.7, "dead": 0.05},
    "4": {"kind": "Linear", "activation": 2.5, "gradient": 0.5, "update": 2e-3},
}


def curve(start, end, epochs, rate=0.3):
    """From start towards end, exponentially."""
    return end + (start - end) * np.exp(-rate * np.arange(1, epochs + 1))


def history(loss, dev=None, first=2.3, accuracy=None, dev_accuracy=None, layers=None, gradient=None, largest=None):
    """A history with these columns; what is not given is that of a run without trouble."""
    rows = []
    for i, value in enumerate(loss):
        row = {
            "epoch": i + 1,
            "step": 10 * (i + 1),
            "loss": float(value),
            "first_loss": first if i == 0 else float(value),
            "lr": 0.01,
            "examples": 64,
            "gradient": 1.0 if gradient is None else gradient[i],
            "largest_gradient": 2.0 if largest is None else largest[i],
            "layers": {name: {**LAYERS[name], **(layers or {}).get(name, {})} for name in LAYERS},
        }
        columns = {"dev_loss": dev, "accuracy": accuracy, "dev_accuracy": dev_accuracy}
        row |= {name: float(values[i]) for name, values in columns.items() if values is not None}
        rows.append(row)
    return History(rows, metric="accuracy" if accuracy is not None else None)


def not_finite():
    found = history(curve(2.3, 0.5, 5))
    found.note("not finite", "Trainer: epoch 6, batch 2 of 10 (step 52): the loss has 1 NaN", 6, 51)
    return found


WELL = curve(2.3, 0.2, 20)
CASES = {
    "dev loss turns": (
        history(curve(2.3, 0.02, 20), np.r_[curve(2.3, 0.5, 8, 0.6), 0.52 + 0.05 * np.arange(12)]), "overfitting",
        "dev loss rose from 0.515 (epoch 8) to 1.07 while training loss fell from 0.227 to 0.0257",
    ),
    "a gap": (history(curve(2.3, 0.05, 20), curve(2.3, 0.9, 20)), "overfitting",
              "dev loss 0.903 against training loss 0.0556, a gap of 38% of what was learned"),
    "a gap in accuracy": (
        history(WELL, WELL + 0.1, accuracy=curve(0.1, 0.99, 20), dev_accuracy=curve(0.1, 0.8, 20)), "overfitting",
        "accuracy 98.8% in training and 79.8% on dev data",
    ),
    "stuck": (history(curve(2.3, 1.6, 20, 0.9), curve(2.3, 1.62, 20, 0.9)), "underfitting",
              "training loss 1.6, dev 1.62, 70% of its first value, and changed by -9.5e-07 in"),
    "growing": (history([2.2, 1.9, 1.7, 2.4, 3.8, 7.5, 19.0]), "diverging",
                "the training loss rose from 1.7 after epoch 3 to 19 after 7"),
    "a NaN": (not_finite(), "diverging", "epoch 6, batch 2 of 10 (step 52): the loss has 1 NaN"),
    "swings": (history([2.2, 1.5, 1.9, 1.2, 1.9, 1.1, 1.8, 1.2, 2.0, 1.3]), "rate too high", "rose by "),
    "a jump at the start": (
        history([35.0, 2.4, 2.31, 2.3, 2.3, 2.3, 2.3, 2.3]), "rate too high",
        "the first batch's loss was 2.3, the mean of the first epoch 35",
    ),
    "a straight line": (history(2.3 - 0.03 * np.arange(1, 13)), "rate too low", "fallen by 15.7%"),
    "fading gradients": (
        history(np.full(10, 2.30), layers={"0": {"gradient": 1e-7}, "2": {"gradient": 1e-4}}), "vanishing",
        "the gradient's norm is 1e-07 in layer '0' and 0.5 in layer '4', the last",
    ),
    "growing gradients": (
        history(WELL, layers={"0": {"gradient": 9e3, "activation": 1.0}, "2": {"gradient": 40.0}}), "exploding",
        "the gradient's norm is 9e+03 in layer '0' and 0.5 in layer '4', the last",
    ),
    "dead units": (history(WELL, layers={"1": {"dead": 0.75}, "3": {"dead": 0.5}}), "dead units",
                   "zero for each of 64 examples: 75% of '1', 50% of '3'"),
}  # fmt: skip


def test_there_are_twelve_cases_and_every_verdict_is_among_them():
    assert len(CASES) == 12
    assert {verdict for _, verdict, _ in CASES.values()} == {
        "overfitting", "underfitting", "diverging", "rate too high", "rate too low", "vanishing", "exploding",
        "dead units",
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_history_of_known_verdict(name):
    case, verdict, evidence = CASES[name]
    found = case.advice()
    assert [a.verdict for a in found] == [verdict], [str(a) for a in found]
    assert evidence in found[0].evidence
    assert found[0].remedy in str(found[0])


FURTHER = {
    "spike": (
        history(WELL, gradient=[1.0] * 20, largest=[2.0] * 12 + [450.0] + [2.0] * 7), "exploding", "4.5e+02 in epoch 13"
    ),
    "growing activations": (
        history(WELL, layers={"0": {"activation": 1e-2}, "4": {"activation": 50.0}}), "exploding", "from 0.01 in layer"
    ),
    "shrinking activations": (
        history(WELL, layers={"0": {"activation": 1.0}, "4": {"activation": 1e-6}}), "vanishing", "to 1e-06 in layer"
    ),
    "large steps": (history(WELL, layers={n: {"update": 0.3} for n in "024"}), "rate too high", "30.0% of their norm"),
}  # fmt: skip


@pytest.mark.parametrize("name", FURTHER)
def test_other_signs_of_the_same_verdicts(name):
    test = FURTHER[name]
    found = test[0].advice()
    assert [a.verdict for a in found] == [test[1]]
    assert test[2] in found[0].evidence


def test_figures_are_those_of_the_history():
    case = CASES["a gap"][0]
    [advice] = case.advice()
    assert advice.figures["train"] == case["loss"][-1]
    assert advice.figures["dev"] == case["dev_loss"][-1]
    gap = (case["dev_loss"][-1] - case["loss"][-1]) / (2.3 - case["loss"][-1])
    assert advice.figures["share"] == pytest.approx(gap)


def test_nothing_is_said_of_little():
    assert History().advice() == []
    assert history([2.2]).advice() == []
    assert history([2.2, 2.1], [2.2, 2.15]).advice() == []


# runs that are well


@functools.cache
def digits(n=600):
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    train, dev = data.split(x, y, sizes=(n, len(x) - n), stratify=y, seed=0)
    normalizer = data.Normalizer().fit(train[0])
    return (normalizer.transform(train[0]), train[1]), (normalizer.transform(dev[0]), dev[1])


def line(n=400):
    """A linear function of five features, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5))
    return data.split(x, x @ rng.normal(size=(5, 1)) + 0.1 * rng.normal(size=(n, 1)), sizes=(0.75, 0.25))


def mlp(*sizes, activation=nn.ReLU, norm=False, drop=0.0, **options):
    parts = []
    for a, b in itertools.pairwise(sizes[:-1]):
        parts += [nn.Linear(a, b, **options), *([nn.BatchNorm1d(b)] if norm else []), activation()]
    return nn.Sequential(*parts, *([nn.Dropout(drop)] if drop else []), nn.Linear(sizes[-2], sizes[-1]))


CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
HEALTHY = {
    "Adam": lambda: (mlp(64, 32, 10), CE, lambda p: optim.Adam(p, lr=3e-3), digits(1200), 10),
    "SGD with momentum": lambda: (mlp(64, 32, 10), CE, lambda p: optim.SGD(p, 0.05, momentum=0.9), digits(1200), 8),
    "batch norm, dropout": lambda: (
        mlp(64, 64, 32, 10, norm=True, drop=0.2), CE, lambda p: optim.Adam(p, lr=2e-3), digits(1200), 12
    ),
    "tanh and Xavier": lambda: (
        mlp(64, 32, 32, 10, activation=nn.Tanh, init="xavier_normal_"), CE, lambda p: optim.Adam(p, lr=2e-3),
        digits(1200), 10,
    ),
    "RMSprop": lambda: (mlp(64, 48, 10), CE, lambda p: optim.RMSprop(p, lr=1e-3), digits(1200), 8),
    "softmax regression": lambda: (mlp(64, 10), CE, lambda p: optim.Adam(p, lr=1e-2), digits(1200), 12),
    "six layers": lambda: (mlp(64, 32, 32, 32, 32, 32, 10), CE, lambda p: optim.Adam(p, lr=2e-3), digits(1200), 10),
    "linear regression": lambda: (mlp(5, 1), MSE, lambda p: optim.SGD(p, 0.05), line(), 15),
    "regression by a network": lambda: (mlp(5, 32, 1), MSE, lambda p: optim.Adam(p, lr=3e-3), line(), 20),
    "AdamW with decay": lambda: (
        mlp(64, 32, 10), CE, lambda p: optim.AdamW(p, lr=3e-3, weight_decay=0.05), digits(1200), 10
    ),
}  # fmt: skip


def test_there_are_ten_healthy_runs():
    assert len(HEALTHY) == 10


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_is_met_with_silence(name):
    tg.seed(0)
    model, loss, optimizer, (train, dev), epochs = HEALTHY[name]()
    trainer = Trainer(model, loss, optimizer(model.parameters()), progress=False)
    history = trainer.fit(data.Loader(*train, batch_size=32, shuffle=True), dev, epochs=epochs)
    assert history["dev_loss"][-1] < 0.3 * history["first_loss"][0]
    assert [str(a) for a in history.advice()] == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("change", "verdicts"),
    [
        ({"lr": 1e-5}, {"rate too low"}),
        ({"lr": 3.0}, {"rate too high"}),
        ({"init": lambda w: w.assign(w * 1e-3), "depth": 6}, {"vanishing"}),
        ({"init": lambda w: w.assign(w * 30.0), "depth": 6}, {"exploding"}),
        ({"bias": -30.0}, {"dead units"}),
        ({"examples": 60, "epochs": 40}, {"overfitting"}),
    ],
    ids=["low rate", "high rate", "small weights", "large weights", "dead", "few examples"],
)
def test_a_real_run_that_is_spoilt_is_found_out(change, verdicts):
    tg.seed(0)
    train, dev = digits(change.get("examples", 600))
    model = mlp(64, *[32] * change.get("depth", 2), 10)
    with tg.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear) and "init" in change:
                change["init"](layer.weight)
        if "bias" in change:
            model[0].bias += change["bias"]
    optimizer = optim.Adam(model.parameters(), lr=change.get("lr", 2e-3))
    trainer = Trainer(model, CE, optimizer, progress=False)
    history = trainer.fit(data.Loader(*train, batch_size=32, shuffle=True), dev, epochs=change.get("epochs", 8))
    assert verdicts <= {a.verdict for a in history.advice()}


def test_advice_after_a_run_that_was_stopped():
    trainer, train, dev = build()
    trainer.fit(train, dev, epochs=1)
    assert trainer.history.advice() == []
