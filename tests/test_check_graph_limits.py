"""check_graph: kinks, places in large arrays, and what cannot be checked."""

import re

import numpy as np
from graphs import ZEROS, F, leaf, twice, verdicts
from wrong_gradients import X, writes
from wrong_rules import op

import tinygrad_dl as tg
from tinygrad_dl.insight.graph_check import check_graph

# ---- kinks, randomness, what cannot be checked

RNG = np.random.default_rng(0)


def test_a_kink_says_how_many_elements():
    x = leaf(ZEROS)
    report = check_graph(F.relu(x).sum())
    assert verdicts(report) == ["kink", "right"]
    assert report, "a kink is nobody's fault"
    assert report.checks[0].detail.endswith("3 of its elements")


def test_large_elementwise_operations_are_looked_at_in_places():
    data = RNG.normal(size=(300, 400)).astype(np.float32)
    data[:50] = 0
    x = leaf(data)
    (kinked, *_) = check_graph(F.relu(x).sum()).checks
    found, of = map(int, re.findall(r"(\d+) of the (\d+) that", kinked.detail.replace(",", ""))[0])
    assert kinked.verdict == "kink"
    assert 0.9 * 50 / 300 < found / of < 1.5 * 50 / 300
    steep = op(np.exp, lambda g, y, x: np.where(x > 2.5, 1.01, 1) * g * y)  # wrong in half a percent
    report = check_graph(steep(x))
    assert verdicts(report) == ["wrong"]
    assert not report
    top = op(np.exp, lambda g, y, x: np.where(x == x.max(), 2, 1) * g * y)
    assert verdicts(check_graph(top(x))) == ["wrong"], "at one element, the largest"
    assert verdicts(check_graph(np.exp(x) * np.tanh(x))) == ["right"] * 3


def test_one_element_among_many_that_changed_or_is_not_finite_is_found():
    data = RNG.normal(size=(300, 400)).astype(np.float32)
    constant, x = data.copy(), leaf(data)
    y = np.exp(np.sin(x) * constant)
    assert verdicts(check_graph(y)) == ["right"] * 3
    constant[np.unravel_index(np.sin(data).argmax(), data.shape)] += 1
    assert verdicts(check_graph(y)) == ["right", "right", "wrong"]
    data[3, 3] = 0
    for part in (data, data[:5, :5]):
        x = leaf(part)
        with np.errstate(divide="ignore"):
            (check,) = check_graph(np.reciprocal(x)).checks
        assert (check.verdict, check.detail) == ("not checked", "its value or its gradient is not finite")


def test_a_wrong_rule_does_not_hide_behind_a_kink():
    x = leaf(ZEROS)
    wrong = op(lambda x: np.maximum(x, 0), lambda g, _y, x: 1.01 * g * (x > 0))
    assert verdicts(check_graph(wrong(x))) == ["wrong"]
    outside = op(np.abs, lambda g, _y, x: g * np.where(x == 0, 30, np.sign(x)))
    assert verdicts(check_graph(outside(x))) == ["wrong"]


def test_kinks_of_many_elements_and_ties():
    image = leaf(np.maximum(RNG.normal(size=(8, 6, 6)), 0))
    report = check_graph(np.max(F.relu(image - 0.0).reshape(8, 36), axis=1).sum())
    assert set(verdicts(report)) <= {"right", "kink"}
    ties = leaf(np.zeros((3, 4)))
    assert check_graph(np.max(ties, axis=1)).checks[0].verdict == "kink"


def test_what_was_overwritten_since():
    w = leaf(X, name="w")
    loss = (w + 1.0).sum()
    w.assign(0.0)
    report = check_graph(loss)
    assert verdicts(report)[0] == "not checked"
    assert re.search(r"w was overwritten since, at test_check_graph_limits.py:\d+, in test_what.*w.assign", str(report))


def test_what_is_gone():
    loss = (tg.tensor(X, requires_grad=True) + 1.0).sum()
    report = check_graph(loss)
    assert "the value of an argument that no rule reads is gone" in report.checks[0].detail
    assert report


def test_a_checkpoint_is_not_looked_into_but_what_is_behind_it():
    x = leaf(X)
    report = check_graph(np.tanh(tg.checkpoint(np.sin, x)))
    assert verdicts(report) == ["not checked", "not checked"], "tanh keeps no argument"
    assert "a checkpoint is not looked into; to check" in report.checks[0].detail
    report = check_graph(twice(tg.checkpoint(lambda x: (np.sin(x), np.cos(x)), x)[1] * x))
    assert verdicts(report) == ["not checked", "right", "wrong"]


def test_not_finite():
    with np.errstate(all="ignore"):
        report = check_graph(np.log(leaf([0.0, 1.0])).sum())
    assert verdicts(report) == ["not checked", "not checked"]
    assert "not finite" in report.checks[0].detail


def test_a_constant_that_was_written_to():
    x, scale = leaf(X), np.full(X.shape, 2.0)
    loss = np.exp(np.sin(x) * scale)
    assert check_graph(loss)
    scale *= 3
    assert "an array that it, or an operation before it, reads was overwritten" in str(check_graph(loss))


def test_rules_that_write_do_no_harm():
    x = leaf(X)
    for into in "gxy":
        y = writes(into)(x * 1.0)
        before = y.data.copy()
        assert not check_graph(y.sum())
        assert np.array_equal(y.data, before)
