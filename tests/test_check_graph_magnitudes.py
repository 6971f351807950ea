"""check_graph at any magnitude: what is right is not called wrong, nor what is wrong right."""

import numpy as np
import pytest
from graphs import F, leaf, verdicts
from wrong_gradients import X, Y
from wrong_rules import op

from tinygrad_dl.insight.graph_check import check_graph

RNG = np.random.default_rng(0)


def test_an_argument_that_hardly_matters_is_looked_at_all_the_same():
    add = op(np.add, lambda g, *_: g, lambda g, *_: 1.01 * g)
    large, small = leaf(X * 1e6), leaf(Y * 1e-3)
    (check,) = check_graph(add(large, small)).checks
    assert check.verdict == "wrong"
    assert [c.name for c in check.causes] == ["constant factor"]


@pytest.mark.parametrize("error", [0, 3e-4, -3e-4])
def test_a_product_is_looked_at_in_float32_and_still_closely(error):
    product = op(np.matmul, lambda g, _y, _a, b: g @ b.T, lambda g, _y, a, _b: (1 + error) * (a.T @ g))
    a, b = (leaf(RNG.normal(size=shape).astype(np.float32)) for shape in [(128, 784), (784, 64)])
    seen = []
    spy = op(lambda a, b: (seen.append(a.dtype.name), a @ b)[1], *product.vjps)
    for b_scale in (1, 1e-4):
        (check,) = check_graph(product(a, b * b_scale)).checks[-1:]
        assert check.verdict == ("wrong" if error else "right")
    check_graph(spy(a, b))
    assert ("float64" in seen) == bool(error), "only what float32 does not settle is looked at in float64"


def test_a_product_with_a_bias_that_hardly_matters():
    affine = op(
        lambda x, w, b: x @ w + b, lambda g, _y, _x, w, _b: g @ w.T, lambda g, _y, x, *_: x.T @ g,
        lambda g, *_: 1.001 * g.sum(0),
    )  # fmt: skip
    for scale in 10 * (1e-1, 1e-2, 1e-3):
        arrays = RNG.normal(size=(64, 300)), RNG.normal(size=(300, 50)), scale * RNG.normal(size=50)
        tensors = [leaf(a.astype(np.float32)) for a in arrays]
        assert verdicts(check_graph(affine(*tensors))) == ["wrong"], scale


def test_a_gradient_that_is_not_finite_beside_a_small_one():
    root = op(lambda a, b: np.sqrt(a) + 1e-6 * b, lambda g, y, a, _b: g / (2 * np.sqrt(a)), lambda g, *_: 1e-6 * g)
    a, b = leaf(np.array([0.0, 1.0, 2.0])), leaf(np.ones(3))
    (check,) = check_graph(root(a, b)).checks
    assert (check.verdict, check.detail) == ("not checked", "its value or its gradient is not finite")


def test_small_and_large_values():
    for scale in (1e-9, 1e-3, 1e3, 1e9):
        x, w = leaf(X * scale), leaf(Y.T)
        report = check_graph(F.cross_entropy(np.tanh(x) @ w, np.array([0, 1, 2])))
        assert set(verdicts(report)) <= {"right"}, str(report)


SMOOTH = (np.sin, np.cos, np.exp, np.tanh, np.arctan, np.reciprocal, np.prod, np.std, F.softmax, F.gelu, F.silu,
          F.log_softmax)  # fmt: skip
OF_TWO = np.add, np.subtract, np.hypot, np.arctan2, np.logaddexp


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("magnitude", [1e-8, 1e-4, 1e2, 1e5, 1e6, 1e8])
def test_no_right_operation_is_called_wrong_at_any_magnitude(magnitude, dtype):
    rng = np.random.default_rng(int(np.log10(magnitude)) + 10)
    for f in (*SMOOTH, *OF_TWO):
        two = f in OF_TWO
        for scales in ([magnitude], [magnitude, 1, 1 / magnitude] + [0] * (not two)):
            given = [leaf((rng.normal(size=12) * rng.choice(scales, 12)).astype(dtype)) for _ in range(1 + two)]
            with np.errstate(all="ignore"):
                report = check_graph(f(*given))
            assert set(verdicts(report)) <= {"right", "not checked"}, str(report)
            assert "less than float64" not in str(report)


@pytest.mark.parametrize("factor", [1.01, 0.999])
@pytest.mark.parametrize("magnitude", [1e-8, 1e-4, 1e2, 1e6])
def test_a_wrong_rule_is_found_at_any_magnitude(magnitude, factor):
    wrong = op(np.sin, lambda g, _y, x: factor * g * np.cos(x))
    for scales in ([magnitude], [magnitude, 1, 1 / magnitude]):
        x = leaf(RNG.normal(size=12) * RNG.choice(scales, 12))
        assert verdicts(check_graph(wrong(x))) == ["wrong"]


@pytest.mark.parametrize(
    ("f", "values"),
    [
        (F.softmax, [0.0, 20.0]),
        (np.sin, [1e6, 1.0]),
        (lambda x: F.softmax(x.reshape(3, 3) + np.triu(np.full((3, 3), -1e9), 1)), np.linspace(-2, 2, 9)),
        (lambda x: x + np.array([1e10, 1.0]), [23.0, 23.0]),
        (lambda x: np.hypot(x, np.array([1.0, 1e6])), [1e-4, 1.0]),
        (lambda x: np.sin(x) + 1e9, np.ones(3)),
    ],
)
def test_what_rounding_swallows_is_not_taken_for_a_derivative_of_zero(f, values):
    x = leaf(np.asarray(values))
    assert set(verdicts(check_graph(f(x).sum()))) <= {"right", "not checked"}
