"""The native backend copies by itself what slices, joins, pads, turns and exchanges axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import nn, ops, optim
from tinygrad_dl.ops import index, join

pytest.importorskip("llvmlite")

from written import Writer, check, replay

from tinygrad_dl.compiler.kernels import Kernels
from tinygrad_dl.compiler.native import dispatching, pool

F32 = np.dtype(np.float32)
GETITEM, SCATTER_ADD, SETITEM = index._getitem, index.scatter_add, index._setitem
JOIN, PAD = join._join, join._pad_zeros
DTYPES = [np.bool_, np.int8, np.uint16, np.float16, np.int32, np.float32, np.int64, np.float64, np.longdouble]

INDICES = [
    (slice(1, 3),),
    (slice(None), slice(None, None, -2)),
    (slice(3, 0, -1), 2, slice(1, None)),
    (..., 4),
    (1, ..., None, slice(1, 5, 3)),
    (2, -1, 3),
    (slice(None), slice(1, 2), slice(2, 4)),
]


def values(*shape: int, dtype: Any = F32) -> Any:
    """None of which is zero."""
    numbers = np.arange(1, np.prod(shape) + 1).reshape(shape)
    return (numbers % 100 + 1).astype(dtype) if dtype is not np.bool_ else numbers % 3 > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_slices_and_their_gradients(dtype: Any) -> None:
    w = Writer()
    x = w.input(values(4, 5, 6, dtype=dtype))
    parts = [w(GETITEM, x, index=i) for i in INDICES]
    back = [w(SCATTER_ADD, part, index=i, shape=(4, 5, 6)) for part, i in zip(parts, INDICES, strict=True)]
    check(w.program(*parts, *back), w.arrays)


@pytest.mark.parametrize("dtype", DTYPES)
def test_joined_padded_turned_and_written(dtype: Any) -> None:
    w = Writer()
    x, z, row = (w.input(values(*shape, dtype=dtype)) for shape in ((3, 4, 5), (3, 2, 5), (5,)))
    found = [w(JOIN, x, z, x, axis=1), w(JOIN, x, x, axis=-1), w(JOIN, z, z, z)]
    found += [w(PAD, x, pad_width=((1, 0), (0, 0), (2, 3))), w(PAD, row, pad_width=((0, 4),))]
    found += [w(ops.flip, x, axis=axis) for axis in (None, 1, (0, -1))]
    found += [w(ops.transpose, x, axes=axes) for axes in ((2, 0, 1), (1, 0, 2), (2, 1, 0))]
    found.append(w(ops.reshape, w(ops.transpose, x, axes=(1, 0, 2)), shape=(2, 30)))
    found.append(w(ops.broadcast_to, row, shape=(3, 4, 5)))
    found += [w(SETITEM, x, row, index=(1, slice(None, None, -2)))]
    found += [w(SETITEM, row, row, index=(slice(None, None, -1),))]
    native = check(w.program(*found), w.arrays)
    assert not Kernels(native.program).alone


def test_a_number_of_one_row_is_repeated_and_not_copied_as_a_row() -> None:
    """Neighbours in the source that are the same element, neighbours in the target."""
    w = Writer()
    x, column = w.input(values(4, 5)), w.input(values(4, 1))
    check(w.program(w(SETITEM, x, column, index=(slice(None), slice(1, 4)))), w.arrays)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_slices(data: Any) -> None:
    w = Writer()
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    x = w.input(values(*shape))
    bound = st.none() | st.integers(-4, 4)
    step = st.sampled_from([None, 1, 2, -1, -3])
    parts = [data.draw(st.builds(slice, bound, bound, step) | st.integers(-n, n - 1)) for n in shape]
    i = tuple(parts[: data.draw(st.integers(1, len(shape)))])
    assume(np.zeros(shape)[i].size)
    y = w(GETITEM, x, index=i)
    z = w(SCATTER_ADD, y, index=i, shape=shape)
    check(w.program(y, z, w(JOIN, z, x, axis=data.draw(st.integers(0, len(shape) - 1)))), w.arrays, parts=None)


def test_what_is_no_copy_stays_numpys() -> None:
    w = Writer()
    x, n = w.input(values(4, 5)), w.input(np.arange(20).reshape(4, 5))
    six = w.input(values(2, 3, 2, 3, 2, 3))
    turned = w(ops.transpose, six, axes=(5, 4, 3, 2, 1, 0))
    row, flat = w.input(values(5)), w.input(values(1, 1, 5))
    found = [w(JOIN, x, n), w(SETITEM, x, 2.0, index=(1,)), w(GETITEM, turned, index=(slice(1),))]
    found += [w(SCATTER_ADD, row, index=(slice(2),), shape=(4, 5)), w(SETITEM, x, flat, index=(1,))]
    found.append(w(ops.broadcast_to, 2.0, shape=(3, 4)))
    native = check(w.program(*found), w.arrays, parts=None)
    assert Kernels(native.program).alone == 6
    assert Kernels(native.program).copies == 1  # of the slice


def test_a_state_that_moves_into_itself() -> None:
    """What is read may not be overwritten meanwhile."""
    w = Writer()
    window, x = w.input(values(5, 3)), w.input(values(1, 3))
    kept = w(GETITEM, window, index=(slice(1, None),))
    replay(w.program(w(JOIN, kept, w(np.tanh, x)), updates={0: 0}), w.arrays, times=6)
    w = Writer()
    state = w.input(values(4, 4))
    replay(w.program(w(ops.flip, state, axis=0), updates={0: 0}), w.arrays, times=5)
    w = Writer()
    state, row = w.input(values(4, 4)), w.input(values(4) * 7)
    replay(w.program(w(SETITEM, state, row, index=(2,)), updates={0: 0}), w.arrays)


@pytest.mark.skipif(dispatching.FUTEX is None, reason="helper threads need Linux's futex")
def test_threads_share_large_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "threads", lambda: 3)
    w = Writer()
    x, row = w.input(values(301, 1000)), w.input(values(1000))
    found = [w(GETITEM, x, index=(slice(None, None, -1), slice(3, None))), w(ops.flip, x, axis=1)]
    found += [w(SCATTER_ADD, found[0], index=(slice(None), slice(0, 997)), shape=(301, 1000))]
    found += [w(JOIN, x, found[1], axis=1), w(SETITEM, x, row, index=(slice(None, None, -1),))]
    native = check(w.program(*found), w.arrays)
    tasks = [task for each in native.rounds for task in each.tasks]
    assert {task.step.name for task in tasks if task.start > 0} == {"getitem", "flip", "concatenate"}
    # where zeros stay, or what is copied first is written over, another thread could come before
    assert {task.end for task in tasks if task.step.name in ("scatter_add", "setitem")} == {1}


def test_recurrent_networks_run_without_numpy() -> None:
    """A gated one over some steps, its gates slices of one product, equal to eager."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, 3)), rng.integers(0, 4, 8)

    def trained(compiled: Any) -> tuple[list[float], list[Any]]:
        tg.seed(0)
        gates, last = nn.Linear(3 + 6, 24, dtype=np.float64), nn.Linear(6, 4, dtype=np.float64)
        optimizer = optim.Adam([*gates.parameters(), *last.parameters()], lr=0.05)

        @compiled
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            h = c = np.zeros((8, 6))
            for t in range(5):
                i, f, o, g = np.split(gates(np.concatenate([x[:, t], h], axis=1)), 4, axis=1)
                sigmoid = nn.functional.sigmoid
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            loss = nn.functional.cross_entropy(last(h), y)
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(tg.tensor(x), y).item() for _ in range(10)]
        if compiled is not eager:
            assert len(step._latest.run.parts) == 1
        return losses, [p.detach().numpy() for p in optimizer.param_groups[0]["params"]]

    def eager(f: Any) -> Any:
        return f

    losses, weights = trained(tg.compile(backend="native"))
    want, expected = trained(eager)
    np.testing.assert_allclose(losses, want, rtol=1e-12)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
