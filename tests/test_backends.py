"""Backends: each gives what the interpreter gives, over every operation with its gradients and random programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import CALLED, expression, expression_of_many_dtypes, gradients_of_expression, of_row, record

import tinygrad_dl as tg
from tinygrad_dl.compiler.backends import builder
from tinygrad_dl.compiler.fuse import LARGE, Kernel, cost
from tinygrad_dl.compiler.passes import simplify

NAMES = ["interpreter", "numpy", "native"]


def backend(name):
    if name == "native":
        pytest.importorskip("llvmlite")
    return builder(name)


def check(build, program, arrays, tolerance):
    """The same values, freshly owned, and inputs left alone."""
    expected = program.run(arrays)
    run, given = build(program), [a.copy() for a in arrays]
    for _ in range(2):
        outputs = run(given)
        for got, want in zip(outputs, expected, strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            assert not any(np.shares_memory(got, a) for a in given)
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    for a, b in zip(given, arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row", CALLED, ids=lambda row: row.name)
def test_every_operation_and_its_gradients(row):
    """The other backends have theirs in `test_passes.py` and `test_numpy_backend.py`."""
    found = of_row(row)
    if found is not None:
        check(backend("native"), simplify(found[0]), found[1], 1e-11)


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"), [(n, d, t) for n in NAMES for d, t in (("f8", 1e-12), ("f4", 1e-4))]
)
@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_random_programs(name, dtype, tolerance, seed):
    f, arrays = expression(np.random.default_rng(seed), dtype)
    check(backend(name), simplify(record(f, arrays)[0]), arrays, tolerance)


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_random_programs_of_many_dtypes(seed):
    f, arrays = expression_of_many_dtypes(np.random.default_rng(seed))
    with np.errstate(all="ignore"):
        check(backend("native"), simplify(record(f, arrays)[0]), arrays, 1e-4)


@pytest.mark.parametrize("name", ["numpy", "native"])
@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_gradients_of_random_programs(name, seed):
    f, arrays = gradients_of_expression(np.random.default_rng(seed))
    check(backend(name), simplify(record(f, arrays)[0]), arrays, 1e-9)


def test_a_name_that_there_is_not():
    with pytest.raises(ValueError, match="expected backend to be one of 'auto', 'native'"):
        tg.compile(np.exp, backend="fast")


def test_native_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("TINYGRAD_DL_NATIVE", "0")
    assert "numpy" in builder("auto").__module__


@pytest.mark.parametrize("reduce", [np.sum, np.max, np.min, np.prod, np.mean, np.var], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_a_number_may_be_reduced_along_an_axis(name, reduce):
    program, _ = record(lambda x: [reduce(x.mean(), axis=-1, keepdims=True)], [np.ones(3)])
    with np.errstate(all="raise"):
        check(backend(name), simplify(program), [np.arange(1.0, 4.0)], 0)


def test_a_long_chain_is_several_kernels():
    def f(x):
        for _ in range(100):
            x = np.tanh(x) + 0.1
        return [x]

    program = simplify(record(f, [np.ones((3, 5))])[0])
    kernels = [step for step in backend("native")(program).plan.order if isinstance(step, Kernel)]
    assert len(kernels) > 1
    assert all(sum(map(cost, kernel.nodes)) <= LARGE for kernel in kernels)
    check(backend("native"), program, [np.linspace(-2, 2, 15).reshape(3, 5)], 1e-12)
