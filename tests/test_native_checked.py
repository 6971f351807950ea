"""The native backend looks up by integers itself, and NumPy says what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler import lowering
from tinygrad_dl.compiler.program import Program
from tinygrad_dl.nn import objectives
from tinygrad_dl.ops import index

pytest.importorskip("llvmlite")

from written import Writer, check

from tinygrad_dl.compiler.native.backend import build
from tinygrad_dl.compiler.native.checked import is_checked

GETITEM, SCATTER_ADD, ROWS = index._getitem, index.scatter_add, (index.ARRAY,)
INTEGERS = [np.int64, np.int32, np.int8, np.uint8, np.uint64]


def kept_from_numpy(native: Any) -> int:
    """How many operations that look up are machine code."""
    return sum(map(is_checked, native.plan.order))


@pytest.mark.parametrize("n", [1, 7, 8, 29])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8, np.uint64])
@pytest.mark.parametrize("ignored", [-100, 2, 2**40])
def test_labels_are_looked_at(n: int, dtype: Any, ignored: int) -> None:
    def program(labels: Any) -> tuple[Program, list[Any]]:
        w = Writer()
        given = w.input(labels)
        return w.program(w(np.multiply, w(objectives._safe, given, **static), 3)), w.arrays

    static = {"shape": (n, 5), "axis": 1, "ignore_index": ignored}
    labels = np.random.default_rng(n).integers(0, 5, n).astype(dtype)
    if ignored < 0 and np.iinfo(dtype).min < 0:
        labels[::3] = ignored
    native = check(*program(labels), parts=None)
    for place, wrong in ((0, 5), (n - 1, 127), (n // 2, -1 if np.iinfo(dtype).min < 0 else 200)):
        bad = labels.copy()
        bad[place] = wrong
        with pytest.raises(ValueError, match=f"label {wrong} at row {place} is outside the 5 classes"):
            native([bad])
    np.testing.assert_array_equal(native([labels])[0], program(labels)[0].run([labels])[0])


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(7,), (7, 5), (7, 3, 2)])
def test_rows_of_a_table(shape: tuple[int, ...], dtype: Any) -> None:
    def program(indices: Any) -> tuple[Program, list[Any]]:
        w = Writer()
        table, given = w.input(np.arange(1.0, np.prod(shape) + 1).reshape(shape)), w.input(indices)
        return w.program(w(np.multiply, w(GETITEM, table, given, index=ROWS), 3)), w.arrays

    indices = np.array([[0, 6, 2], [6, 6, 1]]).astype(dtype)
    if np.iinfo(dtype).min < 0:
        indices[1, 1] = -7
    native = check(*program(indices), parts=None)
    assert kept_from_numpy(native) == (dtype is not np.uint64)
    for place, wrong in (((0, 0), 7), ((1, 2), -8 if np.iinfo(dtype).min < 0 else 100)):
        bad = indices.copy()
        bad[place] = wrong
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for axis 0 with size 7"):
            native([program(indices)[1][0], bad])
    check(*program(indices), parts=None)


@pytest.mark.parametrize("n", [1, 7, 8, 29])
def test_indices_are_counted_from_the_front(n: int) -> None:
    w = Writer()
    given = np.random.default_rng(n).integers(-5, 5, n)
    native = check(w.program(w(np.multiply, w(lowering.bounded, w.input(given), size=5), 3)), w.arrays, parts=None)
    assert kept_from_numpy(native) == 1
    np.testing.assert_array_equal(native([given])[0], given % 5 * 3)
    for wrong in (5, -6, 2**62, -(2**62)):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for axis 1 with size 5"):
            native([np.append(given[1:], wrong)])


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.bool_, np.longdouble])
def test_rows_of_any_dtype(dtype: Any) -> None:
    w = Writer()
    table, given = w.input((np.arange(12).reshape(4, 3) % 5 > 1).astype(dtype)), w.input(np.array([3, 0, -1]))
    assert kept_from_numpy(check(w.program(w(GETITEM, table, given, index=ROWS)), w.arrays, parts=None)) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rest", [(), (1,), (5,), (16,), (3, 13)])
def test_rows_are_added_up_as_numpy_does(rest: tuple[int, ...], dtype: Any) -> None:
    """One after another: the very same bits."""
    rng = np.random.default_rng(0)
    w = Writer()
    rows, given = w.input(rng.normal(size=(4, 25, *rest)).astype(dtype)), w.input(rng.integers(-6, 6, (4, 25)))
    program = w.program(w(SCATTER_ADD, rows, given, index=ROWS, shape=(6, *rest)))
    native = build(program)
    assert kept_from_numpy(native) == 1
    want = np.zeros((6, *rest), dtype)
    np.add.at(want, w.arrays[1], w.arrays[0])
    for _ in range(2):
        np.testing.assert_array_equal(native(w.arrays)[0], want)
    bad = w.arrays[1].copy()
    bad[3, 24] = 6
    with pytest.raises(IndexError, match="out of bounds"):
        native([w.arrays[0], bad])


def test_what_else_is_looked_up_stays_numpys() -> None:
    w = Writer()
    x, i, g = w.input(np.arange(12.0).reshape(4, 3)), w.input(np.array([0, 2])), w.input(np.ones((2, 3), np.float16))
    mask = w.input(np.array([True, False, True, True]))
    found = [w(GETITEM, x, i, index=(slice(None), index.ARRAY)), w(GETITEM, x, i, i, index=(index.ARRAY, index.ARRAY))]
    found += [w(SCATTER_ADD, g, i, index=ROWS, shape=(4, 3)), w(GETITEM, x, mask, index=ROWS)]
    found.append(w(SCATTER_ADD, w.input(np.ones(3)), i, index=ROWS, shape=(4, 3)))
    assert kept_from_numpy(check(w.program(*found), w.arrays, parts=None)) == 0


def test_a_wrong_row_leaves_the_state_as_it_was() -> None:
    """Rows that would be written straight over it, and a step that goes on afterwards."""
    state = nn.Buffer(np.zeros((2, 3), np.float32))
    table, rows = tg.tensor(np.arange(12, dtype=np.float32).reshape(4, 3)), np.array([1, 3])

    @tg.compile(backend="native")
    def step(indices: Any) -> Any:
        state.assign(table[indices])
        return state.sum()

    for _ in range(3):
        assert step(rows).item() == rows.sum() * 9 + 6
    with pytest.raises(IndexError, match="index 4 is out of bounds"):
        step(np.array([0, 4]))
    np.testing.assert_array_equal(state.numpy(), table.numpy()[rows])
    assert step(np.array([0, 0])).item() == 6


def test_an_embedding_is_trained_as_by_eager_code() -> None:
    rng = np.random.default_rng(0)
    letters, following = rng.integers(0, 9, (16, 3)), rng.integers(0, 9, 16)

    def trained(compiled: Any) -> tuple[list[float], list[Any]]:
        tg.seed(0)
        table, layer = nn.Parameter(np.linspace(-1, 1, 36).reshape(9, 4)), nn.Linear(12, 9, dtype=np.float64)
        optimizer = optim.Adam([table, *layer.parameters()], lr=0.05)

        @compiled
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(np.tanh(layer(table[x].reshape(16, 12))), y)
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(letters, following).item() for _ in range(20)]
        return losses, [table.detach().numpy(), layer.weight.detach().numpy()]

    losses, weights = trained(tg.compile(backend="native"))
    want, expected = trained(lambda f: f)
    assert losses[-1] < losses[0] / 2
    np.testing.assert_allclose(losses, want, rtol=1e-12)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
