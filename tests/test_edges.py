"""Ties, kinks and edges: values and gradients are PyTorch's, and numbers where PyTorch has numbers."""

import numpy as np
import pytest
from op_table_row import weights

import tinygrad_dl as tg
from tinygrad_dl.nn import functional as F

inf, nan = np.inf, np.nan
EVERY = [-1e4, -40.0, -1.0, -0.0, 0.0, 1.0, 20.0, 21.0, 1e4, inf, -inf]
ROWS = [[0.0, -inf], [1e4, -1e4], [-1e4, -1e4], [nan, 1.0]]
# name: ours, PyTorch's (of `T`, the module, and arrays), arrays. No warning may come up.
QUIET = {
    "relu": (F.relu, lambda T, x: T.relu(x), [*EVERY, nan]),
    "leaky_relu": (F.leaky_relu, lambda T, x: T.nn.functional.leaky_relu(x), [*EVERY, nan]),
    "elu": (F.elu, lambda T, x: T.nn.functional.elu(x), EVERY),
    "elu 2": (lambda x: F.elu(x, 2.0), lambda T, x: T.nn.functional.elu(x, 2.0), EVERY),
    "selu": (F.selu, lambda T, x: T.nn.functional.selu(x), EVERY),
    "gelu": (F.gelu, lambda T, x: T.nn.functional.gelu(x), EVERY[:-2]),
    "gelu tanh": (lambda x: F.gelu(x, "tanh"), lambda T, x: T.nn.functional.gelu(x, approximate="tanh"), EVERY[:-2]),
    "silu": (F.silu, lambda T, x: T.nn.functional.silu(x), EVERY[:-2]),
    "softplus": (F.softplus, lambda T, x: T.nn.functional.softplus(x), EVERY),
    "sigmoid": (F.sigmoid, lambda T, x: T.sigmoid(x), [*EVERY, nan]),
    "tanh": (np.tanh, lambda T, x: T.tanh(x), [*EVERY, nan]),
    "abs": (np.abs, lambda T, x: T.abs(x), EVERY),
    "sign": (np.sign, lambda T, x: T.sign(x), EVERY),
    "square": (np.square, lambda T, x: T.square(x), [-3.0, -0.0, 0.0, 1e4]),
    "sinc": (np.sinc, lambda T, x: T.sinc(x), [0.0, -0.0, 1.0, -2.0]),
    "round": (np.round, lambda T, x: T.round(x), [0.5, 1.5, -0.5, 2.0]),
    "x ** 0": (lambda x: x**0, lambda T, x: x**0, [0.0, 1.0, -2.0, nan, inf]),
    "x ** 1": (lambda x: x**1, lambda T, x: x**1, [0.0, 1.0, -2.0, nan, inf]),
    "x ** 2": (lambda x: x**2, lambda T, x: x**2, [0.0, 1.0, -2.0, nan, inf]),
    "0 ** b": (lambda b: 0**b, lambda T, b: 0**b, [0.0, 1.0, 2.0, 0.5]),
    "2 ** b": (lambda b: 2**b, lambda T, b: 2**b, [0.0, 1.0, inf, -inf]),
    "power": (np.power, lambda T, a, b: T.pow(a, b), [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 0.0]),
    "float_power": (np.float_power, lambda T, a, b: T.float_power(a, b), [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]),
    "max": (np.max, lambda T, x: T.amax(x), [3.0, 1.0, 3.0, 3.0]),
    "max of all": (np.max, lambda T, x: T.max(x), [3.0, 1.0, 3.0, nan, nan]),
    "max over an axis": (lambda x: np.max(x, axis=1), lambda T, x: T.amax(x, 1), [[3.0, 3.0], [1.0, 3.0], [-inf] * 2]),
    "min": (np.min, lambda T, x: T.amin(x), [[3.0, 1.0], [1.0, 3.0]]),
    "ptp": (np.ptp, lambda T, x: T.amax(x) - T.amin(x), [2.0, 2.0, 2.0]),
    "maximum": (np.maximum, lambda T, a, b: T.maximum(a, b), [1.0, 0.0, nan, 1.0, nan], [1.0, -0.0, 1.0, nan, nan]),
    "minimum": (np.minimum, lambda T, a, b: T.minimum(a, b), [1.0, 0.0, nan, 1.0, nan], [1.0, -0.0, 1.0, nan, nan]),
    "fmax": (np.fmax, lambda T, a, b: T.fmax(a, b), [1.0, 0.0, nan, 1.0, nan], [1.0, -0.0, 1.0, nan, nan]),
    "fmin": (np.fmin, lambda T, a, b: T.fmin(a, b), [1.0, 0.0, nan, 1.0, nan], [1.0, -0.0, 1.0, nan, nan]),
    "clip": (lambda x: np.clip(x, -1, 1), lambda T, x: T.clamp(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0, nan, inf]),
    "clip below": (lambda x: np.clip(x, -1, None), lambda T, x: T.clamp(x, -1), [-2.0, -1.0, 0.0, nan, -inf]),
    "clip to arrays": (
        np.clip,
        lambda T, x, low, high: T.clamp(x, low, high),
        [-2.0, -1.0, 1.0, 2.0, 0.0, 3.0, 1.0, 1.0, nan],
        [-1.0, -1.0, -1.0, -1.0, 1.0, 2.0, 1.0, 2.0, 0.0],
        [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0],
    ),
    "prod": (np.prod, lambda T, x: T.prod(x), [2.0, 5.0, 3.0]),
    "prod, a zero": (np.prod, lambda T, x: T.prod(x), [2.0, 0.0, 3.0]),
    "prod, two zeros": (np.prod, lambda T, x: T.prod(x), [2.0, 0.0, 0.0, 3.0]),
    "prod over an axis": (lambda x: np.prod(x, axis=0), lambda T, x: T.prod(x, 0), [[2.0, 0.0], [0.0, 3.0], [4, 0]]),
    "cumprod": (np.cumprod, lambda T, x: T.cumprod(x, 0), [2.0, 3.0, 0.0, 5.0, 0.0, 7.0]),
    "norm": (np.linalg.norm, lambda T, x: T.linalg.norm(x), [0.0, 0.0]),
    "norm 1": (lambda x: np.linalg.norm(x, 1), lambda T, x: T.linalg.norm(x, 1), [0.0, 2.0, -2.0]),
    "norm 3": (lambda x: np.linalg.norm(x, 3), lambda T, x: T.linalg.norm(x, 3), [0.0, 2.0]),
    "norm 3 of zeros": (lambda x: np.linalg.norm(x, 3), lambda T, x: T.linalg.norm(x, 3), [0.0, 0.0]),
    "norm inf": (lambda x: np.linalg.norm(x, inf), lambda T, x: T.linalg.norm(x, inf), [2.0, -2.0, 1.0]),
    "norm -inf": (lambda x: np.linalg.norm(x, -inf), lambda T, x: T.linalg.norm(x, -inf), [2.0, -2.0, 3.0]),
    "norm inf of zeros": (lambda x: np.linalg.norm(x, inf), lambda T, x: T.linalg.norm(x, inf), [0.0, 0.0]),
    "var of a constant": (np.var, lambda T, x: T.var(x, correction=0), [3.0, 3.0, 3.0]),
    "var of one": (np.var, lambda T, x: T.var(x, correction=0), [3.0]),
    "std of a constant": (np.std, lambda T, x: T.std(x, correction=0), [3.0, 3.0, 3.0]),
    "std of one": (np.std, lambda T, x: T.std(x, correction=0), [3.0]),
    "logsumexp": (F.logsumexp, lambda T, x: T.logsumexp(x, -1), ROWS),
    "softmax": (F.softmax, lambda T, x: T.softmax(x, -1), ROWS),
    "log_softmax": (F.log_softmax, lambda T, x: T.log_softmax(x, -1), ROWS),
    "logaddexp": (np.logaddexp, lambda T, a, b: T.logaddexp(a, b), [0.0, -inf, 1e4, -1e4], [0.0, 0.0, -1e4, 1e4]),
    "arctan2": (np.arctan2, lambda T, a, b: T.arctan2(a, b), [0.0, 0.0, 1.0, 0.0, -0.0], [0.0, 1.0, 0.0, -1.0, -1.0]),
    "sort": (np.sort, lambda T, x: T.sort(x, stable=True).values, [2.0, 1.0, 2.0, 1.0, nan]),
    "quantile": (lambda x: np.quantile(x, 0.5), lambda T, x: T.quantile(x, 0.5), [2.0, 1.0, 2.0, 2.0, 3.0]),
    "where, NaN unselected": (
        lambda a, b: np.where(np.isnan(b), a, b),
        lambda T, a, b: T.where(T.isnan(b), a, b),
        [1.0, 2.0, nan],
        [nan, 3.0, 4.0],
    ),
    "nan_to_num": (np.nan_to_num, lambda T, x: T.nan_to_num(x), [nan, inf, -inf, 1.0]),
    "nansum": (np.nansum, lambda T, x: T.nansum(x), [nan, 1.0, 2.0]),
    "nanmean": (np.nanmean, lambda T, x: T.nanmean(x), [nan, 1.0, 2.0]),
    "copysign": (np.copysign, lambda T, a, b: T.copysign(a, b), [1.0, 0.0, -1.0, 0.0], [0.0, -1.0, -0.0, 1.0]),
    "remainder": (np.remainder, lambda T, a, b: T.remainder(a, b), [3.0, 4.0, -3.0, -4.0], [2.0, 2.0, 2.0, -2.0]),
    "fmod": (np.fmod, lambda T, a, b: T.fmod(a, b), [3.0, 4.0, -3.0, -4.0], [2.0, 2.0, 2.0, -2.0]),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, np.array([0, 1, 0])),
        lambda T, x: T.nn.functional.cross_entropy(x, T.tensor([0, 1, 0])),
        ROWS[:3],
    ),
    "l1_loss": (F.l1_loss, lambda T, a, b: T.nn.functional.l1_loss(a, b), [0.0, 1.0, 2.0], [0.0, -1.0, 2.0]),
    "huber_loss": (F.huber_loss, lambda T, a, b: T.nn.functional.huber_loss(a, b), [0.0, 1.0, 2.0], [0.0, 0.0, 3.0]),
    "binary_cross_entropy_with_logits": (
        lambda x: F.binary_cross_entropy_with_logits(x, np.array([0.0, 1.0, 1.0, 0.0, 0.5])),
        lambda T, x: T.nn.functional.binary_cross_entropy_with_logits(x, T.tensor([0.0, 1.0, 1.0, 0.0, 0.5]).double()),
        [1e4, 1e4, -1e4, -1e4, 0.0],
    ),
    "sum of nothing": (np.sum, lambda T, x: T.sum(x), np.zeros((0, 3))),
    "prod of nothing": (np.prod, lambda T, x: T.prod(x), np.zeros((0, 3))),
    "logsumexp of nothing": (tg.ops.logsumexp, lambda T, x: T.logsumexp(x, 0), np.zeros(0)),
}  # fmt: skip
# Where NumPy warns that a value is infinite or not a number.
LOUD = {
    "sqrt": (np.sqrt, lambda T, x: T.sqrt(x), [0.0, 1.0, inf, -1.0]),
    "x ** 0.5": (lambda x: x**0.5, lambda T, x: x**0.5, [0.0, 4.0, inf]),
    "x ** -1": (lambda x: x**-1, lambda T, x: x**-1, [0.0, 4.0, inf]),
    "0 ** b": (lambda b: 0**b, lambda T, b: 0**b, [-1.0, 1.0]),
    "power": (np.power, lambda T, a, b: T.pow(a, b), [0.0, 0.0, -2.0, -2.0, -2.0], [-1.0, 0.5, 0.0, 2.0, 0.5]),
    "reciprocal": (np.reciprocal, lambda T, x: T.reciprocal(x), [0.0, -0.0, inf, nan]),
    "divide": (np.divide, lambda T, a, b: a / b, [1.0, 0.0, -1.0, 0.0, inf, 1.0], [0.0, 0.0, 0.0, 1.0, inf, inf]),
    "log": (np.log, lambda T, x: T.log(x), [0.0, -1.0, inf]),
    "log2": (np.log2, lambda T, x: T.log2(x), [0.0, 1.0]),
    "log10": (np.log10, lambda T, x: T.log10(x), [0.0, 1.0]),
    "log1p": (np.log1p, lambda T, x: T.log1p(x), [-1.0, 0.0]),
    "x log x": (lambda x: x * np.log(x), lambda T, x: x * T.log(x), [0.0, 1.0]),
    "log where positive": (
        lambda x: np.where(x > 0, np.log(x), 0),
        lambda T, x: T.where(x > 0, T.log(x), 0),
        [-1.0, 0.0, 1.0],
    ),
    "arcsin": (np.arcsin, lambda T, x: T.arcsin(x), [-1.0, 1.0, 2.0]),
    "arccos": (np.arccos, lambda T, x: T.arccos(x), [-1.0, 1.0, 2.0]),
    "arctanh": (np.arctanh, lambda T, x: T.arctanh(x), [-1.0, 1.0]),
    "arccosh": (np.arccosh, lambda T, x: T.arccosh(x), [1.0, 2.0, inf]),
    "hypot": (np.hypot, lambda T, a, b: T.hypot(a, b), [0.0, 0.0, 3.0, inf], [0.0, 1.0, 4.0, 1.0]),
    "remainder by 0": (np.remainder, lambda T, a, b: T.remainder(a, b), [3.0], [0.0]),
    "logaddexp": (np.logaddexp, lambda T, a, b: T.logaddexp(a, b), [-inf, inf], [-inf, 0.0]),
    "logsumexp": (F.logsumexp, lambda T, x: T.logsumexp(x, -1), [[-inf, -inf], [inf, inf], [inf, 0.0]]),
    "softmax": (F.softmax, lambda T, x: T.softmax(x, -1), [[-inf, -inf], [inf, 0.0]]),
    "log_softmax": (F.log_softmax, lambda T, x: T.log_softmax(x, -1), [[-inf, -inf], [inf, 0.0]]),
    "mean of nothing": (np.mean, lambda T, x: T.mean(x), np.zeros(0)),
    "means of nothing": (lambda x: np.mean(x, axis=0), lambda T, x: T.mean(x, 0), np.zeros((0, 3))),
    "var of nothing": (np.var, lambda T, x: T.var(x, correction=0), np.zeros(0)),
    "var of one, ddof 1": (lambda x: np.var(x, ddof=1), lambda T, x: T.var(x), [3.0]),
    "std of one, ddof 1": (lambda x: np.std(x, ddof=1), lambda T, x: T.std(x), [3.0]),
}  # fmt: skip
SECOND = [
    "relu", "leaky_relu", "abs", "sign", "square", "gelu", "silu", "sigmoid", "tanh", "x ** 0", "x ** 1", "x ** 2",
    "2 ** b", "max", "min", "maximum", "fmax", "clip", "clip to arrays", "prod, a zero", "prod, two zeros",
    "prod over an axis", "cumprod", "norm 1", "norm inf", "var of a constant", "std of a constant", "logsumexp",
    "softmax", "log_softmax", "cross_entropy", "sort", "quantile", "where, NaN unselected", "nansum", "nanmean",
]  # fmt: skip


