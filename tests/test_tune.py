"""Searches in one process: scales, points that depend on seed and number only, pruning, resuming, bad input."""

import builtins
import json
import math
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from runs import build

import tinygrad_dl as tg
from tinygrad_dl import tune
from tinygrad_dl.train import Callback
from tinygrad_dl.tune import queue as queues

optuna = pytest.importorskip("optuna")
stats = pytest.importorskip("scipy.stats")
from trials import SPACE, bowl, reporting  # noqa: E402

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
    found = tune.search(lambda trial: 0.0, {"x": scale}, 400)
    values = np.array([trial.params["x"] for trial in found.trials])
    assert all(value in scale for value in values.tolist())
    assert stats.kstest(exponent(values), stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_integers_and_choices_come_alike_often():
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


# a storage


def test_a_search_goes_on_where_it_was_left(tmp_path):
    journal = tmp_path / "new" / "journal"
    run = []

    def objective(trial):
        run.append(trial.number)
        return bowl(trial)

    tune.search(objective, SPACE, 4, storage=journal)
    found = tune.search(objective, SPACE, 9, storage=journal)
    assert run == list(range(9))
    whole = tune.search(bowl, SPACE, 9)
    assert found.trials == whole.trials
    assert len(tune.search(objective, SPACE, 4, storage=journal)) == 4
    assert len(run) == 9
    tune.search(objective, SPACE, 2, storage=str(journal), name="another", seed=1)
    assert len(run) == 11


def test_an_objectives_error_is_raised_and_its_trial_run_again(tmp_path):
    broken = [True] * 5

    def objective(trial):
        if trial.number == 2 and broken:
            raise LookupError("no such data")
        return bowl(trial)

    while broken:
        with pytest.raises(LookupError, match="no such data") as error:
            tune.search(objective, SPACE, 5, storage=tmp_path / "journal")
        broken.pop()
    assert "in trial 2 of the search, with {'lr':" in error.value.__notes__[0]
    assert tune.search(objective, SPACE, 5, storage=tmp_path / "journal").trials == tune.search(bowl, SPACE, 5).trials


class CtrlC(Callback):
    def batch(self, run):
        if run.step == 2:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_trainer_ends_the_search_not_the_trial(tmp_path):
    presses = [CtrlC()]

    def objective(trial):
        trainer, train, dev = build(callbacks=[trial, *presses])
        return min(trainer.fit(train, dev, epochs=1)["dev_loss"])

    with pytest.raises(KeyboardInterrupt):
        tune.search(objective, SPACE, 2, storage=tmp_path / "journal")
    presses.clear()
    found = tune.search(objective, SPACE, 2, storage=tmp_path / "journal")
    assert [trial.state for trial in found.trials] == ["complete", "complete"]
    assert found.best.value > 0


def plan(journal, size=3):
    from tinygrad_dl.tune.plan import Plan

    return Plan(SPACE, size, None, None, None, journal, 0, "search")


def test_a_trial_without_signs_of_life_is_run_again(tmp_path, monkeypatch):
    """Its worker reported a loss, and was heard of no more; when it comes back after all, its answer is not counted."""
    monkeypatch.setattr(queues, "PATIENCE", 0.3)
    lost = plan(tmp_path / "journal").queue()
    lost.fill()
    first = lost.take("lost")
    lost.report(first.number, 0, 100.0)
    found = tune.search(reporting, SPACE, 3, storage=tmp_path / "journal")
    lost.finish(first.number, optuna.trial.TrialState.COMPLETE, -5.0)
    lost.sign(first.number, "lost", 7)
    assert found.trials == tune.search(reporting, SPACE, 3).trials
    assert [trial.value for trial in lost.study.get_trials()] == [trial.value for trial in found.trials]


def test_a_worker_that_gives_signs_of_life_keeps_its_trial(tmp_path):
    queue = plan(tmp_path / "journal").queue()
    queue.patience = 0.0
    queue.fill()
    number = queue.take("alive").number
    for count in range(1, 4):
        queue.sign(number, "alive", count)
        queue._signs.pop(number, None) if count == 1 else None
        queue.patience = 10.0
        queue.put_back_silent()
    assert [trial.number for trial in queue.trials(optuna.trial.TrialState.RUNNING)] == [number]


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path):
    queue = plan(tmp_path / "journal", size=1).queue()
    queue.fill()
    for worker in "abc":
        assert queue.take(worker).number == 0
        queue.put_back_of(worker)
    found = tune.search(bowl, SPACE, 1, storage=tmp_path / "journal")
    assert [(trial.state, trial.note) for trial in found.trials] == [
        ("failed", "3 workers were killed while they ran this trial")
    ]


def test_trials_made_twice_are_run_once(tmp_path):
    """Two machines begin at the same moment, and both make the trials."""
    queue = plan(tmp_path / "journal", size=6).queue()
    queue.fill()
    queue = plan(tmp_path / "journal").queue()
    found = tune.search(bowl, SPACE, 3, storage=tmp_path / "journal")
    assert found.trials == tune.search(bowl, SPACE, 3).trials
    assert len(queue.study.get_trials()) == 6


def test_an_unfinished_line_of_the_journal_is_dropped(tmp_path):
    journal = tmp_path / "journal"
    tune.search(bowl, SPACE, 2, storage=journal)
    with open(journal, "a") as file:
        file.write('{"op_code": 4, "study')
    found = tune.search(bowl, SPACE, 4, storage=journal)
    assert found.trials == tune.search(bowl, SPACE, 4).trials
    assert all(json.loads(line) for line in journal.read_text().splitlines())


