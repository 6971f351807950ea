"""A run that is interrupted in any way, killed too, and resumed ends with the very bits of one that was not."""

import ast
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from runs import build, points, weights

import tinygrad_dl as tg
from tinygrad_dl import nn, optim, random
from tinygrad_dl.train import Callback, Trainer

TESTS = Path(__file__).parent


class StopAt(Callback):
    """Ends the run after so many steps."""

    def __init__(self, step, act=lambda run: run.stop("enough")):
        self.at, self.act = step, act

    def batch(self, run):
        if run.step == self.at:
            self.act(run)


def finished(epochs=4, **options):
    trainer, train, dev = build(**options)
    trainer.fit(train, dev, epochs=epochs)
    return trainer


def killed(folder, epochs, kills, reach, options):
    """The exit codes of the runs, and the last checkpoint of each."""
    arguments = [sys.executable, str(TESTS / "runs.py"), str(folder), repr((epochs, kills, reach, options))]
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}  # of a fork beside BLAS's threads
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return ast.literal_eval(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
@pytest.mark.parametrize(
    ("epochs", "kills", "reach", "options"),
    [
        (6, 30, 1.0, {"save_every": 1, "patience": 3}),
        (6, 10, 1.2, {"save_every": 4, "loader_seed": 3, "schedule_per": "step"}),
        (4, 6, 1.2, {"save_every": 1, "compile": True}),
    ],
    ids=["every step", "seeded loader", "compiled"],
)
def test_a_killed_run_ends_with_the_same_bits(tmp_path, epochs, kills, reach, options):
    codes = killed(tmp_path, epochs, kills, reach, options)
    whole = finished(epochs, **{k: v for k, v in options.items() if k != "save_every"})
    assert [code for code, _ in codes].count(-signal.SIGKILL) > kills // 2
    assert codes[-1][0] == 0
    assert len({latest for _, latest in codes}) > 2, codes
    trainer, train, dev = build(folder=tmp_path, **options)
    history = trainer.fit(train, dev, epochs=epochs, resume=True)
    assert weights(trainer.model) == weights(whole.model)
    assert history["dev_loss"] == whole.history["dev_loss"]
    assert history["loss"] == whole.history["loss"]


@pytest.mark.parametrize("options", [{}, {"loader_seed": 3}, {"schedule_per": "step", "schedule": None}])
@pytest.mark.parametrize("step", [1, 5, 6, 7, 11])
def test_a_stopped_run_is_finished(tmp_path, step, options):
    """In the middle and at the end of an epoch of six batches, in this process."""
    first, train, dev = build(folder=tmp_path, callbacks=[StopAt(step)], **options)
    history = first.fit(train, dev, epochs=3)
    assert (first.step, first.ended, len(history)) == (step, "enough", (step - 1) // 6)
    tg.seed(99)
    second, train, dev = build(seed=7, folder=tmp_path, **options)
    second.fit(train, dev, epochs=3, resume=True)
    assert weights(second.model) == weights(finished(3, **options).model)
    assert [event["text"] for event in second.history.events] == ["enough"]
    assert second.history["seconds"][0] > 0


def test_ctrl_c_saves_and_ends_and_the_run_can_be_finished(tmp_path, capsys):
    trainer, train, dev = build(
        folder=tmp_path, callbacks=[StopAt(8, lambda run: signal.raise_signal(signal.SIGINT))], progress=True
    )
    before = signal.getsignal(signal.SIGINT)
    trainer.fit(train, dev, epochs=3)
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().out.splitlines()[-1] == "interrupted by Ctrl-C (after epoch 1, step 8)"
    assert (trainer.step, trainer.ended, trainer.history.events[-1]["step"]) == (8, "interrupted by Ctrl-C", 8)
    trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, StopAt)]
    trainer.fit(train, dev, epochs=3, resume=True)
    assert weights(trainer.model) == weights(finished(3).model)


