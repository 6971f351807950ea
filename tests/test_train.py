"""The loop against one written by hand; early stopping, clipping, schedules, callbacks, progress; NaN and infinity."""

import builtins
import sys

import numpy as np
import pytest
from runs import build, points, weights

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import Callback, History, Trainer


class Do(Callback):
    """Calls a function at one step."""

    def __init__(self, step, act):
        self.at, self.act = step, act

    def batch(self, run):
        if run.step == self.at:
            self.act(run)


def by_hand(epochs, clips=(), per="epoch"):
    """The loop as a beginner writes it; gives the model, and the rows that a history should have. clips: the largest
    norm in an epoch, if there is one."""
    trainer, train, dev = build()
    model, optimizer, schedule = trainer.model, trainer.optimizer, trainer.schedule
    rows = []
    for epoch in range(epochs):
        if epoch and per == "epoch":
            schedule.step()
        losses, right, norms = [], [], []
        for i, (x, y) in enumerate(train):
            if per == "step" and epoch + i:
                schedule.step()
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            gradients = [p.grad.numpy() for p in model.parameters()]
            norms.append(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients)))
            if epoch in clips:
                optim.clip_grad_norm(model.parameters(), clips[epoch])
            optimizer.step()
            losses += [loss.item()] * len(y)
            right += (output.detach().numpy().argmax(1) == y.numpy()).tolist()
        model.eval()
        with tg.no_grad():
            x, y = dev.arrays
            output = model(tg.tensor(x))
            dev_loss = nn.functional.cross_entropy(output, y).item()
        model.train()
        rows.append(
            {
                "loss": np.mean(losses),
                "accuracy": np.mean(right),
                "dev_loss": dev_loss,
                "dev_accuracy": np.mean(output.numpy().argmax(1) == y),
                "lr": optimizer.param_groups[0]["lr"],
                "largest_gradient": max(norms),
            }
        )
    return model, rows


@pytest.mark.parametrize("options", [{"clip": None}, {"clip": 0.3}, {"clip": None, "schedule_per": "step"}])
def test_it_is_the_loop_that_one_writes_by_hand(options):
    trainer, train, dev = build(**options)
    history = trainer.fit(train, dev, epochs=3)
    clips = {} if options["clip"] is None else dict.fromkeys(range(3), options["clip"])
    model, rows = by_hand(3, clips, options.get("schedule_per", "epoch"))
    assert weights(trainer.model) == weights(model)
    for row, expected in zip(history.epochs, rows, strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], value, rtol=1e-6, err_msg=name)
    assert history.metric == "accuracy"
    assert history["step"] == [6, 12, 18]
    assert history.events == []


def test_a_compiled_run_agrees_with_an_eager_one():
    trainers = []
    for flag in (False, True):
        trainer, train, dev = build(compile=flag)
        trainer.fit(train, dev, epochs=3)
        trainers.append(trainer)
    eager, compiled = trainers
    np.testing.assert_allclose(eager.history["loss"], compiled.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(eager.history["gradient"], compiled.history["gradient"], rtol=1e-4)
    for name, tensor in eager.model.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), compiled.model.state_dict()[name].numpy(), rtol=1e-3, atol=1e-4)
    assert len(compiled._step._run.programs) == 2  # whole batches and the last one
    assert compiled.model.training


def test_one_seed_decides_the_run():
    """The initial weights, the order of the data, dropout."""

    def run(seed):
        trainer, train, dev = build(seed=seed)
        first = weights(trainer.model)
        trainer.fit(train, dev, epochs=1)
        return first, trainer.history["loss"], weights(trainer.model)

    a, b, c = run(0), run(0), run(1)
    assert a == b
    assert all(x != y for x, y in zip(a, c, strict=True))


def test_arrays_become_loaders_and_other_losses_have_no_accuracy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    y = x @ [[1.0], [2.0], [-1.0]]
    model = nn.Linear(3, 1)
    trainer = Trainer(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), progress=False)
    history = trainer.fit((x, y), (x, y), epochs=30)
    assert history["step"][0] == 2
    assert history["dev_loss"][-1] < 1e-4
    assert history.metric is None
    np.testing.assert_allclose(trainer.evaluate((x, y))["loss"], history["dev_loss"][-1], rtol=1e-6)


def test_a_metric_of_ones_own_and_a_model_of_two_inputs():
    class Sum(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 1)

        def forward(self, a, b):
            return self.layer(np.concatenate([a, b], axis=1))

    def largest_error(output, target):
        return np.abs(output - target).max()

    a, b = np.random.default_rng(0).normal(size=(2, 50, 1)).astype(np.float32)
    model = Sum()
    trainer = Trainer(
        model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.3), metric=largest_error, progress=False
    )  # fmt: skip
    history = trainer.fit((a, b, a + b), (a, b, a + b), epochs=20)
    assert history["dev_largest_error"][-1] < 1e-2
    assert history.metric == "largest_error"


