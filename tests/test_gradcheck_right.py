"""gradcheck against right functions of every kind and scale, which it must let pass, and with one slip not."""

import numpy as np
import pytest
from wrong_gradients import MIXTURE, POSITIVE, X, Y, check, mixed, pair_of_outputs

from tinygrad_dl.primitive import primitive


def _batch_norm(x, gamma, beta):
    centred = x - x.mean(axis=0)
    return centred / np.sqrt(np.mean(np.square(centred), axis=0) + 1e-5) * gamma + beta


def _log_softmax(z):
    z = z - np.max(z, axis=-1, keepdims=True).detach()
    return z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))


def _network(x, w, b, gamma, beta, v):
    hidden = np.maximum(_batch_norm(x @ w.T + b, gamma, beta), 0)
    return -np.mean(_log_softmax(hidden @ v.T)[:, 0])


def _deep(x):
    for _ in range(60):
        x = np.tanh(x @ x.T @ x * 0.3) + 0.1 * x
    return x


def _normal(*shape, scale=1.0, seed=1):
    return np.random.default_rng(seed).normal(size=shape) * scale


def _hard(x):
    """The inverse of an ill-conditioned 2x2 matrix, by its adjugate: determinant about 1e-6."""
    a, b, c, d = x
    return np.stack([d, -b, -c, a]) / (a * d - b * c)


NETWORK = (_normal(8, 5), _normal(6, 5), _normal(6), _normal(6), _normal(6), _normal(3, 6))

RIGHT = {
    "arithmetic": (lambda x, y: (x + y) * x - y / (x * x + 1), (X, Y)),
    "broadcasting": (lambda x, y: x * y[0] + y[:, :1], (X, Y)),
    "powers": (lambda x, y: x**y, (POSITIVE, Y)),
    "exponentials": (lambda x: np.exp(x) + np.log1p(x * x) + np.expm1(x), (X,)),
    "trigonometric": (lambda x: np.sin(x) + np.cos(x) * np.tan(x / 3), (X,)),
    "arctan2": (np.arctan2, (X, Y)),
    "square root": (lambda x: np.sqrt(x) + np.cbrt(x), (POSITIVE,)),
    "sum, mean": (lambda x: x.sum(axis=0) + x.mean(), (X,)),
    "max": (lambda x: np.max(x, axis=1), (X,)),
    "variance": (lambda x: x.var(axis=0), (X,)),
    "product": (lambda x: np.prod(x, axis=0), (np.where(np.arange(12).reshape(3, 4) == 5, 0.0, X),)),
    "norm": (lambda x: np.sqrt(np.sum(x * x)), (X,)),
    "matmul": (lambda x, y: x @ y.T, (X, Y)),
    "vector and matrix": (lambda x, v: x.T @ v, (X, Y[:, 0])),
    "indexing": (lambda x: x[[0, 2, 2], 1:] * x[0, 0], (X,)),
    "concatenate": (lambda x, y: np.concatenate([x, y, x], axis=1) ** 2, (X, Y)),
    "reshape": (lambda x: x.reshape(2, 6).T[::-1] * np.arange(12.0).reshape(6, 2), (X,)),
    "where": (lambda x, y: np.where(x > 0, np.sin(x), y), (X, Y)),
    "rounding": (lambda x: np.floor(x) + x, (X,)),
    "softmax": (lambda x: np.exp(_log_softmax(x)), (X,)),
    "saturated softmax": (lambda x: np.exp(_log_softmax(x * 30)), (X,)),
    "cross-entropy": (lambda x: -np.mean(_log_softmax(x)[np.arange(3), np.array([0, 3, 1])]), (X,)),
    "batch norm": (_batch_norm, (X, Y[0], Y[1])),
    "batch of two": (lambda x: _batch_norm(x, 1.0, 0.0), (X[:2],)),
    "bias before batch norm": (lambda x, b: np.sin(_batch_norm(x + b, 1.0, 0.0)), (X, Y[0])),
    "network": (_network, NETWORK),
    "deep composite": (_deep, (X / 3,)),
    "zero gradient": (lambda x: (x - x).sum() + np.sign(x).sum(), (X,)),
    "zero by cancellation": (lambda x: _batch_norm(x, 1.0, 0.0).sum(), (X,)),
    "x³ at 0": (lambda x: x**3, (np.array([0.0, 1e-4, 1.0]),)),
    "x² at 0": (lambda x: (x * x).sum(), (np.zeros(5),)),
    "large third derivative": (lambda x: np.sin(300 * x), (X,)),
    "steep": (lambda x: np.tanh(1e5 * x), (np.array([0.0, 1e-5, 2.0]),)),
    "narrow": (lambda x: np.exp(-np.square(x / 1e-5)), (np.array([3e-6, -1e-5]),)),
    "logarithm near its pole": (np.log, (np.array([1e-8, 1e-6, 1.0]),)),
    "logarithm and root of next to nothing": (lambda x: (np.log(x), np.sqrt(x)), (np.array([1e-300, 1e-100, 2.0]),)),
    "softmax that rounding swallows": (
        lambda x: np.exp(_log_softmax(x)) * np.array([-37.8, 2042.8]),
        (np.array([0.0217, 21.178]),),
    ),
    "1/x of small and large": (lambda x: 1 / x, (MIXTURE,)),
    "cube of small and large": (lambda x: x**3, (MIXTURE,)),
    "beside a large constant": (lambda x: 1e6 + x.sum(), (X,)),
    "cancellation": (lambda x: (x + 1e7) - 1e7, (X,)),
    "ill-conditioned": (_hard, (np.array([1.0, 1.0, 1.0, 1 + 1e-6]),)),
    "two outputs of a fused op": (lambda x: pair_of_outputs()(x), (X,)),
    "fused": (mixed(), (X, Y)),
    "unused argument": (lambda x, y: x * 2, (X, Y)),
    "the argument itself": (lambda x: x, (X,)),
    "0-d": (lambda x: np.sin(x), (np.array(0.3),)),
    "negative strides": (lambda x: np.exp(x[::-1]), (X[::-1, ::2],)),
}

