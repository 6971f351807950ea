"""What a compiled function looks at in objects of one's own, whatever they are, and what it leaves alone."""

import copy
import dataclasses
import functools
import types
import weakref

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn

X = np.array([1.0, -2.0])
SCALE = 2.0


class Config:
    beta, act, flag = 0.5, "relu", True

    def __init__(self):
        self._gain, self.weights, self.inner = 2.0, [1.0, 2.0], types.SimpleNamespace(model=nn.Sequential())
        self.scale = lambda x: x * 2
        self.array, self.tensor = np.array([1.0, 2.0]), tg.tensor([1.0, 2.0])

    @property
    def gain(self):
        return self._gain

    @functools.cached_property
    def once(self):
        return 2.0


@dataclasses.dataclass(slots=True)
class Slotted:
    beta: float = 0.5


@pytest.mark.parametrize(
    ("use", "change"),
    [
        (lambda c, x: x * c.beta, lambda c: setattr(c, "beta", 0.9)),
        (lambda c, x: x * c.beta, lambda c: setattr(type(c), "beta", 0.9)),
        (lambda c, x: x * getattr(c, "beta"), lambda c: setattr(c, "beta", 0.9)),  # noqa: B009
        (lambda c, x: np.maximum(x, 0) if c.act == "relu" else x, lambda c: setattr(c, "act", "none")),
        (lambda c, x: x if c.flag else -x, lambda c: setattr(c, "flag", False)),
        (lambda c, x: x * c.gain, lambda c: setattr(c, "_gain", 3.0)),
        (lambda c, x: x * c.once, lambda c: c.__dict__.update(once=3.0)),
        (lambda c, x: x * c.weights[0], lambda c: c.weights.__setitem__(0, 5.0)),
        (lambda c, x: x * c.weights[0], lambda c: setattr(c, "weights", [5.0])),
        (lambda c, x: c.inner.model(x), lambda c: setattr(c, "inner", types.SimpleNamespace(model=nn.ReLU()))),
        (lambda c, x: c.scale(x), lambda c: setattr(c, "scale", lambda x: x * 3)),
        (lambda c, x: x * c.array, lambda c: setattr(c, "array", np.array([3.0, 4.0]))),
        (lambda c, x: x * c.tensor, lambda c: setattr(c, "tensor", tg.tensor([3.0, 4.0]))),
    ],
)
def test_what_the_code_reads_of_an_object_is_seen(use, change):
    runs = []
    for compiled in (lambda f: f, tg.compile):
        kind = type("Config", (Config,), {})
        config = kind()
        f = compiled(lambda x, config=config: use(config, x))
        results = [np.asarray(f(X)) for _ in range(3)]
        change(config)
        runs.append([*results, np.asarray(f(X)), np.asarray(f(X))])
    np.testing.assert_array_equal(*runs)
    assert not np.array_equal(runs[0][2], runs[0][3])
    assert len(f.programs) <= 3


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_anew(backend, order):
    mask, flags, rows = np.array(np.ones((2, 3)), order=order), np.ones((2, 3), bool), np.array([0, 1, 1])
    one = types.SimpleNamespace(scale=np.array(2.0), models=[nn.Identity()], weights=[np.ones(3)])

    def f(x):
        return (x * mask * one.scale + one.weights[0])[rows], np.where(flags, x, -x), tg.tensor(mask) + x

    compiled = tg.compile(f, backend=backend)
    x = np.arange(6.0).reshape(2, 3)
    for i in range(5):
        for ours, want in zip(compiled(x), f(x), strict=True):
            np.testing.assert_array_equal(np.asarray(ours), want)
        mask[i % 2], flags[0, i % 3] = -i, i % 2
        rows[0], one.scale[...] = i % 2, i
        one.weights[0][i % 3] = 7
    assert len(compiled.programs) == 1


def test_arrays_that_nobody_changes_are_not_copied():
    images = np.ones((1000, 784), np.float32)
    f = tg.compile(lambda w: (images @ w).sum())
    f(np.ones((784, 10), np.float32))
    (program,) = f.programs
    assert [value.name for value in program.inputs] == ["w", "images"]
    assert not program.constants


def test_slots_are_attributes():
    config = Slotted()
    f = tg.compile(lambda x: x * config.beta)
    for beta in (0.5, 0.5, 0.9, 0.9):
        config.beta = beta
        np.testing.assert_array_equal(f(X).numpy(), X * beta)
    assert "config.beta was 0.5, is 0.9" in f.explain()
    assert len(f.programs) == 2


def test_what_the_code_writes_on_an_object_is_not_looked_at():
    class Trainer:
        def __init__(self):
            self.w, self.steps, self.loss = nn.Parameter(np.array([3.0, 4.0])), 0, None

        def step(self, x):
            self.w.grad = None
            self.loss = ((self.w * x) ** 2).sum()
            self.loss.backward()
            self.steps += 1
            return self.w.grad

    one = Trainer()
    f = tg.compile(one.step)
    for _ in range(5):
        np.testing.assert_array_equal(f(X).numpy(), 2 * one.w.data * X * X)
    assert len(f.programs) <= 2, f.explain()


class Counted(nn.Module):
    steps = 0

    def __init__(self):
        self.losses, self.settings = [], {"words": ["a"], "sizes": (1, 2)}
        self.size = len(self.settings)

    words = {str(i): i for i in range(1000)}  # noqa: RUF012
    log = []  # noqa: RUF012

    def forward(self, x):
        return x * 2

    def report(self, x):
        self.log.append(len(self.words))
        return x * SCALE


def test_what_the_code_that_runs_does_not_name_is_not_looked_at():
    model, one = Counted(), types.SimpleNamespace(model=nn.Dropout(0.5), data=np.ones(3))
    f = tg.compile(lambda x: one.model(model(x)))
    data = weakref.ref(one.data)
    for _ in range(3):
        f(X)
        model.report(X)
        model.losses.append(1.0)
        model.settings["words"].append("b")
        Counted.steps += 1
        one.best = copy.deepcopy(one.model)
        one.data = None
        globals().update(SCALE=SCALE + 1)
    assert len(f.programs) == 1
    assert data() is None


class Proxy:
    """One that has whatever it is asked for."""

    def __getattr__(self, name):
        return Proxy()

    def __call__(self):
        return 2.0


class Failing:
    factor = 2.0

    @property
    def __dict__(self):
        raise RuntimeError

    def __getattr__(self, name):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None


@pytest.mark.parametrize("behind", [False, True])
def test_objects_may_be_of_any_kind(behind):
    proxy, failing = Proxy(), Failing()
    one = types.SimpleNamespace(proxy=proxy, failing=failing, keys={1: [failing]})
    if behind:
        f = tg.compile(lambda x: x * one.proxy.anything() * one.failing.factor * len(one.keys))
    else:
        f = tg.compile(lambda x: x * proxy.anything() * failing.factor)
    for _ in range(3):
        np.testing.assert_array_equal(f(X).numpy(), 4 * X)
    assert len(f.programs) == 1


def test_objects_that_lead_to_each_other_are_looked_at_once():
    one, other = types.SimpleNamespace(), types.SimpleNamespace()
    one.other, other.other = other, one
    for _ in range(5_000):  # deeper than Python goes
        other = other.next = types.SimpleNamespace(other=one)
    f = tg.compile(lambda x: x * (one.other is not None))
    np.testing.assert_array_equal(f(X).numpy(), X)