def test_ctrl_c_again_interrupts_at_once(tmp_path):
    def twice(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    trainer, train, dev = build(folder=tmp_path, callbacks=[StopAt(8, twice)], patience=5)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, dev, epochs=3)
    assert [f.name for f in sorted(tmp_path.iterdir())] == ["step-00000006.safetensors"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_in_another_thread_leaves_ctrl_c_alone():
    trainer, train, dev = build()
    thread = threading.Thread(target=trainer.fit, args=(train, dev, 1))
    thread.start()
    thread.join()
    assert trainer.epoch == 1


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first, train, dev = build(folder=tmp_path, patience=2)
    first.fit(train, dev, epochs=3)
    second, train, dev = build(seed=1, folder=tmp_path, patience=2)
    second.fit(train, dev, epochs=3, resume=True)
    assert weights(second.model) == weights(first.model)
    assert second.history.state_dict() == first.history.state_dict()


def test_a_longer_run_continues_a_shorter_one(tmp_path):
    first, train, dev = build(folder=tmp_path)
    first.fit(train, dev, epochs=2)
    second, train, dev = build(seed=1, folder=tmp_path)
    second.fit(train, dev, epochs=4, resume=True)
    assert weights(second.model) == weights(finished(4).model)


def test_fit_again_trains_more():
    trainer, train, dev = build()
    trainer.fit(train, dev, epochs=2)
    trainer.fit(train, dev, epochs=2)
    assert weights(trainer.model) == weights(finished(4).model)
    assert trainer.history["epoch"] == [1, 2, 3, 4]


def test_two_checkpoints_are_kept_and_an_abandoned_future_goes(tmp_path):
    trainer, train, dev = build(folder=tmp_path, save_every=1, callbacks=[StopAt(5)])
    trainer.fit(train, dev)
    names = [f.name for f in sorted(tmp_path.iterdir())]
    assert names == ["step-00000004.safetensors", "step-00000005.safetensors"]
    back, train, dev = build(folder=tmp_path, callbacks=[StopAt(5)])
    back.fit(train, dev, resume=tmp_path / names[0])
    assert back.step == 5
    assert weights(back.model) == weights(trainer.model)


def test_what_a_killed_save_left_goes_when_the_run_goes_on(tmp_path):
    trainer, train, dev = build(folder=tmp_path)
    trainer.fit(train, dev)
    (tmp_path / ".0123456789abcdef.tmp").write_bytes(b"half a checkpoint")
    others = [tmp_path / name for name in (".mine.tmp", "0123456789abcdef.tmp")]
    for other in others:
        other.touch()
    again, train, dev = build(folder=tmp_path)
    again.fit(train, dev, resume=True)
    assert not (tmp_path / ".0123456789abcdef.tmp").exists()
    assert all(other.exists() for other in others)


def test_a_checkpoint_has_every_generator(tmp_path):
    """The library's, one of another kind that a module has, and that of a scope."""

    def run(stop, resume):
        with random.scope(4):
            model = nn.Sequential(
                nn.Linear(2, 8), nn.Dropout(0.5, rng=np.random.Generator(np.random.MT19937(3))), nn.Linear(8, 3)
            )
            trainer = Trainer(
                model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), progress=False,
                callbacks=[StopAt(stop)], folder=tmp_path / str(stop if not resume else 3),
            )  # fmt: skip
            if resume:
                random.uniform(shape=(5,))
            trainer.fit(points(40, 0), epochs=2, resume=resume)
            return weights(model)

    whole = run(None, False)
    run(1, False)
    (tmp_path / "1").rename(tmp_path / "3")
    assert run(None, True) == whole


class Halve(Callback):
    """Changes the learning rate by hand, beside the schedule."""

    def batch(self, run):
        if run.step == 9:
            run.optimizer.param_groups[0]["lr"] /= 2


def test_a_rate_that_a_callback_has_set_is_resumed(tmp_path):
    whole, train, dev = build(callbacks=[Halve()])
    whole.fit(train, dev, epochs=4)
    stopped, train, dev = build(callbacks=[Halve(), StopAt(10)], folder=tmp_path)
    stopped.fit(train, dev, epochs=4)
    resumed, train, dev = build(callbacks=[Halve()], folder=tmp_path)
    resumed.fit(train, dev, epochs=4, resume=True)
    assert resumed.history["lr"] == whole.history["lr"]
    assert weights(resumed.model) == weights(whole.model)


def test_the_training_data_may_be_evaluated_in_the_midst_of_an_epoch(tmp_path):
    class Look(Callback):
        def batch(self, run):
            if run.step % 4 == 0:
                run.evaluate(train)

    whole, train, dev = build(callbacks=[Look()], loader_seed=5)
    whole.fit(train, dev, epochs=3)
    stopped, train, dev = build(callbacks=[Look(), StopAt(8)], loader_seed=5, folder=tmp_path)
    stopped.fit(train, dev, epochs=3)
    resumed, train, dev = build(callbacks=[Look()], loader_seed=5, folder=tmp_path)
    resumed.fit(train, dev, epochs=3, resume=True)
    assert weights(resumed.model) == weights(whole.model)


def test_another_optimizers_checkpoint_is_refused(tmp_path):
    for kind, message in ((optim.Adam, None), (optim.AdamW, "that of an optimizer Adam, this Trainer has AdamW")):
        model = nn.Linear(2, 3)
        trainer = Trainer(model, nn.CrossEntropyLoss(), kind(model.parameters()), folder=tmp_path, progress=False)
        if message is None:
            trainer.fit(points(20, 0), epochs=1)
        else:
            with pytest.raises(ValueError, match=message):
                trainer.fit(points(20, 0), epochs=2, resume=True)
    adam = optim.Adam([p := nn.Parameter(1.0)])
    p.grad = 1.0
    adam.step()
    with pytest.raises(ValueError, match="the state is another optimizer's"):
        optim.SGD([p]).load_state_dict(adam.state_dict())


def test_a_path_does_not_mix_two_runs(tmp_path):
    for name, epochs in (("a", 1), ("b", 2)):
        trainer, train, dev = build(folder=tmp_path / name)
        trainer.fit(train, dev, epochs=epochs)
    (source,) = (tmp_path / "a").glob("step-*")
    before = sorted((tmp_path / "b").iterdir())
    trainer, train, dev = build(folder=tmp_path / "b")
    with pytest.raises(FileExistsError, match="holds the checkpoints of a run"):
        trainer.fit(train, dev, epochs=3, resume=source)
    assert sorted((tmp_path / "b").iterdir()) == before


def test_the_best_weights_come_back_whatever_fails_at_the_end(tmp_path):
    class Failing(Callback):
        def end(self, run, error):
            raise OSError("no space left")

    trainer, train, dev = build(patience=5, callbacks=[Failing()])
    with pytest.raises(OSError, match="no space left"):
        trainer.fit(train, dev, epochs=6)
    assert trainer.evaluate(dev)["loss"] == pytest.approx(min(trainer.history["dev_loss"]))