FIRST_ORDER = "product", "logarithm and root of next to nothing", "softmax that rounding swallows"


@pytest.mark.parametrize("name", RIGHT)
def test_right_functions_pass(name):
    f, inputs = RIGHT[name]
    order = 1 if name in FIRST_ORDER else 2
    report = check(f, *inputs, order=order)
    assert report, str(report)
    assert report.verdict == "passed"
    assert report.ratio <= 1e-5


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("f", [
    lambda x: np.log(x * x), lambda x: x**3, lambda x: 1 / x, np.sin, lambda x: x.var(), lambda x: 3 * x,
    lambda x: np.exp(_log_softmax(x)), lambda x: np.sqrt((x * x).sum()), lambda x: _batch_norm(x, 1.0, 0.0).sum(),
])  # fmt: skip
def test_small_and_large_scales(f, scale):
    for seed in range(2):
        assert check(f, _normal(4, 2, scale=scale, seed=seed), order=2, seed=seed)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize(
    "f", [lambda x: np.log(x * x), lambda x: x**3, lambda x: 1 / x, np.sin, lambda x: x.sum() + 1e3]
)
def test_a_thousandth_too_large_at_every_scale(f, scale):
    slip = primitive(lambda x: x * 1, lambda g, _y, _x: 1.001 * g, name="slip")
    for seed in range(3):
        report = check(lambda x: f(slip(x)), _normal(4, 2, scale=scale, seed=seed))
        assert report.verdict == "wrong", str(report)


def test_only_the_gradient_of_zero_hides_a_factor():
    slip = primitive(lambda x: x * 1, lambda g, _y, _x: 1.001 * g, name="slip")
    for i in range(len(NETWORK)):
        report = check(lambda *a, i=i: _network(*a[:i], slip(a[i]), *a[i + 1 :]), *NETWORK)
        assert bool(report) == (i == 2), "only the bias before the batch norm has gradient zero"
