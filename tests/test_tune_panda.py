"""One run that is steered: each command has its effect, and stands in the history; back is bit for bit."""

import threading

import numpy as np
import pytest
from runs import build, weights

import tinygrad_dl as tg
from tinygrad_dl import nn, optim, tune
from tinygrad_dl.train import Callback, Trainer
from tinygrad_dl.tune.panda import parse

PER_EPOCH = 6  # batches of build()


class Tell(Callback):
    """Tells a command, once, after each of the given steps; `tell` is the panda's, or another function of a line."""

    def __init__(self, tell, commands):
        self.tell, self.commands = tell, dict(commands)

    def batch(self, run):
        if run.step in self.commands:
            self.tell(self.commands.pop(run.step))


class Seen(Callback):
    """The learning rate, and the length of the step, at every step."""

    def __init__(self):
        self.rates, self.lengths, self.last = [], [], None

    def batch(self, run):
        now = np.concatenate([p.detach().numpy().ravel() for p in run.model.parameters()])
        if self.last is not None:
            self.lengths.append(float(np.linalg.norm(now - self.last)))
        self.last = now
        self.rates.append(run.rate)


def run(place, epochs=3, optimizer=None, commands=(), **options):
    """A finished trainer whose panda was told the commands after the given steps, and what was seen of it."""
    panda, seen = tune.Panda(place, view=False), Seen()
    trainer, train, dev = build(callbacks=[Tell(panda.tell, commands), panda, seen], **options)
    if optimizer is not None:
        trainer = Trainer(
            trainer.model, trainer.loss, optimizer(trainer.model.parameters()), callbacks=trainer.callbacks[:3],
            progress=False,
        )  # fmt: skip
    trainer.fit(train, dev, epochs=epochs)
    return trainer, seen


def changes(trainer):
    return [(event["step"], event["text"]) for event in trainer.history.events if event["kind"] == "change"]


def test_unsteered_it_changes_nothing(tmp_path):
    plain, train, dev = build()
    plain.fit(train, dev, epochs=3)
    trainer, _ = run(tmp_path)
    assert weights(trainer.model) == weights(plain.model)
    assert not trainer.history.events


def test_the_learning_rate_and_its_schedule(tmp_path):
    """The cosine goes on from the new rate in the old proportion."""
    plain, _ = run(tmp_path / "plain")
    trainer, seen = run(tmp_path / "steered", commands={8: "lr 0.005"})
    before, now = plain.history["lr"], trainer.history["lr"]
    assert seen.rates[6] == before[1]
    assert seen.rates[7] == pytest.approx(0.005)
    assert now[0] == before[0]
    assert now[2] / before[2] == pytest.approx(0.005 / before[1])
    assert changes(trainer) == [(8, f"learning rate {before[1]:g} -> 0.005")]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: optim.lr_scheduler.OneCycleLR(o, 0.1, 100),
        lambda o: optim.lr_scheduler.ReduceLROnPlateau(o),
        lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.001),
        lambda o: optim.lr_scheduler.LambdaLR(o, lambda count: 0.9**count),
    ],
    ids=["one cycle", "plateau", "cosine", "lambda"],
)
def test_every_schedule_goes_on_from_the_new_rate(tmp_path, make):
    rates, others = [], []
    for commands in ({}, {3: "lr 0.001"}):
        tg.seed(0)
        model = nn.Linear(2, 3)
        optimizer = optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.2}], lr=0.1)
        panda, seen = tune.Panda(tmp_path / str(len(commands)), view=False), Seen()
        trainer = Trainer(
            model, nn.CrossEntropyLoss(), optimizer, schedule=make(optimizer), progress=False,
            callbacks=[Tell(panda.tell, commands), panda, seen],
        )  # fmt: skip
        _, train, _ = build()
        trainer.fit(train, epochs=4)
        rates.append(seen.rates)
        others.append(optimizer.param_groups[1]["lr"] / trainer.rate)
    factor = 0.001 / rates[0][2]
    assert rates[1][3:] == pytest.approx([rate * factor for rate in rates[0][3:]])
    assert others[1] == pytest.approx(others[0])  # of the second group


