"""Compiled functions in which an error is raised, and in several threads: they stay usable, and change nothing."""

import _thread
import threading
import time

import numpy as np
import pytest
from programs import ones, values

import tinygrad_dl as tg
from tinygrad_dl import nn, optim


def test_a_thread_may_begin_with_a_step():
    weight = nn.Parameter(ones())

    @tg.compile
    def bump(x):
        with tg.no_grad():
            weight.assign(weight + x)

    for _ in range(2):
        bump(ones())
    _thread.start_new_thread(bump, (ones(),))
    for _ in range(1000):
        if values(weight.detach())[0] == 4:
            break
        time.sleep(0.01)
    assert values(weight.detach()) == [4, 4, 4]


def test_an_exception_in_the_middle_leaves_a_usable_function():
    fail = [True]

    @tg.compile
    def f(x):
        y = x * 2
        if fail[0]:
            raise KeyError("stop")
        return y

    with pytest.raises(KeyError):
        f(ones())
    fail[0] = False
    assert values(f(ones())) == [2, 2, 2]
    assert (tg.tensor(ones()) * 2).tolist() == [2, 2, 2]


def test_an_exception_on_replay_changes_no_state():
    w = nn.Parameter(np.ones((2, 3), np.float32))
    optimizer = optim.SGD([w], lr=0.1)

    @tg.compile
    def step(y):
        optimizer.zero_grad()
        nn.functional.cross_entropy(w, y).backward()
        optimizer.step()

    step(np.array([0, 1]))
    before = w.detach().numpy().copy()
    with pytest.raises(ValueError, match="label 9"):
        step(np.array([0, 9]))
    np.testing.assert_array_equal(w.detach().numpy(), before)


def test_threads_share_a_function():
    f = tg.compile(lambda x: np.tanh(x @ x.T).sum(axis=0))
    inputs = [np.random.default_rng(i).normal(size=(20, 20)) for i in range(8)]
    expected = [np.tanh(x @ x.T).sum(axis=0) for x in inputs]
    wrong = []

    def work(i):
        for _ in range(50):
            if not np.allclose(f(inputs[i]).numpy(), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
    assert len(f.programs) == 1


def test_another_thread_runs_eagerly_while_one_records():
    recorded, release = threading.Event(), threading.Event()

    def f(x):
        recorded.set()
        release.wait(10)
        return x * 2

    thread = threading.Thread(target=tg.compile(f), args=(ones(),))
    thread.start()
    recorded.wait(10)
    assert tg.tensor(ones()).sum().item() == 3
    release.set()
    thread.join()


def _picky(x, limit):
    if limit < 0:
        raise ValueError("a negative limit")
    return x * 1.0


picky = tg.primitive(_picky, lambda g, *_: g, None, name="picky")


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_an_operation_that_fails_in_the_middle_changes_nothing(backend):
    tg.seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = optim.Adam(model.parameters())
    state = lambda: [t.data.tobytes() for t in model.state_dict().values()]
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

    @tg.compile(backend=backend)
    def step(x, limit):
        optimizer.zero_grad()
        loss = (picky(model(x), limit) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(3):
        step(x, np.array(1.0))
    before, steps = state(), optimizer.state[model[0].weight]["step"]
    with pytest.raises(ValueError, match="a negative limit"):
        step(x, np.array(-1.0))
    assert len(step.programs) == 1
    assert (state(), optimizer.state[model[0].weight]["step"]) == (before, steps)
    step(x, np.array(1.0))
    assert state() != before


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_tensor_replaced_before_a_call_that_fails_is_seen_by_the_next(backend):
    w = tg.tensor(np.ones((3, 2)))
    f = tg.compile(lambda x, limit: picky(x @ w, limit) + w, backend=backend)
    x = np.eye(3)
    for _ in range(3):
        assert values(f(x, np.array(1.0))) == [[2, 2]] * 3
    for number in (5.0, 6.0):
        w.assign(np.full((3, 2), number))
        with pytest.raises(ValueError, match="a negative limit"):
            f(x, np.array(-1.0))
        assert values(f(x, np.array(1.0))) == [[2 * number] * 2] * 3
    assert len(f.programs) == 1
