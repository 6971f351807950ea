"""gradcheck against seeded bugs, randomness and kinks: each must be caught, and called what it is."""

import itertools
import re

import numpy as np
import pytest
from wrong_gradients import BUGS, X, check, consuming

import tinygrad_dl as tg
from tinygrad_dl.checking import GradcheckError, gradcheck
from tinygrad_dl.fused import fused
from tinygrad_dl.primitive import primitive


def _stop(x):
    return x.detach() if isinstance(x, tg.Tensor) else x


def _first_only(right, otherwise):
    """A rule with one reading on arrays and another one on Tensors."""
    return lambda g, y, x: otherwise(g, y, x) if isinstance(x, tg.Tensor) else right(g, y, x)


def _random_sine(x):
    return np.sin(x) * tg.random.uniform(0.9, 1.1)


def _counter():
    calls = []

    def f(x):
        calls.append(0)
        return x * len(calls)

    return f


_DRAWN = itertools.cycle(np.random.default_rng(0).permutation(10))  # no two that follow each other are close


def _draws(g, _y, _x):
    return g * (1 + 1e-9 * next(_DRAWN))


@pytest.mark.parametrize("name", BUGS)
def test_bugs_are_wrong(name):
    f, inputs = BUGS[name]
    copies = [np.copy(x) for x in inputs]
    report = check(f, *inputs)
    assert not report, name
    assert report.verdict == "wrong", str(report)
    assert all(np.array_equal(x, c) for x, c in zip(inputs, copies, strict=True))
    with pytest.raises(GradcheckError, match="wrong") as caught:
        gradcheck(f, *inputs)
    assert caught.value.report.failures[0].verdict == "wrong"


SECOND = {
    "recorded reading detached": _first_only(lambda g, y, x: g * np.cos(x), lambda g, y, x: g * np.cos(_stop(x))),
    "recorded reading too large": _first_only(lambda g, y, x: g * np.cos(x), lambda g, y, x: 1.001 * g * np.cos(x)),
    "recorded reading misses the incoming gradient's": _first_only(
        lambda g, y, x: g * np.cos(x), lambda g, y, x: _stop(g) * np.cos(x)
    ),
    "not differentiable": lambda g, _y, x: g * np.cos(x) * np.nextafter(1, 2, dtype=float) + g * 0 * np.spacing(x),
    "recorded reading of another shape": _first_only(
        lambda g, y, x: g * np.cos(x), lambda g, y, x: (g * np.cos(x)).sum(axis=0)
    ),
}


@pytest.mark.parametrize("name", SECOND)
def test_bugs_of_second_order_only(name):
    op = primitive(np.sin, SECOND[name], name="op")
    f = (lambda x: op(op(x))) if "incoming" in name else op
    assert check(f, X), name
    report = check(f, X, order=2)
    assert report.verdict == "wrong", str(report)
    assert "order 2" in str(report)


def test_a_fused_meaning_that_is_wrong_only_when_differentiated_twice():
    @fused(forward=lambda x: (np.sin(x), None), backward=lambda g, saved, needs, x: (g * np.cos(x),))
    def sine(x):
        return primitive(np.sin, lambda g, _y, x: g * np.cos(_stop(x)), name="meant")(x)

    assert check(sine, X)
    assert check(sine, X, order=2).verdict == "wrong"