# the end of a run


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


# progress


def test_progress_without_a_terminal_is_a_line_for_each_epoch(capsys):
    trainer, train, dev = build(progress=True)
    trainer.fit(train, dev, epochs=2)
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    row = trainer.history.epochs[0]
    assert first.startswith(f"epoch 1/2  loss {row['loss']:.4g}  dev_loss {row['dev_loss']:.4g}  accuracy ")
    assert "lr 0.02" in first
    assert second.endswith("0:00 left")
    assert err == ""


def test_progress_on_a_terminal_is_a_bar(capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    trainer, train, dev = build(progress=True)
    trainer.fit(train, dev, epochs=2)
    out, err = capsys.readouterr()
    assert "12/12" in err or "1/12" in err
    assert "loss=" in err
    assert "lr=0.02" in err
    assert "epoch 2/2  loss" in out


def test_progress_without_tqdm_is_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    imported = builtins.__import__

    def without_tqdm(name, *args, **kwargs):
        if name == "tqdm":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    trainer, train, dev = build(progress=True)
    trainer.fit(train, dev, epochs=1)
    out, err = capsys.readouterr()
    assert out.startswith("epoch 1/1")
    assert err == ""


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


# the history


def test_layers_are_measured_on_the_first_batch_of_an_epoch():
    tg.seed(0)
    model = nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].bias.assign(np.array([0, 0, 0, 0, -100, -100], np.float32))  # two dead units
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1), progress=False)
    x, y = points(40, 3)
    before = {name: t.numpy() for name, t in model.state_dict().items()}
    trainer.fit(data.Loader(x, y, batch_size=40), epochs=1)
    row = trainer.history.epochs[0]
    assert list(row["layers"]) == ["0", "1", "2"]
    assert [layer["kind"] for layer in row["layers"].values()] == ["Linear", "ReLU", "Linear"]
    hidden = x @ before["0.weight"].T + before["0.bias"]
    np.testing.assert_allclose(row["layers"]["0"]["activation"], np.sqrt((hidden**2).mean()), rtol=1e-5)
    assert row["layers"]["1"]["dead"] == pytest.approx((hidden <= 0).all(0).mean())
    assert row["layers"]["1"]["dead"] >= 2 / 6
    assert "dead" not in row["layers"]["0"]
    for name in ("0", "2"):
        gradients = [p.grad.numpy() for p in model[int(name)].parameters()]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        np.testing.assert_allclose(row["layers"][name]["gradient"], norm, rtol=1e-5)
        step = 0.1 * np.linalg.norm(gradients[0]) / np.linalg.norm(before[f"{name}.weight"])
        np.testing.assert_allclose(row["layers"][name]["update"], step, rtol=1e-4)
    assert row["examples"] == 40
    assert row["first_loss"] == row["loss"]


def test_looking_changes_nothing_that_is_random():
    """Dropout is in the model: the masks of the step are those that it would have drawn without the look."""
    trainer, train, dev = build(clip=None)
    trainer.fit(train, dev, epochs=1)
    assert weights(trainer.model) == weights(by_hand(1)[0])


def test_clip_set_later_holds_from_then_on():
    trainer, train, dev = build(clip=None)
    trainer.fit(train, dev, epochs=1)
    with pytest.raises(ValueError, match="clip: expected a norm > 0, got 0"):
        trainer.clip = 0
    assert trainer.clip is None
    trainer.clip = 0.3
    trainer.fit(train, dev, epochs=1)
    assert weights(trainer.model) == weights(by_hand(2, {1: 0.3})[0])


def test_columns_of_a_history():
    trainer, train, dev = build()
    history = trainer.fit(train, dev, epochs=2)
    assert len(history) == len(history["dev_accuracy"]) == 2
    assert "dev_loss" in history
    with pytest.raises(KeyError, match=r"no column 'val_loss'; there are epoch, step, loss"):
        history["val_loss"]
    with pytest.raises(KeyError, match="no epoch has ended yet"):
        History()["loss"]
    assert [epoch for epoch, _ in history.layers("update")["0"]] == [1, 2]
    assert repr(history).startswith("<History, 2 epochs: loss ")
    again = History()
    again.load_state_dict(history.state_dict())
    assert again.epochs == history.epochs
    with pytest.raises(KeyError, match=r"History\.load_state_dict: expected"):
        again.load_state_dict({"loss": []})