def test_momentum_and_beta_1(tmp_path):
    trainer, _ = run(tmp_path / "adam", commands={2: "momentum 0.5"})
    assert trainer.optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    assert changes(trainer) == [(2, "momentum 0.9 -> 0.5")]
    sgd = lambda params: optim.SGD(params, lr=0.1, momentum=0.9)
    trainer, _ = run(tmp_path / "sgd", optimizer=sgd, commands={2: "momentum 0.99"})
    assert trainer.optimizer.param_groups[0]["momentum"] == 0.99


@pytest.mark.parametrize("compile", [False, True])
def test_clipping_takes_hold_and_is_let_go(tmp_path, compile):
    """With plain descent a step is lr times the clipped gradient, so no longer than lr times the bound."""
    sgd = lambda params: optim.SGD(params, lr=0.1)
    trainer, seen = run(tmp_path, 2, sgd, {5: "clip 0.001", 9: "clip off"}, compile=compile)
    assert changes(trainer) == [(5, "clip 0.001"), (9, "clip 0.001 -> off")]
    assert max(seen.lengths[4:8]) <= 0.1 * 0.001 * (1 + 1e-3)
    assert min(seen.lengths[:4] + seen.lengths[8:]) > 0.1 * 0.001 * 10


def test_back_is_bit_for_bit(tmp_path):
    """What came after the checkpoint is as if it had not been, but for the history, which tells of it."""
    plain, _ = run(tmp_path / "plain", epochs=5)
    trainer, seen = run(tmp_path / "steered", 5, commands={14: "lr 0.5", 20: "back 2"}, folder=tmp_path / "own")
    assert weights(trainer.model) == weights(plain.model)
    assert trainer.history["dev_loss"] == plain.history["dev_loss"]
    assert trainer.history["epoch"] == [1, 2, 3, 4, 5]
    assert len(seen.rates) == (4 + 3) * PER_EPOCH
    [(step, nudge), (back, text)] = changes(trainer)
    assert (step, back, text) == (14, 12, "back from epoch 4 to epoch 2")
    assert nudge.endswith("-> 0.5")
    assert [f.name for f in sorted((tmp_path / "own").iterdir())][-1] == "step-00000030.safetensors"


def test_back_brings_clipping_back(tmp_path):
    trainer, _ = run(tmp_path, 4, commands={3: "clip 2", 8: "clip 0.001", 13: "back 1"})
    assert trainer.callbacks[1].clip == 2.0
    assert [text for _, text in changes(trainer)] == ["clip 2.0", "clip 2.0 -> 0.001", "back from epoch 3 to epoch 1"]


def test_commands_are_obeyed_in_order(tmp_path):
    """What is told after `back` changes what was put back, not what is left; before `fit`, it holds from the start."""
    panda = tune.Panda(tmp_path, view=False)
    commands = Tell(panda.tell, {13: "lr 0.5", 14: "back 1", 15: "lr 0.003"})
    trainer, train, dev = build(schedule=None, callbacks=[commands, panda])
    panda.tell("lr 0.01")
    trainer.fit(train, dev, epochs=3)
    assert changes(trainer) == [
        (0, "learning rate 0.02 -> 0.01"), (13, "learning rate 0.01 -> 0.5"),
        (6, "back from epoch 3 to epoch 1"), (6, "learning rate 0.01 -> 0.003"),
    ]  # fmt: skip
    assert trainer.history["lr"] == [0.01, 0.003, 0.003]


def test_a_resumed_run_keeps_what_was_changed(tmp_path):
    def make(name, panda, commands, **options):
        return build(folder=tmp_path / name, callbacks=[Tell(panda.tell, commands), panda], **options)

    commands = {2: "clip 0.01", 3: "lr 0.3"}
    trainer, train, dev = make("whole", tune.Panda(tmp_path / "a", view=False), commands)
    trainer.fit(train, dev, epochs=3)
    panda = tune.Panda(tmp_path / "b", view=False)
    stopped, train, dev = make("cut", panda, {**commands, 9: "stop"})
    stopped.fit(train, dev, epochs=3)
    assert (stopped.step, stopped.ended) == (9, "stopped by a command")
    resumed, train, dev = make("cut", tune.Panda(tmp_path / "b", view=False), {}, seed=5)
    resumed.fit(train, dev, epochs=3, resume=True)
    assert weights(resumed.model) == weights(trainer.model)
    assert changes(resumed) == changes(trainer)


