"""gradcheck's report, arguments, messages and manners."""

import pickle
import re

import numpy as np
import pytest
from wrong_gradients import BUGS, X, Y, check, mixed, one_wrong_element, scaled, writes

import tinygrad_dl as tg
from tinygrad_dl.checking import GradcheckError, gradcheck
from tinygrad_dl.primitive import primitive

# ---- the report


def test_ratio_is_the_recipes():
    x = np.linspace(-1, 1, 5)
    report = check(scaled(1.001), x)
    # ‖d - 1.001 d‖ / (‖d‖ + ‖1.001 d‖) for whatever d
    assert report.ratio == pytest.approx(0.001 / 2.001, rel=1e-3)
    assert "look again" in str(report)
    assert check(scaled(1.5), x).ratio == pytest.approx(0.5 / 2.5, rel=1e-3)
    assert "worry" in str(check(scaled(1.5), x))
    good = check(np.tanh, x)
    assert good.ratio < 1e-7
    assert "great" in str(good)


def test_rtol_is_the_threshold():
    assert check(scaled(1.001), X, rtol=1e-3)
    assert not check(scaled(1.001), X, rtol=4e-4)
    assert not check(scaled(1 + 1e-6), X, rtol=1e-7)
    assert check(scaled(1 + 1e-6), X)


def test_the_report_says_which_output_input_and_element():
    def f(first, second):
        return {"loss": first.sum(), "parts": (first * 2, one_wrong_element(12, (1, 2))(second))}

    report = check(f, X, Y)
    (bad,) = [c for c in report.comparisons if c.verdict != "passed"]
    assert (bad.output, bad.argument, bad.index, bad.output_index) == ("output['parts'][1]", "second", (1, 2), (1, 2))
    assert bad.numeric == pytest.approx(2 * Y[1, 2], rel=1e-8)
    assert bad.analytic == pytest.approx(2.002 * Y[1, 2], rel=1e-8)
    text = str(report)
    assert "d output['parts'][1][1, 2] / d second[1, 2]" in text
    assert f"{2.002 * Y[1, 2]:.6f}" in text
    assert f"{2 * Y[1, 2]:.6f}" in text
    assert "one_wrong at test_gradcheck.py:" in text
    assert repr(report) == text
    assert all(len(line) < 200 for line in text.splitlines())


def test_the_values_of_a_scalar_are_its_derivatives():
    report = check(lambda x: scaled(2.0)(x).sum(), np.array([0.5]))
    assert report.comparisons[0].numeric == pytest.approx(1 - np.tanh(0.5) ** 2, rel=1e-8)
    assert report.comparisons[0].analytic == pytest.approx(2 - 2 * np.tanh(0.5) ** 2, rel=1e-12)


def test_the_report_is_a_table_of_figures():
    report = gradcheck(lambda x, y: x @ y.T, X, Y.astype("float32"))
    assert report
    assert [(c.argument, c.shape, c.checked, c.total) for c in report.comparisons] == [
        ("x", (3, 4), 12, 12), ("y", (3, 4), 12, 12),
    ]  # fmt: skip
    assert report.ratio == max(c.ratio for c in report.comparisons)
    assert report.failures == report.findings == []
    assert (report.eps, report.rtol, report.copied) == (1e-6, 1e-5, ["y"])
    assert report.evaluations > 48
    rows = str(report).splitlines()
    assert rows[0] == "gradcheck passed: gradients and differences agree"
    assert "in float64 copies: y" in rows[-1]
    assert re.search(r"x +\(3, 4\) +12 of 12 +\d\.\de-\d\d", str(report))