def first_and_second(case, torch, second):
    """Value, gradients, and if wanted the gradient of a weighted sum of them, ours and PyTorch's."""
    ours, theirs, *arrays = case
    arrays = [np.array(a, np.float64) for a in arrays]
    xs = [tg.tensor(a, requires_grad=True) for a in arrays]
    us = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*xs), theirs(torch, *us)
    w = weights(y.data, 1)
    gs = tg.gradients(y, xs, w, create_graph=second)
    hs = torch.autograd.grad(z, us, torch.tensor(w), create_graph=second)
    if second:
        slope = sum(np.sum(g * weights(g.data, 2)) for g in gs)
        curve = sum((h * torch.tensor(weights(h.detach().numpy(), 2))).sum() for h in hs)
        gs = tg.gradients(slope, xs, allow_unused=True) if slope.requires_grad else [None] * len(xs)
        hs = torch.autograd.grad(curve, us, allow_unused=True) if curve.requires_grad else [None] * len(us)
    gs = [np.zeros_like(a) if g is None else g.data for a, g in zip(arrays, gs, strict=True)]
    hs = [np.zeros_like(a) if h is None else h.numpy(force=True) for a, h in zip(arrays, hs, strict=True)]
    return (y.data, *gs), (z.detach().numpy(), *hs)


