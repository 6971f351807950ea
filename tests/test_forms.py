"""The forms that an array can have: 0-d, empty, not contiguous, of three precisions and narrow dtypes."""

import numpy as np
import pytest
from op_table_row import weights

import tinygrad_dl as tg
from tinygrad_dl.nn import functional as F

# The forms of arrays. Every function takes an array of positive numbers, of any shape unless it says `matrix`.


FORMS = {
    **{f.__name__: f for f in (
        np.exp, np.log, np.sqrt, np.cbrt, np.tanh, np.sin, np.abs, np.sign, np.square, np.reciprocal, np.expm1,
        np.arctan, np.rint, np.negative, np.sum, np.mean, np.var, np.std, np.prod, np.cumsum, np.cumprod, np.ravel,
        np.transpose, np.flip, np.copy, np.sinc, np.nan_to_num, np.linalg.norm, np.nansum, np.squeeze, np.atleast_2d,
        F.relu, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.softplus, F.sigmoid, tg.ops.logsumexp)},
    "x + 1": lambda x: x + 1,
    "2 - x": lambda x: 2 - x,
    "x * x": lambda x: x * x,
    "1 / x": lambda x: 1 / x,
    "x ** 3": lambda x: x**3,
    "2 ** x": lambda x: 2**x,
    "x ** x": lambda x: x**x,
    "x % 0.3": lambda x: x % 0.3,
    "maximum": lambda x: np.maximum(x, 0.5),
    "arctan2": lambda x: np.arctan2(x, 2),
    "logaddexp": lambda x: np.logaddexp(x, x),
    "clip": lambda x: np.clip(x, 0.3, 0.6),
    "where": lambda x: np.where(x > 0.5, x, 0),
    "reshape": lambda x: x.reshape(-1),
    "x[None]": lambda x: x[None],
    "x[..., None]": lambda x: x[..., None],
    "x[x > 0.5]": lambda x: x[x > 0.5],
    "stack": lambda x: np.stack([x, x], -1),
    "tile": lambda x: np.tile(x, 2),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, *x.shape)),
    "outer": lambda x: np.outer(x, x),
    "dot of ravels": lambda x: x.ravel() @ x.ravel(),
    "einsum": lambda x: np.einsum("...,...->...", x, x),
    "mse_loss": lambda x: F.mse_loss(x, np.ones_like(x)) if x.size else x * 1,
}  # fmt: skip
MATRIX = {
    "max": lambda x: np.max(x, axis=1),
    "sum over axes": lambda x: np.sum(x, axis=(0, -1), keepdims=True),
    "mean over an axis": lambda x: np.mean(x, axis=-1),
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "sort": np.sort,
    "matmul": lambda x: x @ x.T,
    "tensordot": lambda x: np.tensordot(x, x, (1, 1)),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "concatenate": lambda x: np.concatenate([x, x], 1),
    "roll": lambda x: np.roll(x, 1, 0),
    "pad": lambda x: np.pad(x, 1),
    "repeat": lambda x: np.repeat(x, 2, 0),
    "tril": np.tril,
    "diagonal": np.diagonal,
    "diff": lambda x: np.diff(x, axis=0),
    "x[::-1, 1:]": lambda x: x[::-1, 1:],
    "take": lambda x: x.take([-1, -1, 0], 1),
    "linear": lambda x: F.linear(x, x, None),
    "cross_entropy": lambda x: F.cross_entropy(x, np.zeros(len(x), int)),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
}
LAYOUTS = {
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::-1],
    "every other": lambda x: x[::2, 1::2],
    "a column": lambda x: x[:, 1:2],
}


def value_and_gradient(f, x, seed=lambda w: w):
    y = f(x)
    w = seed(weights(y.data, 1).astype(y.dtype))
    return y, tg.gradients(y, x, w)[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    array = np.random.default_rng(0).uniform(0.1, 0.9, (4, 6))
    for name, f in {**FORMS, **MATRIX}.items():
        for seed in (np.copy, lambda w: w.copy(order="F"), lambda w: w[..., ::-1] if w.ndim else w):
            view = LAYOUTS[layout](tg.tensor(array, requires_grad=True))
            assert not view.data.flags.c_contiguous
            y, g = value_and_gradient(f, view, seed)
            expected, slope = value_and_gradient(
                f, tg.tensor(view, requires_grad=True), lambda w, s=seed: s(w).copy("C")
            )
            np.testing.assert_allclose(y.data, expected.data, rtol=1e-14, err_msg=name)
            np.testing.assert_allclose(g.data, slope.data, rtol=1e-13, atol=1e-14, err_msg=name)


@pytest.mark.filterwarnings("ignore:(Mean|Degrees)")  # NumPy's, of nothing
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0)])
def test_shapes_without_axes_or_elements(shape):
    array = np.full(shape, 0.7)
    with np.errstate(all="ignore"):
        for name, f in FORMS.items():
            y, g = value_and_gradient(f, tg.tensor(array, requires_grad=True))
            assert (g.shape, g.dtype) == (shape, np.float64), name
            expected = np.asarray(f(array))  # without a Tensor it is NumPy that answers
            assert y.shape == expected.shape, name
            np.testing.assert_allclose(y.data, expected, err_msg=name)


