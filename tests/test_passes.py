"""Passes: a program means the same before and after each, over every operation and over random programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import CALLED, expression, of_row, record

import tinygrad_dl as tg
from tinygrad_dl.compiler import passes

PASSES = [passes.lowered, passes.unbroadcast, passes.folded, passes.shared, passes.live, passes.simplify]


def check(program, arrays, expected, rtol):
    for got, want in zip(program.run(arrays), expected, strict=True):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol, equal_nan=True)


@pytest.mark.parametrize("row", CALLED, ids=lambda row: row.name)
def test_every_operation_and_its_gradients(row):
    found = of_row(row)
    if found is None:
        return
    program, arrays, results = found
    check(program, arrays, results, 0)
    for rewrite in PASSES:
        check(rewrite(program), arrays, program.run(arrays), 1e-13)


@given(st.integers(0, 2**32))
def test_random_programs(seed):
    rng = np.random.default_rng(seed)
    f, arrays = expression(rng)
    program, results = record(f, arrays)
    check(program, arrays, results, 0)
    for rewrite in PASSES:
        check(rewrite(program), arrays, results, 1e-13)
    again = [rng.normal(size=a.shape) for a in arrays]
    check(passes.simplify(program), again, [y.data for y in f(*map(tg.tensor, again))], 1e-12)


def counted(f, *arrays):
    return [s.op.name for s in passes.simplify(record(f, arrays)[0]).body]


X = np.arange(6.0).reshape(2, 3)


def test_equal_instructions_are_run_once():
    assert counted(lambda x: [np.exp(x) + np.exp(x)], X) == ["exp", "add"]


def test_what_nothing_needs_is_not_run():
    def f(x):
        np.exp(x)
        return [x * 2]

    assert counted(f, X) == ["multiply"]


def test_constants_are_computed_once():
    assert counted(lambda x: [x + np.exp(tg.tensor(np.ones(3)))], X) == ["add"]


def test_elementwise_operations_broadcast_by_themselves():
    assert counted(lambda x: [x + np.broadcast_to(x[0], (2, 3))], X) == ["getitem", "add"]


def test_what_changes_nothing_goes():
    assert counted(lambda x: [x.T.T * 1 + x.reshape(3, 2).reshape(2, 3).astype(np.float64)], X) == ["add"]


def test_composites_become_basic():
    assert counted(lambda x: [nn_relu(x), x.mean(axis=0)], X) == ["maximum", "sum", "multiply"]


def nn_relu(x):
    return tg.nn.functional.relu(x)


def test_a_float32_program_stays_float32():
    program, _ = record(lambda x: [(x.mean(axis=0) * 2.5 + np.tanh(x)).sum()], [X.astype(np.float32)])
    assert {v.dtype for s in passes.simplify(program).body for v in s.outputs} == {np.dtype(np.float32)}