def compare(case, second=False):
    torch = pytest.importorskip("torch")
    for got, expected in zip(*first_and_second(case, torch, second), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", QUIET)
def test_edges_are_pytorchs_without_a_warning(name):
    compare(QUIET[name])


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")  # PyTorch's
@pytest.mark.parametrize("name", LOUD)
def test_edges_are_pytorchs(name):
    with np.errstate(all="ignore"):
        compare(LOUD[name])


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_at_edges_are_pytorchs(name):
    compare(QUIET[name], second=True)


def test_a_median_of_equal_elements_gives_the_gradient_to_those_in_the_middle():
    x = tg.tensor([2.0, 1.0, 2.0, 2.0, 3.0], requires_grad=True)
    assert tg.gradients(np.median(x), x)[0].tolist() == [0, 0, 1, 0, 0]
    assert tg.gradients(np.median(x[1:]), x)[0].tolist() == [0, 0, 0.5, 0.5, 0]


@pytest.mark.parametrize("f", [np.var, np.std, np.cov, np.nanvar])
@pytest.mark.filterwarnings("ignore:Degrees of freedom")  # NumPy's
def test_no_degrees_of_freedom_left_is_numpys(f):
    with np.errstate(all="ignore"):
        for ddof in (1, 2, 3):
            array = np.array([3.0, 4.0])
            np.testing.assert_allclose(f(tg.tensor(array), ddof=ddof).data, f(array, ddof=ddof))


def test_the_gradient_of_a_singular_determinant_is_refused():
    x = tg.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    assert np.linalg.det(x).item() == 0
    with pytest.raises(ValueError, match="backward of det: Singular matrix"):
        np.linalg.det(x).backward()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int64])