RANDOM = {
    "forward": (_random_sine, "it draws from tinygrad_dl.random"),
    "another generator": (lambda x: x * np.random.default_rng().normal(), "another generator"),
    "keeps a counter": (_counter(), "keeps state between calls"),
    "backward": (primitive(lambda x: x * 1, _draws, name="op"), "second backward"),
    "backward changes what was saved": (consuming(), "changes what was saved"),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_is_not_wrong(name):
    f, reason = RANDOM[name]
    report = check(f, X)
    assert not report
    assert report.verdict == "random", str(report)
    assert reason in str(report)
    assert "wrong:" not in str(report)


KINKS = {
    "abs": (np.abs, np.array([0.0, 1.0, -2.0]), (0,), (-1, 1), 0),
    "ReLU by np.maximum": (lambda x: np.maximum(x, 0), np.array([1.0, 0.0]), (1,), (0, 1), 0.5),
    "ReLU with gradient 0": (
        primitive(lambda x: np.maximum(x, 0), lambda g, _y, x: g * (x > 0), name="relu"),
        np.array([[1.0, -1.0], [0.0, 2.0]]), (1, 0), (0, 1), 0,
    ),
    "tie of max": (np.max, np.array([3.0, 1.0, 3.0]), (0,), (0, 1), 0.5),
    "clip at its bound": (lambda x: np.where(x > 1, 1, x).sum(), np.array([0.5, 1.0]), (1,), (0, 1), 1),
    "a leak of many": (lambda x: (np.sin(x) + np.abs(x) / 50).sum(), np.array([0.3, 0.0]), (1,), (0.98, 1.02), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks_are_not_wrong(name):
    f, x, index, slopes, analytic = KINKS[name]
    report = check(f, x)
    assert not report
    assert report.verdict == "kink", str(report)
    found = report.comparisons[0]
    assert found.index == index
    assert found.analytic == pytest.approx(analytic, abs=1e-5)
    low, high = re.search(r"slopes to both sides are (\S+) and (\S+)", found.note + ";").groups()
    assert (float(low), float(high.rstrip(";"))) == pytest.approx(slopes, abs=1e-4)
    assert check(f, np.where(x == 0, 0.1, x) + np.linspace(0, 0.01, x.size).reshape(x.shape)), "beside the kink"


def test_a_jump_is_a_kink_and_a_kink_close_by_is_none():
    assert check(np.floor, np.array([1.0])).verdict == "kink"
    assert check(np.floor, np.array([1.5]))
    for x in ([0.0], [0.0, 1.0]):
        report = check(np.arctan2, np.array(x), np.array(x))
        assert {c.verdict for c in report.comparisons} == {"kink"}, "it jumps, and its gradient is none"
    for distance in (1e-7, 1e-8):  # less than the step
        assert check(np.abs, np.array([distance, -distance]))
        assert check(lambda x: np.maximum(x, 0), np.array([distance, -distance]))
        assert (
            check(primitive(np.abs, lambda g, _y, x: 1.001 * g * np.sign(x), name="op"), np.array([distance])).verdict
            == "wrong"
        )


def test_float32_inside_is_imprecise_and_says_where():
    report = check(lambda x: np.tanh(x.astype("float32")), X)
    assert report.verdict == "imprecise"
    assert "astype (test_gradcheck_bugs.py" in str(report)
    assert "computes in float32" in str(report)


def test_an_operation_of_several_results_that_computes_in_float32_is_named():
    def halves(x):
        return x[:2].astype(np.float32), x[2:]

    def backward(g, _saved, _needs, _x):
        return [np.concatenate([np.zeros(2) if part is None else part for part in g])]

    split = fused(forward=lambda x: (halves(x), None), backward=backward, name="split")(halves)
    report = check(lambda x: sum(y.sum() for y in split(x)), np.arange(4.0))
    assert re.search(r"split \(.*\) computes in float32", str(report))


def test_a_rule_that_answers_in_float32():
    report = check(primitive(np.sin, lambda g, _y, x: (g * np.cos(x)).astype("float32"), name="op"), X)
    assert report.verdict == "wrong"
    assert "float32" in str(report)


@pytest.mark.parametrize(
    ("f", "x", "place"),
    [
        (np.log, np.array([1.0, 0.0]), "output is -inf at [1]"),
        (lambda x: (x, {"a": np.sqrt(x)}), np.array([[1.0], [-1.0]]), "output[1]['a'] is nan at [1, 0]"),
        (np.sqrt, np.array([1.0, 0.0]), "d output / d x1 is -?inf at [1] by backward"),
        (primitive(np.tanh, lambda g, _y, x: g * x / x, name="op"), np.array([0.0]), "is nan at [0] by backward"),
    ],
)
def test_not_finite_says_where(f, x, place):
    report = check(f, x)
    assert report.verdict == "non-finite"
    text = re.escape(place).replace(r"\-\?", "-?").replace("x1", r"[\w ]+")
    assert re.search(text, str(report)), str(report)


def _fused_sine(backward):
    return fused(forward=lambda x: (np.sin(x), None), backward=backward, name="op")(lambda x: np.sin(x))


def _lacks_a_key(g, _y, _x):
    return {}[g.shape]


BATCH = np.random.default_rng(0).normal(size=(2, 3, 4))
FAILING = {
    "a wrong shape": (primitive(lambda x: x.sum(), lambda g, *_: g, name="op"), (X,), "expected its shape (3, 4)"),
    "inside": (
        lambda x: np.exp(primitive(lambda x: x.sum(), lambda g, *_: g, name="op")(x) * 2), (X,), "expected its shape",
    ),
    "of two parameters": (primitive(np.sin, lambda g, x: g * np.cos(x), name="op"), (X,), "2 positional arguments"),
    "a KeyError": (primitive(np.sin, _lacks_a_key, name="op"), (X,), "(3, 4)"),
    "an IndexError": (primitive(np.sin, lambda g, y, _x: y[5], name="op"), (X,), "index 5 is out of bounds"),
    "transposed axes": (
        primitive(lambda x: x.transpose(1, 2, 0), lambda g, _y, _x: g.transpose(1, 2, 0), name="op"),
        (BATCH,), "expected its shape (2, 3, 4)",
    ),
    "a product of batches": (
        primitive(np.matmul, lambda g, _y, _a, b: g @ b.T, lambda g, _y, a, _b: a.T @ g, name="op"),
        (BATCH, BATCH.swapaxes(1, 2)), "must equal the second last",
    ),
    "complex": (
        primitive(np.sin, lambda g, _y, x: g * np.cos(x) * (1 + 1j), name="op"),
        (X,), "returned a gradient of complex128, expected float64; take its real part",
    ),
    "fused, an array": (_fused_sine(lambda g, _saved, _needs, x: g * np.cos(x)), (X,), "returned float64 (3, 4)"),
    "fused, None": (_fused_sine(lambda *_: None), (X,), "returned None; expected a list or tuple of 1"),
    "fused, too few": (_fused_sine(lambda *_: []), (X,), "returned 0 gradients"),
    "fused, too many": (_fused_sine(lambda g, _saved, _needs, x: [g * np.cos(x), g]), (X,), "returned 2 gradients"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_rules_that_fail_are_reported(name):
    f, inputs, text = FAILING[name]
    report = check(f, *inputs)
    assert report.verdict == "wrong"
    assert "backward fails: " in str(report)
    assert text in str(report)