# bad input: nothing is run


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: tune.log_uniform(1, 1e-4),
            ValueError,
            "0 < low <= high, both finite, got 1 and 0.0001",
        ),
        (lambda: tune.log_uniform(0, 1), ValueError, "0 < low"),
        (lambda: tune.log_uniform(1e-4, math.inf), ValueError, "finite"),
        (lambda: tune.log_uniform(math.nan, 1), ValueError, "finite"),
        (lambda: tune.log_uniform("a", 1), TypeError, "expected numbers, got 'a'"),
        (lambda: tune.one_minus_log(0.999, 0.9), ValueError, "low <= high < 1"),
        (lambda: tune.one_minus_log(0.9, 1), ValueError, "high < 1"),
        (lambda: tune.uniform(1, 0), ValueError, "low <= high"),
        (lambda: tune.integer(4, 2), ValueError, "low <= high, got 4 and 2"),
        (lambda: tune.integer(1.5, 2), TypeError, "expected integers, got 1.5"),
        (lambda: tune.choice(), ValueError, "at least one"),
        (lambda: tune.choice("a", "a"), ValueError, "different values"),
        (lambda: tune.choice(["a"]), TypeError, "expected strings, numbers"),
        (lambda: tune.CoarseToFine(size=1), ValueError, "2 <= best <= size"),
        (lambda: tune.CoarseToFine(size=5, best=6), ValueError, "2 <= best <= size"),
        (lambda: tune.grid({"lr": tune.log_uniform(1, 2)}, {"lt": 3}), KeyError, "expected the parameters .*'lr'"),
        (lambda: tune.grid({"lr": tune.log_uniform(1, 2)}, 0), ValueError, "at least one of lr"),
    ],
)
def test_what_makes_no_scale(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


LR = {"lr": tune.log_uniform(1e-4, 1)}


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"space": {"lr": 0.1}}, TypeError, "'lr': expected a scale"),
        ({"space": {}}, ValueError, "at least one parameter"),
        ({"space": [0.1]}, TypeError, "expected a dict"),
        ({"trials": 0}, ValueError, "at least one"),
        ({"trials": "25"}, TypeError, "how many, or a list of points"),
        (
            {"trials": [{"lr": 0.1}, {"rate": 0.1}]},
            KeyError,
            r"point 1: expected .* \['lr'\], got \['rate'\]",
        ),
        ({"trials": [{"lr": 2.0}]}, ValueError, "lr = 2.0 is outside log_uniform"),
        ({"trials": [{"lr": 0.1}], "sampler": 1}, ValueError, "leave out the sampler"),
        ({"workers": 0}, ValueError, "workers: expected an integer >= 1"),
        ({"seed": -1}, ValueError, "seed: expected an integer >= 0"),
        ({"name": ""}, ValueError, "name"),
        ({"objective": 3}, TypeError, "expected a function of a Trial"),
        ({"workers": 2}, TypeError, "cannot be sent to worker processes"),
    ],
)
def test_what_search_refuses_before_it_runs_anything(arguments, kind, message):
    run = []
    given = {"objective": lambda trial: run.append(trial), "space": LR, "trials": 3, **arguments}
    with pytest.raises(kind, match=message):
        tune.search(**given)
    assert not run


def test_an_unknown_parameter_is_named():
    with pytest.raises(KeyError, match="unknown parameter 'rate'; the space has lr"):
        tune.search(lambda trial: trial["rate"], LR, 1)


def test_a_study_of_another_search_is_refused(tmp_path):
    journal = tmp_path / "journal"
    tune.search(bowl, SPACE, 2, storage=journal)
    before = journal.read_bytes()
    for other in ({"space": {**SPACE, "x": LR["lr"]}}, {"seed": 5}, {"sampler": tune.CoarseToFine()}):
        with pytest.raises(ValueError, match="another search under the name 'search'"):
            tune.search(**{"objective": bowl, "space": SPACE, "trials": 3, "storage": journal, **other})
    assert journal.read_bytes() == before
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="search").optimize(lambda trial: 0.0, 1)
    with pytest.raises(ValueError, match=r"made without tune\.search"):
        tune.search(bowl, SPACE, 3, storage=storage)
    with pytest.raises(TypeError, match="several workers need the path"):
        tune.search(bowl, SPACE, 3, storage=storage, workers=2)


@pytest.mark.parametrize("text", ["not a journal\n", "[1, 2]\n", '{"a": 1}\n', "\x00\x00"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / "notes").write_text(text)
    with pytest.raises(ValueError, match="no journal of trials"):
        tune.search(bowl, SPACE, 1, storage=tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == text


def test_a_damaged_journal_is_refused(tmp_path):
    journal = tmp_path / "journal"
    tune.search(bowl, SPACE, 2, storage=journal)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:5], "garbage\n", *lines[5:]]))
    with pytest.raises(ValueError, match="damaged"):
        tune.search(bowl, SPACE, 2, storage=journal)


def test_optuna_is_asked_for_only_when_it_is_needed(monkeypatch):
    code = "import sys, tinygrad_dl.tune as tune; tune.log_uniform(1e-4, 1); sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "optuna":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for ask in (lambda: tune.search(bowl, SPACE, 1), lambda: tune.CoarseToFine, lambda: tune.grid(SPACE, 2)):
        with pytest.raises(ImportError, match=r'tune needs optuna: pip install "tinygrad-dl\[tune\]"'):
            ask()


def test_a_training_that_was_interrupted_ends_the_search_though_another_follows():
    def objective(trial):
        for ended in ("interrupted by Ctrl-C", ""):
            trial.end(SimpleNamespace(ended=ended), None)
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        tune.search(objective, {"a": tune.uniform(0, 1)}, 3)


def test_choices_that_a_storage_cannot_tell_apart_are_refused():
    with pytest.raises(ValueError, match="expected different values"):
        tune.choice(0, False)