def test_losses_of_integers_do_not_wrap_around(dtype):
    a, b = np.array([0, 1, 100]).astype(dtype), np.array([1, 0, 127]).astype(dtype)
    d = a.astype(float) - b.astype(float)
    expected = {"mse_loss": d**2, "l1_loss": abs(d), "huber_loss": np.where(abs(d) <= 1, d**2 / 2, abs(d) - 0.5)}
    for name, losses in expected.items():
        loss = getattr(F, name)
        for x, y in ((a, b), (tg.tensor(a), tg.tensor(b)), (a.tolist(), b.tolist())):
            np.testing.assert_array_equal(loss(x, y, reduction="none"), losses)
            assert float(loss(x, y)) == losses.mean()


def test_the_curvature_of_huber_loss():
    """PyTorch's: 1 inside, 0 beyond; at |d| = δ either."""
    f = lambda a: F.huber_loss(a, np.zeros(5), "sum", delta=2.0)
    d = np.array([-3.0, -0.5, 0.0, 1.0, 3.0])
    np.testing.assert_array_equal(np.diag(tg.hessian(f)(d).numpy()), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(tg.grad(f)(d).numpy(), [-2, -0.5, 0, 1, 2])


def test_the_mixed_derivative_of_a_power_of_zero():
    """∂²(a^b)/∂a∂b at b = 0 is 1 / a; at a = 0 nothing is defined, and nothing NaN."""
    second = tg.hessian(lambda v: v[0] ** v[1])(np.array([2.0, 0.0])).numpy()
    np.testing.assert_allclose(second, [[0, 0.5], [0.5, np.log(2) ** 2]])
    assert np.isfinite(tg.grad(lambda v: v[0] ** v[1])(np.array([0.0, 0.0])).numpy()).all()
    assert np.isfinite(tg.grad(lambda v: v[0] ** v[1])(np.array([5e-324, 0.0])).numpy()[0])


@pytest.mark.parametrize(("dtype", "x"), [(np.float16, -8.5), (np.float32, -17.5), (np.float64, -40.0)])
def test_the_gradient_of_elu_far_below_zero(dtype, x):
    g = tg.grad(F.elu)(np.array(x, dtype)).numpy()
    assert g.dtype == dtype
    np.testing.assert_allclose(g, np.exp(np.float64(x)), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("f", [F.softmax, F.log_softmax])
def test_softmax_along_nothing_to_any_order(f):
    x = tg.tensor(np.zeros((2, 0)), requires_grad=True)
    (g,) = tg.gradients(f(x).sum(), [x], create_graph=True)
    assert g.shape == (2, 0)


@pytest.mark.parametrize("f", [np.sum, np.prod, np.max, np.cumsum, np.cumprod])
def test_reductions_of_a_number_over_its_axis_0_have_gradients(f):
    x = tg.tensor(3.0, requires_grad=True)
    y = f(x, axis=0)
    np.testing.assert_array_equal(y.detach().numpy(), f(np.array(3.0), axis=0))
    y.sum().backward()
    assert x.grad.item() == 1


@pytest.mark.parametrize("n", [0, 1, 2])
def test_differences_of_booleans_are_where_they_differ(n):
    x = np.array([[True, False, True, True], [False, False, True, False]])
    found, expected = np.diff(tg.tensor(x), n=n), np.diff(x, n=n)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("width", [{}, {0: 1}, {-1: (1, 2)}, {0: (0, 1), -2: 2}, {1: 2, 0: (1, 0)}])
def test_pad_some_axes(width, mode):
    """Where NumPy is older than 2.3 it knows no dictionaries, so the oracle is told the pairs."""
    x = np.arange(6.0).reshape(2, 3)
    pairs = [(0, 0), (0, 0)]
    for axis, w in width.items():
        pairs[axis] = w if isinstance(w, tuple) else (w, w)
    np.testing.assert_array_equal(np.pad(tg.tensor(x), width, mode=mode).numpy(), np.pad(x, pairs, mode=mode))


@pytest.mark.parametrize("mode", ["constant", "edge"])
@pytest.mark.parametrize(
    ("width", "error", "message"),
    [
        ((-1, 2), ValueError, r"expected widths >= 0, got \(-1, 2\)"),
        ({0: -1}, ValueError, "expected widths >= 0"),
        (1.5, TypeError, "expected integers as pad_width, got 1.5"),
        (True, TypeError, "expected integers"),
        ((1, 2, 3), ValueError, r"one pair per axis of 2, got \(1, 2, 3\)"),
        ({2: 1}, ValueError, "axis 2 is out of bounds for array of dimension 2"),
    ],
)
def test_pad_refuses(width, error, message, mode):
    with pytest.raises(error, match=message):
        np.pad(tg.tensor(np.ones((1, 1))), width, mode=mode)


def test_resize_of_nothing_is_zeros():
    x = tg.tensor(np.zeros((0, 2)), requires_grad=True)
    y = np.resize(x, (2, 3))
    np.testing.assert_array_equal(y.detach().numpy(), np.resize(np.zeros((0, 2)), (2, 3)))
    y.sum().backward()
    assert x.grad.shape == (0, 2)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_median_of_nothing_is_nan(axis):
    x = np.zeros((0, 3))
    found = np.median(tg.tensor(x), axis=axis)
    np.testing.assert_array_equal(found.numpy(), np.median(x, axis=axis))
