"""Steps of compiled programs on several threads: the same numbers, whoever computes them."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import partial
from itertools import chain

import numpy as np
import openblas
import pytest
from programs import training_step

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import backend, dispatching, engine, pool, products, trial
from tinygrad_dl.compiler.native.backend import Native

pytestmark = pytest.mark.skipif(dispatching.FUTEX is None, reason="helper threads need Linux's futex")


def training(threads: int, monkeypatch, steps: int = 3):
    """What some steps of a network wide enough for its rounds to be shared leave behind, and the last program."""
    monkeypatch.setattr(pool, "threads", lambda: threads)
    tg.seed(0)
    layers = [nn.Linear(300, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 10)]
    model = nn.Sequential(*layers)
    optimizer = optim.Adam(model.parameters())
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 300)).astype(np.float32), rng.integers(0, 10, 128)

    step = tg.compile(training_step(model, optimizer), backend="native")
    losses = [step(x, y).item() for _ in range(steps)]
    native = step._latest.run
    assert isinstance(native, Native)
    return losses, [p.detach().numpy() for p in model.parameters()], native


@pytest.mark.parametrize("large", [products.LARGE, 2**18])  # multiplications from which on both factors are copied
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_compute_the_same(monkeypatch, threads, large):
    monkeypatch.setattr(products, "LARGE", large)
    alone, weights, native = training(1, monkeypatch)
    assert not any(each.shared for each in native.rounds)
    losses, others, native = training(threads, monkeypatch)
    assert sum(each.shared for each in native.rounds) >= 3
    np.testing.assert_allclose(losses, alone, rtol=1e-6)
    for a, b in zip(others, weights, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.parametrize("way", [0, 1])
def test_each_way_to_share_out_small_rounds_computes_the_same(monkeypatch, way):
    """What a trial chooses between: rounds that one thread does, and parts of a few microseconds."""
    made = []

    class Fixed(trial.Trial):
        def __init__(self, ways):
            super().__init__(ways)
            self.best, self.left = ways[way], 10**9
            made.append(len(ways))

    def losses(threads):
        monkeypatch.setattr(pool, "threads", lambda: threads)
        tg.seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(64, 64)), rng.integers(0, 10, 64)
        step = tg.compile(training_step(model.astype(np.float64), optim.Adam(model.parameters())), backend="native")
        return [step(x, y).item() for _ in range(20)]

    monkeypatch.setattr(backend, "Trial", Fixed)
    alone = losses(1)
    assert made == []
    assert losses(2) == alone  # to the bit: a run that is resumed may take another way
    assert set(made) == {2}


def test_a_trial_takes_the_quickest_way_until_it_tries_again(monkeypatch):
    now, seconds, done = [0.0], {"slow": 3.0, "quick": 2.0}, []

    def work(way, number):
        done.append(way)
        now[0] += seconds[way] + (1000 if len(done) == 2 else 0)  # one call is kept waiting
        return number

    monkeypatch.setattr(trial, "perf_counter", lambda: now[0])
    tried = trial.Trial([partial(work, way) for way in ("slow", "quick")])
    both = 2 * trial.TRIES
    uses = trial.USES // trial.TIMED
    assert [tried(i) for i in range(both + uses)] == [*range(both + uses)]
    each = ["slow"] * trial.TRIES + ["quick"] * trial.TRIES
    assert done == each + ["quick"] * uses
    seconds["slow"] = 1.0
    for i in range(both + 1):
        tried(i)
    assert done[-both - 1 :] == [*each, "slow"]


def test_a_trial_measures_a_way_that_goes_on(monkeypatch):
    """The first call after another way is slow: its data lies in the other core's cache."""
    now, done, seconds = [0.0], ["alone"], {"alone": 3.0, "shared": 2.0}

    def work(way, _):
        now[0] += seconds[way] if done[-1] == way else 5.0
        done.append(way)

    monkeypatch.setattr(trial, "perf_counter", lambda: now[0])
    tried = trial.Trial([partial(work, way) for way in ("alone", "shared")])
    for _ in range(2 * trial.TRIES + 1):
        tried(0)
    assert done[-1] == "shared"


def test_a_trial_begins_anew_where_calls_become_slow(monkeypatch):
    now, seconds, done = [0.0], {"alone": 3.0, "shared": 2.0}, []

    def work(way, _):
        done.append(way)
        now[0] += seconds[way]

    monkeypatch.setattr(trial, "perf_counter", lambda: now[0])
    tried = trial.Trial([partial(work, way) for way in ("alone", "shared")])
    few = trial.USES // trial.AGED
    for _ in range(2 * trial.TRIES + few):
        tried(0)
    assert done[-few:] == ["shared"] * few
    seconds["shared"] = 1.01 * trial.SLOW * 2.0 + 1.0  # a busy process has come
    done.clear()
    for _ in range(few + 2 * trial.TRIES + 5):
        tried(0)
    assert done[:few] == ["shared"] * few
    assert done[-5:] == ["alone"] * 5
    assert done.count("shared") <= few + trial.TRIES


def test_one_thread_after_the_other_has_the_pool(monkeypatch):
    """A thread that finds the pool taken does its tasks alone."""
    monkeypatch.setattr(pool, "threads", lambda: 2)
    arrays = [np.random.default_rng(i).normal(size=(400, 500)) for i in range(4)]
    functions = [tg.compile(lambda x: np.tanh(x) * 2 + x, backend="native") for _ in arrays]
    wanted = [np.tanh(x) * 2 + x for x in arrays]
    failures = []

    def run(i):
        for _ in range(30):
            if not np.allclose(functions[i](arrays[i]).numpy(), wanted[i], rtol=1e-12):
                failures.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # newer Pythons warn of forking beside threads
