"""The end of a run: early stopping, schedules, callbacks that hear of it; the first NaN or infinity."""

import numpy as np
import pytest
from runs import build, points, weights

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import Callback, Trainer


class Do(Callback):
    """Calls a function at one step."""

    def __init__(self, step, act):
        self.at, self.act = step, act

    def batch(self, run):
        if run.step == self.at:
            self.act(run)


class Losses(Callback):
    """Prescribes the dev losses."""

    def __init__(self, losses):
        self.losses = iter(losses)

    def begin(self, run):
        run.evaluate = lambda data: {"loss": next(self.losses)}


@pytest.mark.parametrize("ending", ["complete", "early", "Ctrl-C", "error", "nan"])
def test_the_best_weights_are_back_whatever_ended_the_run(ending):
    """The lowest dev loss is that of the second epoch."""
    kept = {}

    class Keep(Callback):
        def epoch(self, run):
            kept[run.epoch] = weights(run.model)

        def batch(self, run):
            if run.step == 22 and ending == "Ctrl-C":
                run.stop("interrupted")
            if run.step == 22 and ending == "error":
                raise OSError("no space left on device")
            if run.step == 22 and ending == "nan":
                run.model[0].weight.assign(np.full((8, 2), np.nan, np.float32))

    losses = [3.0, 1.0, 2.0, 2.0, 1.5, 1.5, 1.5]
    trainer, train, dev = build(callbacks=[Losses(losses), Keep()], patience=3 if ending == "early" else 100)
    raised = {"error": OSError, "nan": FloatingPointError}.get(ending)
    if raised:
        with pytest.raises(raised):
            trainer.fit(train, dev, epochs=6)
    else:
        trainer.fit(train, dev, epochs=6)
    assert weights(trainer.model) == kept[2] != kept[3]
    assert trainer.epoch == {"complete": 6, "early": 5}.get(ending, 3)
    if ending == "early":
        assert trainer.ended == "early stopping: dev loss was lowest, 1, after epoch 2"
        assert trainer.history.events == [{"kind": "end", "text": trainer.ended, "epoch": 6, "step": 30}]


def test_without_patience_the_last_weights_stay():
    kept = []
    trainer, train, dev = build(callbacks=[Losses([1.0, 2.0]), Do(12, lambda run: kept.append(weights(run.model)))])
    trainer.fit(train, dev, epochs=2)
    assert weights(trainer.model) == kept[0]


def test_another_fit_has_patience_again():
    trainer, train, dev = build(callbacks=[Losses([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])], patience=2)
    trainer.fit(train, dev, epochs=9)
    assert trainer.epoch == 3
    trainer.fit(train, dev, epochs=9)
    assert trainer.epoch == 5
    assert trainer.ended == "early stopping: dev loss was lowest, 1, after epoch 1"


def test_callbacks_hear_of_everything_in_order():
    heard = []

    class Listener(Callback):
        def __init__(self, name):
            self.name = name

        def begin(self, run):
            heard.append(f"{self.name} begin")

        def epoch(self, run):
            heard.append(f"{self.name} epoch {run.epoch}: {len(run.history)}")

        def end(self, run, error):
            heard.append(f"{self.name} end {error}")

    trainer, train, dev = build(callbacks=[Listener("a"), Listener("b")])
    trainer.fit(train, dev, epochs=1)
    assert heard == ["a begin", "b begin", "a epoch 1: 1", "b epoch 1: 1", "b end None", "a end None"]


def test_a_plateau_schedule_sees_the_dev_loss():
    trainer, train, dev = build(schedule=None, callbacks=[Losses([1.0, 2.0, 2.0, 2.0, 0.5])])
    trainer.schedule = optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, patience=1, factor=0.5)
    history = trainer.fit(train, dev, epochs=5)
    assert history["lr"] == [0.02, 0.02, 0.02, 0.01, 0.01]


