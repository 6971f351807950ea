"""Searches in one process: scales, points that depend on seed and number only, coarse to fine, pruning."""

import math

import numpy as np
import pytest
from runs import build
from trials import SPACE, bowl

import tinygrad_dl as tg
from tinygrad_dl import tune

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def points(results):
    return [trial.params for trial in results.trials]


# scales


@pytest.mark.parametrize(
    ("scale", "exponent", "low", "high"),
    [
        (tune.log_uniform(1e-4, 1), np.log10, -4, 0),
        (tune.one_minus_log(0.9, 0.999), lambda beta: np.log10(1 - beta), -3, -1),
        (tune.uniform(-2, 3), lambda value: value, -2, 3),
    ],
    ids=["log_uniform", "one_minus_log", "uniform"],
)
def test_the_exponent_is_uniform(scale, exponent, low, high):
    """The recipe's scales: r uniform in [-4, 0], and in [-3, -1] for beta."""
    stats = pytest.importorskip("scipy.stats")
    found = tune.search(lambda trial: 0.0, {"x": scale}, 400)
    values = np.array([trial.params["x"] for trial in found.trials])
    assert all(value in scale for value in values.tolist())
    assert stats.kstest(exponent(values), stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_integers_and_choices_come_alike_often():
    stats = pytest.importorskip("scipy.stats")
    space = {"layers": tune.integer(2, 4), "act": tune.choice("relu", "tanh", None)}
    found = tune.search(lambda trial: 0.0, space, 300)
    for name, values in (("layers", {2, 3, 4}), ("act", {"relu", "tanh", None})):
        drawn = [trial.params[name] for trial in found.trials]
        assert set(drawn) == values
        assert stats.chisquare([drawn.count(value) for value in values]).pvalue > 0.01


def test_a_grid_is_even_on_its_scales():
    space = {"lr": tune.log_uniform(1e-4, 1), "beta": tune.one_minus_log(0.9, 0.999), "act": tune.choice("a", "b")}
    grid = tune.grid(space, {"lr": 5, "beta": 3, "act": 1})
    assert len(grid) == 5 * 3 * 2
    assert sorted({p["lr"] for p in grid}) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert sorted({p["beta"] for p in grid}) == pytest.approx([0.9, 0.99, 0.999])
    assert {p["units"] for p in tune.grid({"units": tune.integer(2, 4)}, 9)} == {2, 3, 4}
    found = tune.search(lambda trial: trial["lr"], space, grid)
    for run, given in zip(points(found), grid, strict=True):
        assert run == pytest.approx(given, abs=1e-15)


# random points


def test_a_point_depends_on_seed_number_and_name_alone():
    whole = tune.search(bowl, SPACE, 12, seed=3)
    assert points(tune.search(bowl, SPACE, 6, seed=3)) == points(whole)[:6]
    assert points(tune.search(bowl, dict(reversed(SPACE.items())), 12, seed=3)) == points(whole)
    more = tune.search(bowl, {**SPACE, "act": tune.choice("a", "b")}, 12, seed=3)
    assert [{k: p[k] for k in SPACE} for p in points(more)] == points(whole)
    other = tune.search(bowl, SPACE, 12, seed=4)
    assert not {p["lr"] for p in points(other)} & {p["lr"] for p in points(whole)}
    assert len({p["lr"] for p in points(whole)}) == 12


def test_what_a_trial_draws_depends_on_seed_and_number_alone():
    def draw(trial):
        tg.random.uniform(shape=(trial.number,))
        return float(tg.random.uniform().item())

    before = tg.random.state()
    first, again = (tune.search(draw, SPACE, 5) for _ in range(2))
    assert [t.value for t in first.trials] == [t.value for t in again.trials]
    assert len({t.value for t in first.trials}) == 5
    assert tg.random.state() == before


def test_the_best_is_the_lowest():
    found = tune.search(bowl, SPACE, 20)
    assert found.best.value == min(trial.value for trial in found.trials) == found.study.best_value
    assert found.best.number == found.study.best_trial.number
    assert found.study.best_params["1 - momentum"] == pytest.approx(1 - found.best.params["momentum"])
    assert "20 complete; best" in repr(found)
    assert len(found) == 20


def test_any_sampler_of_optunas_works_on_the_scales():
    found = tune.search(bowl, SPACE, 15, sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=5))
    assert all(value in SPACE[name] for point in points(found) for name, value in point.items())


# coarse to fine