def test_a_child_has_helpers_of_its_own(monkeypatch):
    losses = training(2, monkeypatch)[0]
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if np.allclose(training(2, monkeypatch)[0], losses) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@openblas.there
@pytest.mark.parametrize("number", [1, 2])
def test_openblas_has_its_number_of_threads_again(monkeypatch, number):
    """Also if it has been changed since the program was built; with one thread nothing is shared."""
    monkeypatch.setattr(pool, "threads", lambda: 2)
    monkeypatch.setattr(engine, "registers", lambda: (16, 16))  # with more, all products are ours
    x = np.random.default_rng(0).normal(size=(600, 700)) * 1e-2
    function = tg.compile(lambda x: np.tanh(x @ (x.T @ x)), backend="native")
    want = function(x).numpy()
    before = openblas.threads()
    try:
        openblas.use(number)
        np.testing.assert_allclose(function(x).numpy(), want, rtol=1e-9, atol=1e-12)
        assert openblas.threads() == number
    finally:
        openblas.use(before)


@openblas.there
def test_one_thread_that_is_taken_back_during_a_run(monkeypatch):
    """As at the end of another run, or of a recording, that had asked for it."""
    monkeypatch.setattr(pool, "threads", lambda: 2)
    monkeypatch.setattr(engine, "registers", lambda: (16, 16))  # with more, all products are ours
    x = np.full((1500, 1500), 1e-3)
    function = tg.compile(lambda x: x @ x @ x @ x, backend="native")
    function(x)
    before = openblas.threads()
    try:
        openblas.use(1)
        run = threading.Thread(target=function, args=(x,))
        run.start()
        time.sleep(0.03)
        openblas.use(2)
        run.join()
        assert openblas.threads() == 2
    finally:
        openblas.use(before)


POOLS = []  # their helpers look at them as long as the process lives


def with_helpers(number):
    POOLS.append(pool.Pool())
    POOLS[-1].grow(number + 1)
    return POOLS[-1]


def dispatcher(helpers, task, needs, lists=None):
    """A call of `DISPATCH`. lists: the numbers of the tasks that the caller owns, those for everybody, and those of
    each helper; all are for everybody unless it is given."""
    with engine.Compilation() as compilation:
        (address,) = compilation.addresses([pool.dispatch(compilation)])
    numbers, pointer = ctypes.c_int64, ctypes.c_void_p
    dispatch = ctypes.CFUNCTYPE(None, pointer, numbers, pointer, pointer, numbers, pointer)(address)
    table = np.zeros((len(needs), dispatching.FIELDS), np.int64)
    table[:, 0] = needs
    lists = lists or [[], [*range(len(needs))]]
    places = np.array([*np.cumsum([*map(len, lists)]), *chain.from_iterable(lists)], np.int64)
    helped = with_helpers(helpers)

    def call():
        function = ctypes.cast(task, pointer)
        dispatch(helped.state, len(needs), function, table.ctypes.data, len(lists) - 1, places.ctypes.data)

    return call


@pytest.mark.parametrize(
    "lists", [None, [[0, 3, 5, 8], [], [1, 4, 6], [2, 7, 9]], [[1, 9], [0, 4, 5], [2, 6], [3, 7, 8]]]
)
def test_tasks_wait_until_those_that_they_need_are_done(lists):
    needs = [0, 0, 0, 3, 3, 5, 6, 6, 6, 9]
    done, early = [], []

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
    def task(number, _):
        if not set(range(needs[number])) <= set(done):
            early.append(number)
        time.sleep(1e-4 * (number * 7 % 3))
        done.append(number)

    dispatch = dispatcher(2, task, needs, lists)
    for _ in range(100):
        dispatch()
        assert sorted(done) == [*range(len(needs))]
        done.clear()
    assert early == []


def test_a_thread_has_its_own_tasks_unless_it_is_late():
    main, who = threading.get_ident(), {}

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
    def task(number, _):
        who[number] = "caller" if threading.get_ident() == main else "helper"
        time.sleep({0: 0.005, 1: 0.03}.get(number, 0))

    dispatch = dispatcher(1, task, [0, 0, 0, 0, 4], [[0, 2], [], [1, 3, 4]])
    for _ in range(50):  # whether the helper has a core at once, the system decides
        who.clear()
        dispatch()
        assert who.keys() == {*range(5)}
        assert who[0] == who[2] == "caller"
        if who[1] == "helper":
            break
    assert who[1] == "helper"
    assert who[3] == "caller"


def test_who_waits_for_long_sleeps():
    """So the other one has a core, where a busy process has the second; here both wait for each other in turn."""
    runs, main = [], threading.get_ident()

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
    def task(number, _):
        own = threading.get_ident() == main
        runs.append((number, own))
        if number < 4:
            time.sleep(0.2 if own is (number < 2) else 0.01)

    dispatch = dispatcher(1, task, [0, 0, 2, 2, 4])
    before = time.process_time()
    dispatch()
    assert sorted(number for number, _ in runs) == [*range(5)]
    for pair in ({0, 1}, {2, 3}):
        assert sorted(own for number, own in runs if number in pair) == [False, True]
    assert time.process_time() - before < 0.1  # of 0.38 seconds that somebody waits
