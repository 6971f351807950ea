"""Integers beside floating numbers, and edges: values are NumPy's, and narrow dtypes do not wrap around in rules."""

import numpy as np
import pytest

import tinygrad_dl as tg

VALUES = {
    "norm": lambda t: np.linalg.norm(t(np.array([50000, 50000], np.int32))),
    "norm of bytes": lambda t: np.linalg.norm(t(np.array([255, 255], np.uint8))),
    "norm of order 3": lambda t: np.linalg.norm(t(np.array([100, 100], np.int8)), 3),
    "norm of order -2": lambda t: np.linalg.norm(t(np.array([3, 4])), -2),
    "largest norm": lambda t: np.linalg.norm(t(np.array([-128], np.int8)), np.inf),
    "norm of a matrix": lambda t: np.linalg.norm(t(np.array([[100, -100], [100, 27]], np.int8)), 1),
    "norm of infinities": lambda t: np.linalg.norm(t(np.array([np.inf, np.inf])), -1),
    "average": lambda t: np.average(t(np.array([100, 50], np.uint8)), weights=np.array([3, 3], np.uint8)),
    "average of signed": lambda t: np.average(t(np.array([3, 50], np.int8)), weights=np.array([100, 100], np.int8)),
    "table of bytes": lambda t: np.interp(t(np.array([0.5])), np.array([0, 1]), np.array([200, 10], np.uint8)),
    "places of bytes": lambda t: np.interp(t(np.array([0.5])), np.array([-100, 100], np.int8), np.array([0.0, 1.0])),
    "one point": lambda t: np.interp(t(np.array([0.5, 1.0, 2.0])), [1.0], [4.0]),
    "no index": lambda t: np.take(t(np.arange(3.0)), []),
    "nothing to leave out": lambda t: np.delete(t(np.arange(3.0)), []),
    "a line of float32": lambda t: np.linspace(t(np.zeros(2, np.float32)), 3, 4),
    "vander": lambda t: np.vander(t(np.array([100, 2], np.int8)), 3),
    "vander of booleans": lambda t: np.vander(t(np.array([True, False])), 4),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_numpys(name):
    found = VALUES[name](tg.tensor).data
    with np.errstate(divide="ignore"):  # NumPy's own norm of infinities takes 0 ** -1
        expected = VALUES[name](np.asarray)
    assert found.dtype == np.asarray(expected).dtype
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def _derivative(f, x):
    return tg.grad(lambda t: f(t).sum())(np.array(x))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.int64])
@pytest.mark.parametrize("number", [100, 3])
def test_the_derivative_of_an_angle(dtype, number):
    other = np.array([number * (500 if dtype is np.int32 else 1)], dtype)
    b = float(other[0])
    np.testing.assert_allclose(_derivative(lambda x: np.arctan2(x, other), [1.0]), b / (1 + b * b), rtol=1e-14)
    np.testing.assert_allclose(_derivative(lambda x: np.arctan2(other, x), [1.0]), -b / (1 + b * b), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int8, np.int64])
def test_the_derivatives_of_a_power(dtype):
    exponents, x = np.array([0, 1, 2, 3], dtype), np.full(4, 100.0)
    np.testing.assert_allclose(_derivative(lambda t: t**exponents, x), [0, 1, 200, 30000], rtol=1e-14)
    second = tg.hessian(lambda t: (t**exponents).sum())(x)
    np.testing.assert_allclose(np.asarray(second), np.diag([0, 0, 2, 600]), rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8])
def test_the_derivative_by_the_exponent_of_an_integer(dtype):
    found = _derivative(lambda t: np.array([3], dtype) ** t, [2.0])
    np.testing.assert_allclose(found, 9 * np.log(3), rtol=1e-14)


def test_a_matrix_has_no_vandermonde_matrix():
    with pytest.raises(ValueError, match=r"vander: expected a vector, got shape \(2, 2\)"):
        np.vander(tg.tensor(np.ones((2, 2))))
