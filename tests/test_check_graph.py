"""check_graph: a verdict on every recorded operation, at its real inputs; nothing is changed; picture and report."""

import re
from itertools import chain

import numpy as np
import pytest
from graphs import IMAGES, LABELS, F, Wrong, digits_mlp, leaf, twice, verdicts
from op_table import ROWS
from test_drawing import boxes
from test_ops import leaves, mapped
from wrong_gradients import X, Y, stale
from wrong_rules import CATALOGUE, op

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.insight.graph_check import COLOURS, MOST, check_graph

# ---- verdicts


def test_a_right_model():
    model = digits_mlp()
    report = check_graph(F.cross_entropy(model(IMAGES), LABELS))
    assert report
    assert verdicts(report) == ["right"] * 9
    assert [check.layer for check in report.checks] == [*(f"Sequential.{i}" for i in range(8)), ""]
    assert [check.op for check in report.checks[:3]] == ["linear", "batch_norm", "relu"]
    assert report.wrong == []
    assert str(report).startswith("check_graph: 9 operations: 9 right\n")


def test_the_wrong_operation_its_line_layer_and_cause():
    tg.seed(0)
    model = nn.Sequential(nn.Linear(64, 16), Wrong(), nn.Linear(16, 10))
    report = check_graph(F.cross_entropy(model(IMAGES), LABELS))
    assert not report
    (wrong,) = report.wrong
    assert verdicts(report) == ["right", "wrong", "right", "right"]
    assert (wrong.op, wrong.layer) == ("op", "Sequential.1")
    assert wrong.line.endswith("in forward: return twice(x)")
    assert [(c.name, c.text) for c in wrong.causes] == [("constant factor", "multiply the gradient by 1/2")]
    by_rule, by_differences = map(float, re.findall(r"derivative (\S+) by its rule, (\S+) by", wrong.detail)[0])
    assert by_rule == pytest.approx(2 * by_differences, rel=1e-5)
    text = str(report)
    assert "wrong: op in Sequential.1, graphs.py:" in text
    assert "cause: constant factor: multiply the gradient by 1/2" in text


EXPECTED = {
    "kink at the point": "kink",
    "random forward": "random",
    "random backward": "random",
    "float32 lost inside": "right",
    "gradient cut off": "right",  # each operation does what it says
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_seeded_bugs(dtype):
    for bug, (f, inputs, cause) in CATALOGUE.items():
        tensors = [leaf(x, dtype=dtype) if x.dtype.kind == "f" else x for x in inputs]
        report = check_graph(f(*tensors))
        gravest = next(verdict for verdict in COLOURS if verdict in verdicts(report))
        assert gravest == EXPECTED.get(cause, "wrong"), (bug, str(report))
        assert bool(report) == (gravest != "wrong")
        if gravest == "wrong":
            assert {c.name for check in report.wrong for c in check.causes} == {cause}, bug
            assert verdicts(report).count("wrong") == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_operation_of_the_library_is_right(dtype):
    found = []
    for row in ROWS:
        arguments = mapped(lambda a: leaf(a, dtype=dtype) if a.dtype.kind == "f" else tg.tensor(a), row.sample())
        results = leaves(row.call(arguments))
        report = [check_graph(y) for y in results if isinstance(y, tg.Tensor) and y.node is not None]
        checks = list(chain.from_iterable(part.checks for part in report))
        for check in checks:
            assert check.verdict == "right" or "not finite" in check.detail, (row.name, str(check))
        found += checks
    assert len({check.op for check in found}) > 100
    assert sum(check.verdict == "right" for check in found) > 0.95 * len(found)


def test_inputs_that_no_rule_keeps_are_computed_again():
    x, w = leaf(X), leaf(Y)
    wrong_exp = op(np.exp, lambda g, y, _x: g * y * 1.001)
    report = check_graph(wrong_exp((x + w) * 1.0).sum())
    assert verdicts(report) == ["right", "right", "wrong", "right"]


def test_an_operation_with_several_outputs():
    x = leaf(X)
    first, second = np.split(x, 2, axis=1)
    assert set(verdicts(check_graph((np.exp(first) * second).sum()))) == {"right"}


def test_any_shape_of_loss():
    assert check_graph(np.tanh(leaf(X)))
    assert verdicts(check_graph(np.tanh(leaf(0.5)))) == ["right"]
    assert verdicts(check_graph(leaf(X))) == []
    assert verdicts(check_graph(np.exp(leaf(np.ones((0, 3)))))) == ["right"]


def test_a_rule_that_reads_what_the_kernel_left_behind():
    f, x = stale(), leaf(X)
    report = check_graph((f(x) + f(np.sin(x))).sum())
    assert [c.name for check in report.wrong for c in check.causes] == ["stale value"] * 2


def test_the_rules_of_the_library_are_linear_and_read_only_what_they_are_given(monkeypatch):
    monkeypatch.setattr("tinygrad_dl._gradcheck.sound.foreign", lambda _: True)
    for row in ROWS:
        arguments = mapped(lambda a: leaf(a) if a.dtype.kind == "f" else tg.tensor(a), row.sample())
        for y in leaves(row.call(arguments)):
            if isinstance(y, tg.Tensor) and y.node is not None:
                assert check_graph(y), row.name


# ---- nothing is changed


def test_nothing_is_changed():
    def run(check):
        model = digits_mlp()
        loss = F.cross_entropy(model(IMAGES), LABELS)
        state, values = tg.random.state(), {k: v.data.copy() for k, v in model.state_dict().items()}
        if check:
            assert check_graph(loss)
        assert tg.random.state() == state
        assert all(np.array_equal(v.data, values[k]) for k, v in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())
        loss.backward()
        return [p.grad.data for p in model.parameters()]

    for a, b in zip(run(False), run(True), strict=True):
        assert a.tobytes() == b.tobytes()


def test_after_a_backward():
    x = leaf(X)
    loss = np.tanh(x).sum()
    loss.backward(retain_graph=True)
    assert check_graph(loss)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"consumed by the backward at test_check_graph.py.*retain_graph=True"):
        check_graph(loss)


