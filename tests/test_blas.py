"""OpenBLAS keeps to one thread for a moment, and has its number again."""

from __future__ import annotations

import threading
import time

import numpy as np
import openblas
import pytest

import tinygrad_dl as tg
from tinygrad_dl.compiler.native import blas

pytestmark = openblas.there


@pytest.fixture(autouse=True)
def two_threads():
    before = openblas.threads()
    openblas.use(2)
    yield
    openblas.use(before)


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_while_a_step_is_recorded(backend):
    seen = []

    @tg.compile(backend=backend)
    def step(x):
        seen.append((openblas.threads(), blas.threads()))
        return x * 2

    step(np.ones(3))
    assert seen == [(1, 2)]
    assert openblas.threads() == 2


def test_what_numpy_runs_is_recorded_as_ever():
    seen = []

    @tg.compile(backend="numpy")
    def step(x):
        seen.append(openblas.threads())
        return x * 2

    step(np.ones(3))
    assert seen == [2]


def test_a_step_that_fails():
    @tg.compile(backend="native")
    def step(x):
        raise KeyError("no")

    with pytest.raises(KeyError):
        step(np.ones(3))
    assert openblas.threads() == 2


def test_a_step_that_takes_long():
    with blas.one_thread(0.01):
        end = time.monotonic() + 60
        while openblas.threads() == 1 and time.monotonic() < end:
            time.sleep(0.005)
        assert openblas.threads() == 2
    assert openblas.threads() == 2


def test_blocks_of_two_threads():
    """The first one that ends changes nothing for the other."""
    inside, leave = threading.Event(), threading.Event()

    def other():
        with blas.one_thread(60):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with blas.one_thread(60):
        thread.start()
        inside.wait()
        assert openblas.threads() == 1
    assert openblas.threads() == 1
    assert blas.threads() == 2
    leave.set()
    thread.join()
    assert openblas.threads() == 2


def test_another_number_that_somebody_asks_for_stays():
    with blas.one_thread(60):
        openblas.use(3)
    assert openblas.threads() == 3


def test_where_it_has_one_thread():
    openblas.use(1)
    with blas.one_thread(60):
        assert openblas.threads() == 1
    assert openblas.threads() == 1
    assert blas.threads() == 1