def test_commands_come_from_a_file(tmp_path, capsys):
    """Lines that are appended while it runs; half a line waits for its rest; what is wrong is said and skipped."""
    texts = {
        2: "# a remark\nlr 0.01\n\nmomen",
        4: "tum 0.8\nfaster!\nback 7\n",
        5: "momentum 0.7",
    }

    def append(text):
        with open(tmp_path / "commands", "a") as file:
            file.write(text)

    trainer, train, dev = build(callbacks=[Tell(append, texts), tune.Panda(tmp_path, view=False)])
    trainer.fit(train, dev, epochs=1)
    assert changes(trainer) == [(2, "learning rate 0.02 -> 0.01"), (4, "momentum 0.9 -> 0.8")]
    said = capsys.readouterr().out
    assert "unknown command 'faster!'; there are lr, momentum, clip, back, stop" in said
    assert "back 7: there is no checkpoint of epoch 7, only of 0" in said
    assert (tmp_path / "commands").read_text().startswith("# lr 0.003: the learning rate")


def test_the_view_shows_the_run(tmp_path):
    panda = tune.Panda(tmp_path)
    trainer, train, dev = build(callbacks=[Tell(panda.tell, {2: "lr 0.01"}), panda])
    trainer.fit(train, dev, epochs=1)
    page = (tmp_path / "watch.html").read_text("utf-8")
    assert '<meta http-equiv="refresh" content="2">' in page
    assert "learning rate 0.02 -&gt; 0.01" in page
    assert page.count("<svg") == 1
    assert not list(tmp_path.glob("*.new"))


def test_it_is_told_from_another_thread(tmp_path):
    panda, far = tune.Panda(tmp_path, view=False), threading.Event()
    trainer, train, dev = build(callbacks=[Tell(lambda _: far.set(), {3: ""}), panda])
    thread = threading.Thread(target=trainer.fit, args=(train, dev, 1000))
    thread.start()
    assert far.wait(30)
    panda.tell("stop")
    thread.join(30)
    assert not thread.is_alive()
    assert trainer.ended == "stopped by a command"


@pytest.mark.parametrize(
    "line",
    ["", "faster", "lr", "lr 0", "lr -1", "lr nan", "lr inf", "lr x", "lr 1 2", "momentum 1", "momentum -0.1", "clip 0",
     "clip on", "back", "back -1", "back 1.5", "back ²", "stop now"],
)  # fmt: skip
def test_what_is_no_command_is_refused_at_once(tmp_path, line):
    with pytest.raises(ValueError, match="Panda"):
        tune.Panda(tmp_path, view=False).tell(line)


def test_commands_are_parsed():
    lines = ["lr 1e-3", " clip  off ", "back 12", "stop", "momentum 0"]
    assert [parse(line) for line in lines] == [
        ("lr", "1e-3"), ("clip", "off"), ("back", "12"), ("stop", ""), ("momentum", "0"),
    ]  # fmt: skip


@pytest.mark.parametrize("optimizer", [optim.Adagrad, optim.SGD], ids=["Adagrad", "SGD without"])
def test_momentum_where_there_is_none_changes_nothing(tmp_path, capsys, optimizer):
    trainer, _ = run(tmp_path, 1, lambda params: optimizer(params, lr=0.01), {2: "momentum 0.9"})
    assert not trainer.history.events
    assert f"Panda: momentum: {optimizer.__name__} " in capsys.readouterr().out


def test_another_runs_folder_is_refused(tmp_path):
    run(tmp_path, 1)
    trainer, train, dev = build(callbacks=[tune.Panda(tmp_path, view=False)])
    before = weights(trainer.model)
    with pytest.raises(FileExistsError, match="another run's checkpoints"):
        trainer.fit(train, dev, epochs=1)
    assert weights(trainer.model) == before


def test_back_puts_the_clip_back(tmp_path):
    panda = tune.Panda(tmp_path / "panda", view=False)
    trainer, train, dev = build(callbacks=[panda])
    trainer.fit(train, dev, epochs=2)
    own = trainer.clip
    panda.tell("clip 0.001")
    trainer.fit(train, dev, epochs=1)
    assert trainer.clip == 0.001
    panda.tell("back 2")
    trainer.fit(train, dev, epochs=1)
    assert trainer.clip == own
