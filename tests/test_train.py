"""The loop against one written by hand; callbacks that look, progress, and the history."""

import builtins
import sys

import numpy as np
import pytest
from runs import build, points, weights

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import History, Trainer


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
