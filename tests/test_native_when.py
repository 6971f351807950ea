"""When eager operations are run by native kernels, and when they stay NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import optim
from tinygrad_dl.nn import functional as F

pytest.importorskip("llvmlite")
from native_slots import CROSS_ENTROPY, DROPOUT, LOG_SOFTMAX, NORM, SOFTMAX, Slots

from tinygrad_dl.compiler.native import eager
from tinygrad_dl.compiler.native.eager import WORTH, Pair


def test_what_does_not_repeat_is_not_compiled(monkeypatch):
    slots = Slots(monkeypatch)
    monkeypatch.setattr(eager, "PAIR_COMPILED", 5 * (600 + eager.PAIR_CALLS))
    slots.on()
    pair = slots.pairs[DROPOUT]
    x = tg.tensor(np.ones((20, 30)))
    for number in range(1, 8):
        F.dropout(x, 0.5)
        F.dropout(tg.tensor(np.ones((number, 100))), 0.5)
        assert len(pair.kernels) == (number >= 5)


def test_a_run_gives_the_same_bits_again(monkeypatch):
    """What differs from NumPy in last bits is native from the first call on, or never."""
    slots = Slots(monkeypatch)
    slots.on()
    for rows, kernels in ((16, 0), (256, 1)):
        x = np.random.default_rng(0).normal(size=(rows, 64))
        first = F.log_softmax(tg.tensor(x)).numpy()
        assert len(slots.pairs[LOG_SOFTMAX].kernels) == kernels
        for _ in range(3):
            np.testing.assert_array_equal(F.log_softmax(tg.tensor(x)).numpy(), first)


def test_small_and_large_arrays_and_other_dtypes_stay(slots, monkeypatch):
    monkeypatch.setattr(eager, "LEAST", 100)
    monkeypatch.setattr(eager, "MOST", 200)
    slots.on()
    for x in (np.ones(99, np.float32), np.ones(201, np.float32), np.ones(150, np.float16)):
        F.softmax(tg.tensor(x))
    assert not slots.pairs[SOFTMAX].kernels
    F.softmax(tg.tensor(np.ones(150, np.float32)))
    assert len(slots.pairs[SOFTMAX].kernels) == 1


def test_what_takes_longer_stays(slots):
    slots.pairs = {op: Pair(op, worth) for op, worth in WORTH.items()}
    slots.on()
    for _ in range(2):
        F.batch_norm(tg.tensor(np.ones((2, 3, 4))), None, None)
        F.log_softmax(tg.tensor(np.ones((3, 4))), axis=0)
        F.cross_entropy(tg.tensor(np.ones((3, 4))), np.array([0, 1, 2]))
    assert not any(pair.kernels for pair in slots.pairs.values())
    F.batch_norm(tg.tensor(np.ones((3, 4))), None, None)
    F.log_softmax(tg.tensor(np.ones((3, 4))))
    F.cross_entropy(tg.tensor(np.ones((128, 4))), np.zeros(128, int))
    assert all(slots.pairs[op].kernels for op in (NORM, LOG_SOFTMAX, CROSS_ENTROPY))


def test_signatures_have_a_limit(slots, monkeypatch):
    monkeypatch.setattr(eager, "SIGNATURES", 2)
    slots.on()
    for n in range(2, 6):
        F.log_softmax(tg.tensor(np.ones(n)))
    assert len(slots.pairs[LOG_SOFTMAX].kernels) == 2


@pytest.mark.parametrize("missing", [False, True])
def test_switched_off(monkeypatch, missing):
    Slots(monkeypatch)
    if missing:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        monkeypatch.setenv("TINYGRAD_DL_NATIVE", "0")
    before = [op.forward for op in WORTH]
    eager.install()
    assert optim.Optimizer.native is None
    assert [op.forward for op in WORTH] == before


def test_a_machine_without_code_generation(slots, monkeypatch):
    """NumPy goes on, with one warning for each operation."""

    def refuse(program, arena):
        raise OSError("no memory may be made executable")

    monkeypatch.setattr("tinygrad_dl.compiler.native.backend.build", refuse)
    slots.on()
    x = tg.tensor(np.ones((3, 4)))
    with pytest.warns(RuntimeWarning, match=r"softmax runs as NumPy.*executable"):
        y = F.softmax(x)
    np.testing.assert_array_equal(y.numpy(), np.full((3, 4), 0.25))
    F.softmax(x)
    p = tg.tensor(np.ones(5), requires_grad=True)
    p.grad = tg.tensor(np.ones(5))
    optimizer = optim.SGD([p], lr=1.0)
    with pytest.warns(RuntimeWarning, match=r"SGD.step runs as NumPy"):
        optimizer.step()
    optimizer.step()
    np.testing.assert_array_equal(p.detach().numpy(), np.full(5, -1.0))