def test_coarse_to_fine_zooms_into_the_best_region():
    """Rounds of 20: the first over the whole space, later ones in the box of the 4 best before, widened by a gap."""
    best = {"x": 0.7, "lr": 1e-2}

    def objective(trial):
        return abs(trial["x"] - best["x"]) + abs(math.log10(trial["lr"] / best["lr"])) / 4

    space = {"x": tune.uniform(0, 1), "lr": tune.log_uniform(1e-4, 1)}
    found = tune.search(objective, space, 80, sampler=tune.CoarseToFine(size=20, best=4))
    rounds = [found.trials[i : i + 20] for i in range(0, 80, 20)]
    for i, now in enumerate(rounds[1:], 1):
        top = sorted(found.trials[: 20 * i], key=lambda trial: trial.value)[:4]
        for name, scale in (("x", lambda v: v), ("lr", np.log10)):
            places = sorted(float(scale(trial.params[name])) for trial in top)
            gap = (places[-1] - places[0]) / 3
            drawn = [scale(trial.params[name]) for trial in now]
            assert places[0] - gap - 1e-9 <= min(drawn)
            assert max(drawn) <= places[-1] + gap + 1e-9
    spreads = [np.std([trial.params["x"] for trial in now]) for now in rounds]
    assert spreads[0] > 2 * spreads[1] > 2 * spreads[2] > 2 * spreads[3]
    same = tune.search(objective, space, 80, sampler=tune.CoarseToFine(size=20, best=4))
    assert points(same) == points(found)
    means = [np.mean([trial.value for trial in now]) for now in rounds]
    assert means[0] > 2 * means[1] > 2 * means[2] > 2 * means[3]


def test_coarse_to_fine_keeps_choices_and_integers_of_the_best():
    def objective(trial):
        return (trial["act"] != "relu") + abs(trial["units"] - 60) / 50 + trial["fixed"]

    space = {"act": tune.choice("relu", "tanh", "elu"), "units": tune.integer(50, 100), "fixed": tune.uniform(1, 1)}
    found = tune.search(objective, space, 60, sampler=tune.CoarseToFine(size=30, best=3))
    assert {trial.params["act"] for trial in found.trials[30:]} == {"relu"}
    units = [trial.params["units"] for trial in found.trials[30:]]
    assert max(units) - min(units) < 25
    assert all(isinstance(n, int) for n in units)


def test_coarse_to_fine_in_a_study_of_optunas():
    study = optuna.create_study(sampler=tune.CoarseToFine(size=10, best=2, seed=1), direction="maximize")
    study.optimize(lambda t: -abs(t.suggest_float("x", 0, 99, step=0.5) - 4 * t.suggest_int("n", 1, 64, log=True)), 40)
    assert {trial.params["x"] for trial in study.trials} <= set(np.arange(0, 99.5, 0.5).tolist())
    assert study.best_value > max(trial.value for trial in study.trials[:10])


# pruning, and trials that end badly


def test_a_bad_trial_is_pruned_by_its_dev_loss():
    """Median of the dev losses at that epoch, once five trials are complete; the rate alone makes a run bad."""
    epochs = {}

    def objective(trial):
        tg.seed(0)
        trainer, train, dev = build(callbacks=[trial], schedule=None)
        trainer.optimizer.param_groups[0]["lr"] = trial["lr"]
        history = trainer.fit(train, dev, epochs=6)
        epochs[trial.number] = len(history)
        return min(history["dev_loss"])

    rates = [0.02, 0.03, 0.04, 0.05, 0.01, 1e-6, 0.02]
    found = tune.search(objective, {"lr": tune.log_uniform(1e-6, 1)}, [{"lr": rate} for rate in rates])
    assert [trial.state for trial in found.trials] == ["complete"] * 5 + ["pruned", found.trials[6].state]
    bad = found.trials[5]
    assert len(bad.losses) == 1
    assert bad.value == bad.losses[1] > np.median([trial.losses[1] for trial in found.trials[:5]])
    assert "pruned after step 1" in bad.note
    assert 5 not in epochs
    assert epochs[0] == len(found.trials[0].losses) == 6


def test_what_is_not_finite_is_the_trials_end_not_the_searchs():
    def objective(trial):
        if trial.number == 0:
            return math.nan
        if trial.number == 1:
            trial.report(math.inf, 1)
        if trial.number == 2:
            raise FloatingPointError("the loss is nan")
        return 1.0

    found = tune.search(objective, SPACE, 4)
    assert [trial.state for trial in found.trials] == ["pruned"] * 3 + ["complete"]
    assert [trial.value for trial in found.trials] == [None, None, None, 1.0]
    assert "gave nan" in found.trials[0].note
    assert "inf after step 1" in found.trials[1].note
    with pytest.raises(ValueError, match="none of 3 trials was completed: trial 0: the objective gave nan"):
        _ = tune.search(objective, SPACE, 3).best


def test_without_dev_data_a_trial_says_so():
    def objective(trial):
        trainer, train, _ = build(callbacks=[trial])
        return trainer.fit(train, epochs=1)["loss"][-1]

    with pytest.raises(ValueError, match="needs dev data"):
        tune.search(objective, SPACE, 1)
