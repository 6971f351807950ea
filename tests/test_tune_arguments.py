"""Bad scales, spaces and arguments of a search are refused before anything is run."""

import builtins
import math
import subprocess
import sys

import pytest
from trials import SPACE, bowl

from tinygrad_dl import tune

pytest.importorskip("optuna")


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
