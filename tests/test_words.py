"""Places in memory that are looked at in one call: of Tensors, and of how many refer to an object."""

from __future__ import annotations

import gc
import mmap

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import words
from tinygrad_dl.compiler.native.words import Words, available

pytestmark = pytest.mark.skipif(not available(), reason="this Python counts references elsewhere")


def test_all_is_as_it_was_until_an_attribute_is_another():
    tensors = [tg.tensor(np.ones(3), requires_grad=True) for _ in range(3)]
    looked = Words()
    assert not looked.same(0)
    for name in ("data", "node", "_grad"):
        looked.note((tensor, name) for tensor in tensors)
        for tensor in tensors:
            assert looked.same(0)
            before = getattr(tensor, name)
            setattr(tensor, name, tg.tensor(1.0) if name == "_grad" else None)
            assert not looked.same(0)
            setattr(tensor, name, before)
        assert looked.same(0)
    looked.forget()
    assert not looked.same(0)


def test_who_refers_to_an_object_is_seen():
    array = np.ones(3)
    looked = Words()
    looked.note((thing, "references") for thing in [array])
    for more in (lambda: [array], lambda: array[1:], lambda: memoryview(array), lambda: {1: array}, lambda: array.T):
        assert looked.same(0)
        kept = more()
        assert not looked.same(0)
        del kept
    assert looked.same(0)


def test_what_is_looked_at_is_noted_without_those_who_note_it():
    holder = tg.tensor(np.ones(3))
    looked = Words()
    looked.note((thing, name) for thing, name in [(holder, "data"), (holder.data, "references")])
    assert looked.same(0)


def test_behind_what_has_changed_nothing_is_read(monkeypatch):
    """There may be no memory any more."""
    tensor, gone = tg.tensor(np.ones(3)), mmap.mmap(-1, mmap.PAGESIZE)
    place = np.frombuffer(gone, np.int64).ctypes.data
    monkeypatch.setattr(words, "id", lambda thing: place if thing is gone else id(thing), raising=False)
    looked = Words()
    looked.note(iter([(tensor, "data"), (gone, "references")]))
    assert looked.same(0)
    tensor.data = np.ones(3)
    gc.collect()
    gone.close()
    assert not looked.same(0)


def step_of(size: int, *, result: bool = False, by_numpy: bool = False):
    """A step whose gradients are arrays of their own, the parameters, and its argument."""
    model = nn.Linear(size, size)
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    @tg.compile(backend="native")
    def step(x):
        optimizer.zero_grad()
        y = model(x)
        loss = (np.sort(y, axis=1) if by_numpy else y * y).sum()
        loss.backward()
        optimizer.step()
        return (loss, y) if result else loss

    return step, [*model.parameters()], tg.tensor(np.random.default_rng(0).normal(size=(20, size)))


@pytest.mark.parametrize("options", [{}, {"result": True}, {"by_numpy": True}], ids=["plain", "a result", "by NumPy"])
def test_gradients_stay_where_they_are_while_nobody_has_them(options):
    step, parameters, x = step_of(40, **options)
    for _ in range(3):
        step(x)
    before = [(id(p.grad), id(p.grad.data)) for p in parameters]
    found = step(x)
    assert step._latest.gradients.words.same(0)
    assert [(id(p.grad), id(p.grad.data)) for p in parameters] == before
    step(x)  # while somebody has the result
    assert found is not None
    assert step._latest.gradients.words.same(0)


def test_a_gradient_that_is_kept_keeps_its_value():
    step, parameters, x = step_of(40)
    for _ in range(3):
        step(x)
    for keep in (
        lambda g: g,
        lambda g: g.data,
        lambda g: g.numpy(),
        lambda g: g.data[1:],
        lambda g: memoryview(g.data),
    ):
        for _ in range(70):  # until it is noted again
            step(x)
        assert step._latest.gradients.words.same(0)
        kept = [keep(p.grad) for p in parameters]
        before = [np.array(k) for k in kept]
        step(x)
        for _ in range(3):
            step(x + 1)
        for k, b, p in zip(kept, before, parameters, strict=True):
            np.testing.assert_array_equal(np.asarray(k), b)
            assert not np.shares_memory(np.asarray(k), p.grad.data)


def test_gradients_are_those_of_the_step_whatever_came_between():
    step, parameters, x = step_of(40)
    again, others, _ = step_of(40)
    for p, q in zip(parameters, others, strict=True):
        q.assign(p.data)
    held = []

    def nothing():
        pass

    def gone():
        for p in parameters:
            p.grad = None

    def replaced():
        for p in parameters:
            p.grad = tg.tensor(np.zeros(p.shape))

    def eager():
        rate, optimizer = 0.0, optim.SGD(parameters, lr=0.0)
        (parameters[0].sum() * rate).backward()
        optimizer.zero_grad()

    def kept():
        held.extend(p.grad for p in parameters)

    def asking():
        for p in parameters:
            p.grad.requires_grad = True

    def with_other_arrays():
        for p in parameters:
            held.append(p.grad.data)
            p.grad.data = p.grad.data.copy()

    def watched():
        with tg.detect_nan():
            step(x)
            again(x)

    def another_size():
        step(x[:7])
        again(x[:7])

    changes = gone, replaced, eager, kept, asking, with_other_arrays, watched, another_size, nothing
    for between in changes * 2:
        between()
        for _ in range(70):  # until it is noted again
            np.testing.assert_array_equal(step(x).data, again(x).data)
            for p, q in zip(parameters, others, strict=True):
                assert not p.grad.requires_grad
                np.testing.assert_array_equal(p.data, q.data)
                np.testing.assert_array_equal(p.grad.data, q.grad.data)
        assert step._latest.gradients.words.same(0)


def test_state_that_somebody_refers_to_is_not_written_over():
    step, parameters, x = step_of(40)
    for p in parameters:
        for _ in range(5):
            step(x)
        assert step._latest.words.same(0)
        kept = p.data
        before = kept.copy()
        for _ in range(3):
            step(x)
        np.testing.assert_array_equal(kept, before)
        assert not np.shares_memory(kept, p.data)


def test_a_run_that_fails_leaves_nothing_to_go_on_with():
    weight = nn.Parameter(np.ones((20, 30)))
    optimizer = optim.SGD([weight], lr=0.1)

    @tg.compile(backend="native")
    def step(rows):
        optimizer.zero_grad()
        loss = weight[rows].sum()
        loss.backward()
        optimizer.step()
        return loss

    rows = np.array([0, 3])
    for _ in range(5):
        step(rows)
    recorded = step._latest
    assert recorded.words.same(0)
    assert recorded.gradients.words.same(0)
    with pytest.raises(IndexError):
        step(np.array([0, 20]))
    assert weight.grad is None
    assert not recorded.words.same(0)
    before = weight.data.copy()
    step(rows)
    before[rows] -= 0.1
    np.testing.assert_allclose(weight.data, before, rtol=1e-12)


def test_state_that_is_only_read_is_taken_anew_after_a_recording():
    model = nn.Linear(40, 30)
    x = np.random.default_rng(0).normal(size=(20, 40))
    f = tg.compile(lambda x: model(x), backend="native")
    wanted = model(x).data
    for rows in (20, 20, 20, 7, 20, 20, 7, 7):
        np.testing.assert_allclose(f(x[:rows]).data, wanted[:rows], rtol=1e-5)
