"""OpenBLAS keeps to one thread for a moment, and has its number again."""

from __future__ import annotations

import ctypes
import threading
import time

import numpy as np
import pytest

import tinygrad_dl as tg

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import blas

pytestmark = pytest.mark.skipif(blas.routine("get_num_threads") is None, reason="NumPy has another BLAS here")


def now():
    return ctypes.CFUNCTYPE(ctypes.c_int)(blas.routine("get_num_threads"))()


def use(number):
    ctypes.CFUNCTYPE(None, ctypes.c_int)(blas.routine("set_num_threads"))(number)


@pytest.fixture(autouse=True)
def two_threads():
    before = now()
    use(2)
    yield
    use(before)


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_while_a_step_is_recorded(backend):
    seen = []

    @tg.compile(backend=backend)
    def step(x):
        seen.append((now(), blas.threads()))
        return x * 2

    step(np.ones(3))
    assert seen == [(1, 2)]
    assert now() == 2


def test_what_numpy_runs_is_recorded_as_ever():
    seen = []

    @tg.compile(backend="numpy")
    def step(x):
        seen.append(now())
        return x * 2

    step(np.ones(3))
    assert seen == [2]


def test_a_step_that_fails():
    @tg.compile(backend="native")
    def step(x):
        raise KeyError("no")

    with pytest.raises(KeyError):
        step(np.ones(3))
    assert now() == 2


def test_a_step_that_takes_long():
    with blas.one_thread(0.01):
        end = time.monotonic() + 60
        while now() == 1 and time.monotonic() < end:
            time.sleep(0.005)
        assert now() == 2
    assert now() == 2


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
        assert now() == 1
    assert now() == 1
    assert blas.threads() == 2
    leave.set()
    thread.join()
    assert now() == 2


def test_another_number_that_somebody_asks_for_stays():
    with blas.one_thread(60):
        use(3)
    assert now() == 3


def test_where_it_has_one_thread():
    use(1)
    with blas.one_thread(60):
        assert now() == 1
    assert now() == 1
    assert blas.threads() == 1
