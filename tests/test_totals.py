"""Kernels that totals leave, in parts: the same numbers on any number of threads, and NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_dl as tg

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import codegen, pool
from tinygrad_dl.compiler.native.backend import Native

STEPS = {
    "sum": lambda x: np.sum(x * x),
    "mean and extremes": lambda x: (np.mean(x), np.max(x), np.min(x + 1)),
    "product": lambda x: np.prod(1 + x / 1000),
    "sum of columns": lambda x: np.sum(x * x, axis=0),
    "sum of columns and all": lambda x: (np.sum(x, axis=0), np.sum(np.abs(x))),
    "what needs the sum": lambda x: x / np.sqrt(np.sum(x * x)),
    "rows and all": lambda x: np.mean(np.max(x, axis=-1) - np.sum(x, axis=-1)),
    "a total and its values": lambda x: (np.tanh(x), np.sum(np.tanh(x))),
}
SHAPES = [(1000, 40), (4001, 10), (33, 2000), (70_001,), (3, 5, 3000)]


def outcome(function, x, threads, monkeypatch):
    monkeypatch.setattr(pool, "threads", lambda: threads)
    compiled = tg.compile(function, backend="native")
    for _ in range(3):
        results = compiled(x)
    results = results if isinstance(results, tuple) else (results,)
    assert isinstance(compiled._latest.run, Native)
    return [np.array(r.numpy()) for r in results], compiled._latest.run


@pytest.mark.parametrize("part", [1e-3, codegen.PART])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("name", STEPS)
def test_totals_in_parts_are_numpys_on_any_number_of_threads(monkeypatch, name, dtype, part):
    monkeypatch.setattr(codegen, "PART", part)
    rng, function = np.random.default_rng(0), STEPS[name]
    for shape in SHAPES:
        x = (rng.normal(size=shape) * (1 if dtype != np.int32 else 50)).astype(dtype)
        wanted = function(x.astype(np.float64))
        alone = outcome(function, x, 1, monkeypatch)[0]
        for found, want in zip(alone, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            error = np.linalg.norm(found - want) / np.linalg.norm(want)
            exact = found.dtype.kind != "f" or found.itemsize == 8
            assert error <= (1e-12 if exact else 1e-4 if name == "product" else 2e-6)  # of up to 70,001 factors
        for threads in (2, 3):
            for a, b in zip(outcome(function, x, threads, monkeypatch)[0], alone, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(2000, 2000), (400_000, 10), (2**20,)])
def test_threads_share_what_a_total_leaves(monkeypatch, shape):
    x = np.ones(shape, np.float32)
    for name in ("sum", "mean and extremes", "what needs the sum"):
        native = outcome(STEPS[name], x, 2, monkeypatch)[1]
        assert any(each.shared for each in native.rounds)
        assert not any(len(each.tasks) == 1 and each.tasks[0].time > 1.0 for each in native.rounds)


def test_a_sum_of_many_numbers_is_as_exact_as_numpys(monkeypatch):
    """Sixty-four parts of 32 numbers side by side, where one would be off by 1e-5 or more."""
    x = np.random.default_rng(0).random(4_000_000, np.float32)
    exact = float(np.sum(x, dtype=np.float64))
    (found,), _ = outcome(np.sum, x, 1, monkeypatch)
    assert abs(found - exact) <= 1e-6 * exact


def test_a_total_is_the_same_where_a_program_runs_again(monkeypatch):
    """The parts that are done are counted anew."""
    monkeypatch.setattr(codegen, "PART", 1e-3)
    monkeypatch.setattr(pool, "threads", lambda: 2)
    compiled = tg.compile(lambda x: np.sum(x, axis=0), backend="native")
    for i in range(50):
        x = np.full((3000, 7), i, np.float64)
        np.testing.assert_array_equal(compiled(x).numpy(), np.full(7, 3000.0 * i))


def test_small_kernels_stay_whole(monkeypatch):
    """Parts of 100 elements would be nothing but calls."""
    monkeypatch.setattr(pool, "threads", lambda: 2)
    native = outcome(STEPS["sum"], np.ones((10, 10), np.float32), 2, monkeypatch)[1]
    assert [len(each.tasks) for each in native.rounds] == [1]
    assert native.kernels == 1


@pytest.mark.parametrize("width", [1, 2, 3, 7, 10, 17, 31, 33, 50, 63, 100, 127, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_rows_of_any_width_are_summed_up(monkeypatch, width, dtype):
    """Their vectors are carried along with some numbers more."""
    x = np.random.default_rng(width).integers(-50, 50, (700, width)).astype(dtype)
    function = lambda x: (np.sum(x, axis=0), np.max(x * 2, axis=0), np.sum(x, axis=1))
    for found, want in zip(outcome(function, x, 1, monkeypatch)[0], function(x), strict=True):
        np.testing.assert_array_equal(found, want)