def test_a_schedule_ends_with_the_run():
    """One-cycle refuses a step more than it was made for."""
    trainer, train, dev = build(schedule=None)
    schedule = optim.lr_scheduler.OneCycleLR(trainer.optimizer, 0.1, 12)
    trainer = Trainer(
        trainer.model, trainer.loss, trainer.optimizer, schedule=schedule, schedule_per="step", progress=False
    )
    rates = []
    trainer.callbacks.append(type("Rates", (Callback,), {"batch": lambda self, run: rates.append(run.rate)})())
    trainer.fit(train, dev, epochs=2)
    np.testing.assert_allclose(rates, [schedule.rate(0.0, i, 0) for i in range(12)])
    with pytest.raises(ValueError, match="beyond the 12"):
        trainer.fit(train, dev, epochs=1)


# not a number


class Broken(nn.Module):
    """Passes its input on, until told to spoil it, or its gradient."""

    def __init__(self):
        self.mode = "well"

    def forward(self, x):
        if self.mode == "output":
            return np.log(x * 0 - 1)
        if self.mode == "gradient":
            return x + np.sqrt(x * 0)  # 0 * infinity backward
        return x


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: setattr(m[3], "mode", "output"), r"log: the result has nan(.|\n)*in layer Sequential.3 \(Broken\)"),
        (lambda m: setattr(m[3], "mode", "gradient"), r"backward of sqrt: the gradient(.|\n)*Sequential.3 \(Broken\)"),
        (lambda m: m[4].weight.assign(np.full((3, 4), np.inf, np.float32)), r"parameter '4.weight' has 12 infinite"),
        (lambda m: m[1].bias.assign(np.array([0, 0, np.nan, 0], np.float32)), r"parameter '1.bias' has 1 NaN of 4"),
    ],
    ids=["output", "gradient", "infinite weight", "nan bias"],
)
def test_the_first_nan_ends_the_run_and_its_origin_is_named(spoil, message, compile):
    tg.seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), Broken(), nn.Linear(4, 3))
    kept = {}

    def act(run):
        spoil(run.model)
        kept.update(weights(run.model))

    optimizer = optim.Adam(model.parameters(), lr=0.01)
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, progress=False, callbacks=[Do(9, act)], compile=compile
    )  # fmt: skip
    with pytest.raises(FloatingPointError, match=message) as raised:
        trainer.fit(data.Loader(*points(44, 1), batch_size=8), epochs=3)
    assert "epoch 2, batch 4 of 6 (step 10)" in str(raised.value)
    assert weights(model) == kept  # buffers, too
    assert trainer.step == 9
    event = trainer.history.events[-1]
    assert (event["kind"], event["epoch"], event["step"]) == ("not finite", 2, 9)
    [advice] = trainer.history.advice()
    assert advice.verdict == "diverging"
    assert advice.evidence.startswith("not finite in epoch 2, batch 4 of 6 (step 10): ")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("compile", [False, True])
def test_an_infinite_loss_with_a_finite_gradient_takes_no_step(compile):
    def loss(output, target):
        return nn.functional.mse_loss(output, target) + 1 / target.min()

    tg.seed(0)
    x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
    y[2] = 0
    model = nn.Linear(2, 1)
    trainer = Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), progress=False, compile=compile)
    kept = {}
    trainer.callbacks.append(Do(1, lambda run: kept.update(weights(run.model))))
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 2 of 2 \(step 2\): divide: the result has inf"):
        trainer.fit(data.Loader(x, y, batch_size=2), epochs=3)
    assert weights(model) == kept


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_checkpoint_is_written_of_weights_that_are_not_finite(tmp_path):
    trainer, train, dev = build(folder=tmp_path, save_every=1)
    trainer.callbacks.insert(0, Do(9, lambda run: run.model[0].weight.assign(np.full((8, 2), np.nan, np.float32))))
    with pytest.raises(FloatingPointError, match=r"0\.weight is not finite, so no checkpoint was written"):
        trainer.fit(train, dev, epochs=3)
    assert [f.name for f in sorted(tmp_path.iterdir())] == ["step-00000007.safetensors", "step-00000008.safetensors"]


def test_an_error_of_the_models_own_stays_what_it_is():
    def complain(run):
        run.model[2].forward = lambda x: (_ for _ in ()).throw(RuntimeError("out of luck"))

    trainer, train, dev = build(callbacks=[Do(3, complain)])
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer.fit(train, dev)