def test_0d_gradients_are_those_of_one_element():
    for name, f in FORMS.items():
        _, g = value_and_gradient(f, tg.tensor(np.array(0.7), requires_grad=True))
        _, of_one = value_and_gradient(f, tg.tensor(np.array([0.7]), requires_grad=True))
        np.testing.assert_allclose(g.data, of_one.data[0], err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precisions(dtype):
    array = np.random.default_rng(0).uniform(0.1, 0.9, (4, 6)).astype(dtype)
    tolerance = 32 * np.finfo(dtype).eps
    for name, f in {**FORMS, **MATRIX}.items():
        y, g = value_and_gradient(f, tg.tensor(array, requires_grad=True))
        expected, slope = value_and_gradient(f, tg.tensor(array.astype(np.float64), requires_grad=True))
        assert (y.dtype, g.dtype) == (dtype, dtype), name
        np.testing.assert_allclose(y.data, expected.data, rtol=tolerance, atol=tolerance, err_msg=name)
        np.testing.assert_allclose(g.data, slope.data, rtol=tolerance, atol=tolerance, err_msg=name)


PLACES = np.array([2, 0, 2, 5, 1, 2])
INTEGRAL = {
    "tril": np.tril,
    "triu": lambda x: np.triu(x, 1),
    "nan_to_num": np.nan_to_num,
    "bincount": lambda x: np.bincount(PLACES, weights=x.reshape(-1)),
    "a sum of each row": lambda x: np.einsum("ij->i", x),
    "a sum of all": lambda x: np.einsum("ij->", x),
    "a product of sums": lambda x: np.einsum("ij,kl->", x, x),
    "a product of three": lambda x: np.einsum("ij,ij,ij->i", x, x, np.ones((2, 3), np.int16)),
    "with a wider one": lambda x: np.einsum("ij,k->k", x, np.arange(3, dtype=np.int16)),
    "with a float": lambda x: np.einsum("ij,k->k", x, np.ones(3, np.float32)),
}


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int32, np.uint64, np.float16, np.float32])
@pytest.mark.parametrize("name", INTEGRAL)
def test_narrow_dtypes_are_numpys(name, dtype):
    x = np.array([[100, 90, 0], [1, 20, 20]]).astype(dtype)
    got, expected = INTEGRAL[name](tg.tensor(x)), INTEGRAL[name](x)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_gradient_of_weights_in_bins_has_their_dtype(dtype):
    w = tg.tensor(np.ones(6, dtype), requires_grad=True)
    np.bincount(PLACES, weights=w).backward(np.arange(6.0))
    assert w.grad.dtype == dtype
    np.testing.assert_array_equal(w.grad.numpy(), PLACES)


@pytest.mark.parametrize(("x", "weights"), [([0, -1], [1.0, 2.0]), ([0, 1], [1.0]), ([0.5], [1.0])], ids=str)
def test_bins_are_refused_as_numpy_does(x, weights):
    for given in (weights, tg.tensor(weights)):
        with pytest.raises((ValueError, TypeError)):
            np.bincount(np.array(x), weights=given)


def test_axes_of_an_ellipsis_do_not_vanish():
    np.testing.assert_array_equal(np.einsum("i...->i", tg.tensor([1.0, 2.0])).numpy(), [1, 2])
    for given in (np.ones((2, 3)), tg.tensor(np.ones((2, 3)))):
        with pytest.raises(ValueError, match=r"i\.\.\.->i|ellipsis"):
            np.einsum("i...->i", given)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
@pytest.mark.parametrize("table", [(5, 300), (5, 2, 3), (5, 1), (5, 0), (5,)], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (40,), (2, 3)], ids=str)
def test_gradients_of_rows_that_are_named_again(shape, table, dtype):
    """As NumPy adds them up, number by number; -1 is the last row, in whatever dtype an index is."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0 if dtype in (np.uint8, np.uint64) else -5, 5, shape).astype(dtype)
    x = tg.tensor(rng.normal(size=table).astype(np.float32), requires_grad=True)
    g = rng.normal(size=(*shape, *table[1:])).astype(np.float32)
    x[rows].backward(g)
    want = np.zeros(table, np.float32)
    np.add.at(want, rows, g)
    np.testing.assert_array_equal(x.grad.numpy(), want)