def test_failure_raises_with_the_report():
    with pytest.raises(GradcheckError) as caught:
        gradcheck(scaled(2.0), X)
    assert isinstance(caught.value, AssertionError)
    assert caught.value.report.verdict == "wrong"
    assert str(caught.value) == str(caught.value.report)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_larger_arguments_by_a_sample():
    x = np.random.default_rng(1).normal(size=(40, 30))
    report = gradcheck(lambda x: np.sin(x).sum(), x, max_entries=50)
    assert (report.comparisons[0].checked, report.comparisons[0].total) == (50, 1200)
    assert "50 of 1200" in str(report)
    assert "200 of 1200" in str(gradcheck(lambda x: np.sin(x).sum(), x))
    wrong = one_wrong_element(1200, 0)
    found = [not check(wrong, x.reshape(-1), max_entries=400, seed=seed) for seed in range(12)]
    assert any(found), "some seeds choose the wrong element"
    assert not all(found), "and others do not"


def test_the_same_seed_gives_the_same_report():
    def f(x):
        return np.tanh(x @ x.T) @ x

    assert str(check(f, X, seed=3)) == str(check(f, X, seed=3))
    assert str(check(f, X, seed=3)) != str(check(f, X, seed=4))


# ---- arguments and results


def test_inputs_of_every_kind():
    seen = []

    def f(tensor, array, number, scalar, integer, flag, index, text):
        seen.append((tensor.dtype, array.dtype, number.dtype, scalar.dtype, integer, flag, type(index), text))
        return tensor * array[index] * number * scalar * integer

    index = tg.tensor([0, 0, 2])
    inputs = (tg.tensor([1.0, 2.0, 3.0]), X[:, 0].astype("float16"), 0.5, np.float32(2), 3, True, index, "text")
    report = gradcheck(f, *inputs)
    assert [c.argument for c in report.comparisons] == ["tensor", "array", "number", "scalar"]
    assert report.copied == ["tensor", "array", "scalar"]
    assert seen[0] == (*[np.dtype("float64")] * 4, 3, True, tg.Tensor, "text")
    assert inputs[0].dtype == np.float32
    assert not inputs[0].requires_grad


def test_inputs_and_their_gradients_stay_as_they_are():
    x = tg.tensor(X, requires_grad=True)
    x.grad = Y
    before = x.data
    assert gradcheck(lambda x: x * 2, x)
    assert x.data is before
    assert np.array_equal(x.data, X)
    assert np.array_equal(x.grad.data, Y)
    result = x * 2
    assert gradcheck(np.sin, result), "a result of an operation will do"


def test_names_of_arguments():
    def names(f, *inputs):
        return [c.argument for c in gradcheck(f, *inputs).comparisons]

    assert names(lambda weight, bias: weight + bias, X, Y) == ["weight", "bias"]
    assert names(lambda *many: many[0] + many[1], X, Y) == ["argument 0", "argument 1"]
    assert names(lambda x: x, tg.tensor(X, name="weight")) == ["weight"]
    same = tg.tensor(X, name="w")
    assert names(lambda a, b: a * b, same, same) == ["w", "w (1)"]


def test_results_of_every_kind():
    def outputs(f):
        return [c.output for c in gradcheck(f, X).comparisons]

    assert outputs(lambda x: x.sum()) == ["output"]
    assert outputs(lambda x: (x, x * 2)) == ["output[0]", "output[1]"]
    assert outputs(lambda x: [x, x.argmax(), None, "text"]) == ["output[0]"]
    assert outputs(lambda x: {"a": x, "b": [x, (x,)]}) == ["output['a']", "output['b'][0]", "output['b'][1][0]"]


def test_nothing_to_check_is_an_error():
    with pytest.raises(ValueError, match=r"expected a floating argument, got \(int64 \(2,\), 3\)"):
        gradcheck(lambda i, n: i * n, np.array([1, 2]), 3)
    with pytest.raises(TypeError, match="f returned 'text'; expected a floating Tensor"):
        gradcheck(lambda x: "text", X)
    with pytest.raises(TypeError, match=r"f returned int64 \(\)"):
        gradcheck(lambda x: x.argmax(), X)
    with pytest.raises(ValueError, match=r"depends on none of its arguments \(x, y\)"):
        gradcheck(lambda x, y: tg.tensor(X), X, Y)
    for options in ({"eps": 0}, {"rtol": -1}, {"max_entries": 0}, {"order": 0}):
        with pytest.raises(ValueError, match="expected eps > 0"):
            gradcheck(np.sin, X, **options)


