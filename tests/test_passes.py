"""Passes: a program means the same before and after each, over every operation and over random programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import CALLED, expression, of_row, record

import tinygrad_dl as tg
from tinygrad_dl.compiler import passes

PASSES = [passes.lowered, passes.unbroadcast, passes.batched, passes.joined, passes.folded, passes.shared, passes.live]
PASSES += [passes.checked_first, passes.simplify]


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


TABLE = np.ones(3000)
OTHER = np.where(np.arange(3000) == 1500, 7.0, 1.0)  # which NumPy prints as the same text
CLOSE = np.full(3, 1 + 1e-12)
times = tg.primitive(lambda x, table: x * table, lambda g, y, x, table: g * table, name="times")


@pytest.mark.parametrize(
    "f",
    [
        lambda x: [x / 0.0, x / -0.0],
        lambda x: [np.copysign(x, 0.0), np.copysign(x, -0.0)],
        lambda x: [times(x[0, 0], table=TABLE), times(x[0, 0], table=OTHER)],
        lambda x: [times(x[0, 0], table=np.ones(3)), times(x[0, 0], table=CLOSE)],
        lambda x: [x[:1], x[:2], x[0:1]],
        lambda x: [np.full_like(x, True) + x, np.full_like(x, 2) + x],
    ],
    ids=["divide", "sign", "long arrays", "close arrays", "slices", "flags"],
)
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_instructions_that_only_look_equal_are_all_run(f, backend):
    compiled = tg.compile(f, backend=backend)
    x = np.array([[1.0, -2.0], [3.0, 4.0]])
    for _ in range(2):
        for got, want in zip(compiled(x), f(tg.tensor(x)), strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: tg.nn.functional.cross_entropy(x, y),
        lambda x, y: x[np.arange(2), y],
        lambda x, y: np.take_along_axis(x, y[:, None], 1),
    ],
    ids=["loss", "pick", "take"],
)
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_what_nothing_needs_fails_all_the_same(f, backend):
    compiled = tg.compile(lambda x, y: (f(x, y), x * 2)[1], backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(X, np.array([0, 2])).numpy(), 2 * X)
        with pytest.raises((ValueError, IndexError)):
            compiled(X, np.array([0, 3]))


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


def gradient_of(f):
    def slope(x):
        t = x.detach()
        t.requires_grad = True
        return tg.gradients([f(t)], [t])

    return slope


M = np.random.default_rng(0).normal(size=(4, 6))


@pytest.mark.parametrize(
    ("f", "operations"),
    [
        (lambda x: sum(np.exp(p * k).sum() for k, p in enumerate(np.split(x, 3, axis=1), 1)), "concatenate"),
        (lambda x: sum(np.exp(x[t] * t).sum() for t in range(4)), "concatenate"),  # rows without their axis
        (lambda x: (np.exp(x[..., 4:]).sum() + np.exp(x[:, :-2] * 2).sum()) + np.exp(x).sum(), "concatenate add"),
        (lambda x: np.exp(x[:, :3]).sum() + np.exp(x[:, 2:] * 2).sum(), "scatter_add scatter_add add"),  # overlap
        (lambda x: np.exp(x[:, :2]).sum() + np.exp(x[:, 3:] * 2).sum(), "scatter_add scatter_add add"),  # leave a gap
        (lambda x: np.exp(x[:, :3]).sum() + np.exp(x[:, :3] * 2).sum(), "scatter_add scatter_add add"),  # the same
        (lambda x: np.exp(x[:2, :3]).sum() + np.exp(x[2:, 3:] * 2).sum(), "scatter_add scatter_add add"),  # corners
        (lambda x: np.exp(x[:, ::2]).sum() + np.exp(x[:, 1::2] * 2).sum(), "scatter_add scatter_add add"),
    ],
)
def test_sums_of_parts_that_fill_an_array_are_joined(f, operations):
    slope = gradient_of(f)
    program, results = record(slope, [M])
    check(passes.joined(program), [M], results, 1e-13)
    names = [s.op.name for s in passes.simplify(program).body]
    assert [n for n in names if n in ("scatter_add", "concatenate", "add")] == operations.split()
    check(passes.simplify(program), [M], results, 1e-13)


def test_a_sum_of_parts_that_is_read_besides_stays():
    """The sum of two of three, which is a result, too."""

    def f(x):
        first, second, third = (
            tg.ops.index.scatter_add(x[:, i], index=(slice(None), i), shape=(4, 3)) for i in range(3)
        )
        both = first + second
        return [both, both + third]

    program, results = record(f, [M])
    check(passes.simplify(program), [M], results, 0)


def test_sums_that_double_take_no_longer_each_time():
    def f(x):
        for _ in range(60):
            x = x + x
        return [x]

    program, results = record(f, [M])
    check(passes.joined(program), [M], results, 0)


def test_composites_become_basic():
    assert counted(lambda x: [nn_relu(x), x.mean(axis=0)], X) == ["maximum", "sum", "multiply"]


def nn_relu(x):
    return tg.nn.functional.relu(x)


def test_a_float32_program_stays_float32():
    program, _ = record(lambda x: [(x.mean(axis=0) * 2.5 + np.tanh(x)).sum()], [X.astype(np.float32)])
    assert {v.dtype for s in passes.simplify(program).body for v in s.outputs} == {np.dtype(np.float32)}
