"""Ctrl-C may come at any call: afterwards everything works as before."""

import sys

import numpy as np
import pytest
from programs import record, training_step

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler.backends import builder
from tinygrad_dl.scope import current

X = np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)
Y = np.arange(64) % 5


def interrupted(run, wanted, number=0):
    """Whether the call with this number, of those that are wanted, has come, and was met by a KeyboardInterrupt."""
    count = -1

    def look(frame, event, _):
        nonlocal count
        if event == "call" and wanted(frame.f_code):
            count += 1
            if count == number:
                raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(look)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def of_a_block(code):
    return code.co_name in ("__enter__", "__exit__") and "tinygrad_dl" in code.co_filename


def build():
    model = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 5))
    return training_step(model, optim.Adam(model.parameters()))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_recording_closes_its_blocks(backend):
    if backend == "native":
        pytest.importorskip("llvmlite")
    before, number = current(), 0
    step = tg.compile(build(), backend=backend)
    while interrupted(lambda: step(X, Y), of_a_block, number):
        assert current() is before
        number += 7  # of some hundreds
    assert number > 100
    losses = [step(X, Y).item() for _ in range(50)]
    assert losses[-1] < losses[0]


def test_blocks_around_each_other_are_closed_by_the_outer_one():
    def run():
        with tg.no_grad(), tg.enable_grad():
            pass

    before = current()
    assert interrupted(run, of_a_block, 2)  # the end of the inner one
    assert current() is before
    assert interrupted(run, of_a_block, 1)  # the beginning of the inner one
    assert current() is before


def test_a_block_may_be_opened_in_itself():
    block = tg.no_grad()
    with block, block:
        assert not current().recording
    assert current().recording


def test_an_array_in_the_place_of_another_one():
    """Nothing of Python's runs when an array goes, or Ctrl-C might end it."""
    pytest.importorskip("llvmlite")
    run = builder("native")(record(lambda t: [t * 2], [np.ones(50_000)])[0])
    ones, threes = np.ones(50_000), np.full(50_000, 3.0)
    arrays = [ones.view()]
    run(arrays)
    old = id(arrays[0])
    assert not interrupted(arrays.clear, lambda _: True)
    found = [a for a in [threes.view() for _ in range(10_000)] if id(a) == old]
    assert run(found)[0][0] == 6


def test_no_lock_of_llvms_is_taken_where_ctrl_c_arrives():
    pytest.importorskip("llvmlite")
    width = 37  # which no other test has, or nothing might be compiled
    step = tg.compile(lambda t: np.tanh(t * width).sum() / (1 + t[:width]), backend="native")
    assert not interrupted(lambda: step(X.ravel()), lambda code: "llvmlite" in code.co_filename)
    assert "native" in step.explain()
