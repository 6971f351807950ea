"""Searches with a storage go on where they were left; lost trials are run again; other searches' files are refused."""

import json
import signal
from types import SimpleNamespace

import pytest
from runs import build
from trials import SPACE, bowl, reporting

from tinygrad_dl import tune
from tinygrad_dl.train import Callback
from tinygrad_dl.tune import queue as queues

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)


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


def test_a_study_of_another_search_is_refused(tmp_path):
    journal = tmp_path / "journal"
    tune.search(bowl, SPACE, 2, storage=journal)
    before = journal.read_bytes()
    for other in ({"space": {**SPACE, "x": SPACE["lr"]}}, {"seed": 5}, {"sampler": tune.CoarseToFine()}):
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
