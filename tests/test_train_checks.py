"""Bad input ends before the training begins, with the reason, and changes nothing."""

import numpy as np
import pytest
from runs import build, points, weights

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim, random
from tinygrad_dl.train import Callback, Trainer

CE = nn.CrossEntropyLoss()


def trainer(model=None, loss=CE, **options):
    model = model or nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))
    return Trainer(model, loss, optim.Adam(model.parameters()), progress=False, **options)


def spoilt(array, place, value):
    array = array.copy()
    array[place] = value
    return array


X, Y = points(40, 0)
DATA = {
    "NaN": ((spoilt(X, (7, 1), np.nan), Y), None, "train: the input is nan in row 7, column 1; drop such rows"),
    "infinity": ((X, Y), (spoilt(X, (3, 0), -np.inf), Y), "dev: the input is -inf in row 3, column 0"),
    "NaN target": ((X, spoilt(Y.astype(np.float32), 5, np.nan)), None, "train: the target is nan in row 5"),
    "other features": ((X, Y), (X[:, :1], Y), r"dev: the input has examples of float32 \(1,\), those in train are "
                       r"float32 \(2,\)"),
    "other labels": ((X, Y), (X, np.eye(3)[Y]), r"dev: the target has examples of float64 \(3,\), those in train are "
                     r"int64 \(\)"),
    "more arrays": ((X, Y), (X, X, Y), "dev: expected 2 arrays as in train, got 3"),
    "label too large": ((X, spoilt(Y, 11, 3)), None, "train: label 3 in row 11 is outside the model's 3 "
                        "classes, 0 to 2; labels like it: 1"),
    "negative label": ((X, Y), (X, spoilt(Y, [4, 9], -1)), r"dev: label -1 in row 4 is outside .*; labels like it: 2"),
    "one array": ((X,), None, "train: expected inputs and targets, got one array"),
    "a last batch of one": ((X[:33], Y[:33]), None, "more than 1 value|expected more than one|one value"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_bad_data_is_refused(name):
    train, dev, message = DATA[name]
    tg.seed(0)
    run = trainer()
    before, generator = weights(run.model), random.state()
    with pytest.raises(ValueError, match=message):
        run.fit(data.Loader(*train, batch_size=32), dev, epochs=1)
    assert weights(run.model) == before
    assert random.state() == generator
    assert (run.step, run.history.epochs, run.history.events) == (0, [], [])
    run.fit((X, Y), (X, Y), epochs=1)


def test_labels_that_are_ignored_are_none_outside_the_classes():
    for run, ignored in (trainer(), -100), (trainer(loss=nn.CrossEntropyLoss(ignore_index=7)), 7):
        history = run.fit((X, spoilt(Y, 3, ignored)), epochs=1)
        assert [np.isfinite(row["loss"]) for row in history.epochs] == [True]


def test_one_hot_targets_are_no_labels():
    run = trainer()
    run.fit((X, np.eye(3)[Y]), (X, np.eye(3)[Y]), epochs=1)
    assert run.history.metric is None


@pytest.mark.parametrize(
    ("per", "rate", "message"),
    [
        ("epoch", lambda count: 1 - count / 3, r"rate would be -0\.00033.* at step 4 of LambdaLR, of 5 to come"),
        ("step", lambda count: 1 - count / 50, r"rate would be .* at step 51 of LambdaLR, of 59 to come"),
        ("epoch", lambda count: np.inf if count == 5 else 1, "the learning rate would be inf at step 5"),
    ],
)
def test_a_schedule_that_goes_wrong_is_refused(per, rate, message):
    run = trainer()
    schedule = optim.lr_scheduler.LambdaLR(run.optimizer, rate)
    run = Trainer(run.model, CE, run.optimizer, schedule=schedule, schedule_per=per, progress=False)
    with pytest.raises(ValueError, match=message):
        run.fit(data.Loader(X, Y, batch_size=4), epochs=6)
    assert (run.step, run.rate, schedule.count) == (0, 1e-3, 0)
    run.fit(data.Loader(X, Y, batch_size=20), epochs=3)  # its good part can be used


def test_a_model_that_does_not_fit_the_data_says_so_before_the_training():
    with pytest.raises(ValueError, match=r"matmul|linear"):
        trainer(nn.Linear(5, 3)).fit((X, Y))
    with pytest.raises(ValueError, match=r"expected a loss of one number, got .*is its reduction 'none'"):
        trainer(loss=nn.CrossEntropyLoss(reduction="none")).fit((X, Y))
    frozen = trainer()
    frozen.model.requires_grad_(False)
    with pytest.raises(ValueError, match="is everything frozen"):
        frozen.fit((X, Y))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_model_that_is_not_finite_at_the_start_is_refused():
    model = nn.Linear(2, 3)
    model.weight.assign(np.full((3, 2), np.nan, np.float32))
    with pytest.raises(FloatingPointError, match="not finite before the first step: parameter 'weight' has 6 NaN of 6"):
        trainer(model).fit((X, Y))


def test_arguments_of_other_kinds_are_refused():
    model = nn.Linear(2, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    other = optim.SGD(nn.Linear(2, 3).parameters(), lr=0.1)
    for error, message, arguments, options in [
        (TypeError, "model: expected an instance of Module", (len, CE, optimizer), {}),
        (TypeError, "optimizer: expected an instance of Optimizer", (model, CE, model), {}),
        (TypeError, "loss: expected a function", (model, "mse", optimizer), {}),
        (TypeError, "callbacks: expected an instance of Callback, got <class", (model, CE, optimizer),
         {"callbacks": [Callback]}),
        (ValueError, "holds none of the model's parameters", (model, CE, other), {}),
        (ValueError, "the schedule is another optimizer's", (model, CE, optimizer),
         {"schedule": optim.lr_scheduler.ExponentialLR(other, 0.9)}),
        (TypeError, "schedule: expected an instance of Schedule", (model, CE, optimizer), {"schedule": 0.1}),
        (ValueError, "schedule_per: expected 'epoch' or 'step'", (model, CE, optimizer), {"schedule_per": "batch"}),
        (ValueError, "clip: expected a norm > 0", (model, CE, optimizer), {"clip": 0}),
        (ValueError, "patience: expected a number of epochs >= 1", (model, CE, optimizer), {"patience": 0}),
        (ValueError, "save_every needs a folder", (model, CE, optimizer), {"save_every": 5}),
        (ValueError, "save_every: expected a number of steps >= 1", (model, CE, optimizer),
         {"save_every": 0, "folder": "."}),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            Trainer(*arguments, **options)
    run = Trainer(model, CE, optimizer, patience=2)
    with pytest.raises(ValueError, match="patience needs dev data"):
        run.fit((X, Y))
    with pytest.raises(ValueError, match="expected epochs >= 1, got 0"):
        run.fit((X, Y), epochs=0)
    with pytest.raises(TypeError, match=r"train: expected a data\.Loader or a tuple"):
        run.fit(X)
    with pytest.raises(ValueError, match="resume=True needs a folder"):
        trainer().fit((X, Y), resume=True)


# checkpoints


@pytest.fixture
def run(tmp_path):
    """A folder with the checkpoints of steps 6 and 12."""
    finished, train, dev = build(folder=tmp_path)
    finished.fit(train, dev, epochs=2)
    return tmp_path


def flipped(content):
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged, cut short or no .safetensors file"),
        (lambda path: path.write_bytes(b""), "is damaged, cut short"),
        (lambda path: path.write_bytes(flipped(path.read_bytes())), "is damaged, cut short"),
        (lambda path: path.write_bytes(b"<html>not found</html>" * 99), "is damaged, cut short"),
        (lambda path: tg.save(path, {"weight": np.zeros(3)}), "is no checkpoint of a Trainer"),
        (lambda path: tg.save(path, {}, {"tinygrad_dl.training": "9"}), "has version 9 .*, this library reads 1"),
    ],
    ids=["truncated", "empty", "one bit", "html", "foreign", "of the future"],
)
def test_a_bad_checkpoint_is_refused_and_the_previous_good_one_named(run, damage, message):
    damage(run / "step-00000012.safetensors")
    trainer, train, dev = build(seed=3, folder=run)
    before = weights(trainer.model)
    with pytest.raises(ValueError, match=message) as refused:
        trainer.fit(train, dev, epochs=4, resume=True)
    good = str(run / "step-00000006.safetensors")
    assert f"the previous good one is {good}" in str(refused.value)
    assert weights(trainer.model) == before
    trainer.fit(train, dev, epochs=4, resume=good)
    whole, train, dev = build()
    whole.fit(train, dev, epochs=4)
    assert weights(trainer.model) == weights(whole.model)


def test_without_a_good_one_that_is_said(run):
    for path in run.iterdir():
        path.write_bytes(b"")
    trainer, train, dev = build(folder=run)
    with pytest.raises(ValueError, match="there is no good one before it"):
        trainer.fit(train, dev, resume=True)
    with pytest.raises(FileNotFoundError):
        trainer.fit(train, dev, resume=run / "step-00000099.safetensors")


def test_a_folder_with_another_run_is_not_written_to(run):
    trainer, train, dev = build(folder=run)
    with pytest.raises(FileExistsError, match=r"holds the checkpoints of a run; fit.* goes on with it"):
        trainer.fit(train, dev)
    assert trainer.step == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schedule": None}, ValueError, "not alike in having a schedule"),
        ({"loader_seed": 4}, ValueError, "the state has seed None, this Loader has 4"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(run, change, error, message):
    trainer, train, dev = build(seed=5, folder=run, **change)
    before, generator = weights(trainer.model), random.state()
    with pytest.raises(error, match=message):
        trainer.fit(train, dev, epochs=4, resume=True)
    assert weights(trainer.model) == before
    assert random.state() == generator
    assert trainer.optimizer.state == {}


def test_a_checkpoint_of_another_model_is_refused(run):
    model = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 3))
    other = trainer(model, folder=run)
    before = weights(model)
    with pytest.raises((KeyError, ValueError), match=r"load_state_dict"):
        other.fit(data.Loader(*points(44, 1), batch_size=8, shuffle=True), epochs=4, resume=True)
    assert weights(model) == before
    assert other.step == 0


F = nn.functional
SEQUENCES = np.random.default_rng(0).normal(size=(30, 16, 4)).astype(np.float32)
COUNTS = np.random.default_rng(1).poisson(4, 40)


def per_word(output, target):
    return F.cross_entropy(output.reshape(-1, output.shape[2]), target.reshape(-1))


@pytest.mark.parametrize(
    ("model", "loss", "x", "y"),
    [
        (nn.Linear(2, 1), lambda o, t: (np.exp(o[:, 0]) - t * o[:, 0]).mean(), X, COUNTS),
        (nn.Linear(2, 1), lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t), X, Y > 0),
        (nn.Linear(2, 2), lambda o, t: (np.exp(o[:, 0]) - t * o[:, 0]).mean() + (o[:, 1] ** 2).mean(), X, COUNTS),
        (nn.Linear(4, 50), per_word, SEQUENCES, np.random.default_rng(2).integers(0, 50, (30, 16))),
        (nn.Linear(4, 50), per_word, SEQUENCES, np.random.default_rng(2).integers(0, 8, (30, 16))),
    ],
    ids=["counts", "booleans", "counts of two outputs", "words", "few words"],
)
def test_integers_that_are_no_labels_are_trained_on(model, loss, x, y):
    run = trainer(model, loss)
    assert run.fit((x, y), (x, y), epochs=1)["dev_loss"][0] == pytest.approx(run.evaluate((x, y))["loss"])


class Encoder(nn.Module):
    def __init__(self):
        self.inner, self.outer = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        code = self.inner(x)
        return self.outer(code), {"code": code}


@pytest.mark.parametrize("compile", [False, True])
def test_a_model_may_give_several_tensors(compile):
    def distance(output, target):
        assert isinstance(output[0], np.ndarray)
        return np.abs(output[0] - target).mean()

    loss = lambda o, t: np.square(o[0] - t).mean() + 0.1 * np.square(o[1]["code"]).mean()
    run = trainer(Encoder(), loss, metric=distance, compile=compile)
    history = run.fit((X, X), (X, X), epochs=2)
    assert history["dev_distance"][1] == pytest.approx(run.evaluate((X, X))["distance"])


@pytest.mark.parametrize("name", ["loss", "gradient", "dev_loss", "lr"])
def test_a_metric_does_not_take_another_columns_name(name):
    def metric(output, target):
        return 0.0

    metric.__name__ = name
    with pytest.raises(ValueError, match=f"another column '{name}'"):
        trainer(metric=metric)
