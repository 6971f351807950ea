"""check_graph: a verdict on every recorded operation, at its real inputs."""

import re
from itertools import chain

import numpy as np
import pytest
from op_table import ROWS
from test_drawing import boxes
from test_ops import leaves, mapped
from wrong_gradients import X, Y, stale, writes
from wrong_rules import CATALOGUE, op

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.insight.graph_check import COLOURS, MOST, check_graph

F = nn.functional
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(64, 64)).astype(np.float32), RNG.integers(0, 10, 64)
ZEROS = np.where(np.arange(12).reshape(3, 4) < 3, 0, X)
twice = op(np.tanh, lambda g, y, _x: 2 * g * (1 - y * y))


def verdicts(report):
    return [check.verdict for check in report.checks]


def leaf(data, **options):
    return tg.tensor(data, requires_grad=True, **options)


def digits_mlp():
    tg.seed(0)
    return nn.Sequential(
        nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64, bias=False),
        nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


class Wrong(nn.Module):
    def forward(self, x):
        return twice(x)


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
    assert "wrong: op in Sequential.1, test_check_graph.py:" in text
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


# ---- kinks, randomness, what cannot be checked


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
    assert re.search(r"w was overwritten since, at test_check_graph.py:\d+, in test_what.*w.assign", str(report))


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