def test_errors_of_f_come_through():
    with pytest.raises(ValueError, match="matmul"):
        gradcheck(lambda x: x @ x, X)
    with pytest.raises(ValueError, match="near a point"):
        gradcheck(lambda x: x[: 1 + int(float(x[0].detach()) > 0.3)], np.array([0.3, 1.0]))


def test_empty_arrays():
    report = gradcheck(lambda x, y: x.sum() + y.sum(), np.zeros((0, 3)), X)
    assert (report.comparisons[0].checked, report.comparisons[0].total) == (0, 0)
    assert gradcheck(lambda x: np.sin(x), np.zeros((0, 3)))
    assert gradcheck(lambda x: (x[:0], x.sum() * 1e-9 + 1), X), "an empty output"


def test_recording_is_on_and_warnings_are_off():
    with tg.no_grad():
        assert gradcheck(lambda x: np.sin(x), X)
    assert check(np.sqrt, np.array([1e-7])), "x - h is out of the domain"


def test_f_may_differentiate_inside():
    def slope(x):
        y = np.sin(x).sum()
        x.grad = None
        y.backward(create_graph=True)
        return x.grad * x

    assert gradcheck(slope, X)


# ---- messages


def test_the_engine_says_which_axis_lacks_a_sum():
    plus = primitive(np.add, lambda g, *_: g, lambda g, *_: g, name="plus")
    text = str(check(lambda x, y: np.sin(plus(x, y)), X, Y[0]))
    assert "backward of plus" in text
    assert "sum it over the broadcast axes (0,)" in text
    assert "forward at test_gradcheck.py" in text
    assert "np.sin(plus(x, y))" in text


@pytest.mark.parametrize("into", ["g", "x", "y"])
def test_a_rule_that_writes_is_named(into):
    text = str(check(lambda x: np.exp(writes(into)(np.sin(x))), X))
    assert "writes into its inputs or into the incoming gradient" in text
    assert "test_gradcheck.py" in text


def test_a_missing_gradient_is_called_missing():
    report = check(BUGS["rule None"][0], X, Y)
    bad = report.failures[0]
    assert (bad.argument, bad.analytic) == ("b", 0.0) or bad.argument == "argument 1"
    assert "no gradient arrived" in str(report)


def test_a_fused_pair_is_compared_with_its_meaning():
    assert "mixed" in str(check(mixed(value=1 + 1e-9), X, Y))
    text = str(check(lambda x, y: np.sin(mixed(second=1 + 1e-9)(x, y)), X, Y))
    assert "the fused backward disagrees with the op's definition, in argument 1" in text
    assert "test_gradcheck.py" in text
    assert "the fused forward disagrees with the op's definition" in str(check(mixed(value=1 + 1e-9), X, Y))


# ---- against PyTorch's check


def test_pytorch_lets_these_pass():
    torch = pytest.importorskip("torch")

    class Plus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return g, g  # the sum over the broadcast axis is missing

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, g):
            return 1.001 * g * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)

    a, b = (torch.tensor(v, requires_grad=True) for v in (X, Y[0]))
    assert torch.autograd.gradcheck(Plus.apply, (a, b))
    assert torch.autograd.gradcheck(Scaled.apply, (a,))
    assert not check(*BUGS["missing sum over the broadcast axis"][:1], X, Y[0])
    assert not check(scaled(1.001), X)


def test_models_that_f_closes_over_keep_their_buffers():
    model = tg.nn.Sequential(tg.nn.Linear(4, 3), tg.nn.BatchNorm1d(3)).astype("float64")
    x = np.random.default_rng(0).normal(size=(6, 4))
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    assert tg.gradcheck(lambda x: model(x), x)
    assert tg.gradcheck(lambda x: model(x), x, wrt=list(model.parameters()))
    assert all(np.array_equal(before[name], t.numpy()) for name, t in model.state_dict().items())