def test_under_no_grad_it_checks_all_the_same():
    x = leaf(X)
    loss = twice(x).sum()
    with tg.no_grad():
        assert verdicts(check_graph(loss)) == ["wrong", "right"]


def test_the_same_verdict_each_time():
    x = leaf(X)
    loss = twice(x).sum()
    assert str(check_graph(loss)) == str(check_graph(loss))


def test_errors():
    with pytest.raises(TypeError, match="check_graph: expected a Tensor, such as a loss, got 3"):
        check_graph(3)
    with pytest.raises(ValueError, match="was not recorded"):
        check_graph(tg.tensor(X))
    with pytest.raises(Exception, match="check_graph"):
        tg.compile(lambda x: (check_graph(x * 2), x)[1])(leaf(X))


# ---- the picture and the report


def test_verdicts_in_the_drawn_graph():
    tg.seed(0)
    model = nn.Sequential(nn.Linear(64, 16), Wrong(), nn.Linear(16, 10))
    report = check_graph(F.cross_entropy(model(IMAGES), LABELS))
    source = report.draw().source
    shown = {tuple(words) for words in boxes(report.draw()).values() if {"right", "wrong"} & set(words)}
    assert sorted(word for words in shown for word in words if word in COLOURS) == ["right"] * 3 + ["wrong"]
    assert next(words for words in shown if "wrong" in words)[1:3] == ("op", "wrong")
    assert source.count(COLOURS["wrong"]) == 2, "the border and the word"
    folded = report.draw(depth=0)
    assert [words[1] for words in boxes(folded).values() if words[0] == "Sequential"] == ["wrong"]


def test_a_picture_without_a_check_has_no_verdicts():
    assert not set(COLOURS) & set(chain.from_iterable(boxes(tg.draw(np.tanh(leaf(X)).sum())).values()))


def test_a_long_report_lists_what_is_not_right():
    y = x = leaf(X)
    for _ in range(MOST):
        y = np.tanh(y)
    text = str(check_graph(twice(y)))
    assert x.grad is None
    assert text.startswith(f"check_graph: {MOST + 1} operations: 1 wrong, {MOST} right")
    assert "tanh" not in text.replace("np.tanh", "")
