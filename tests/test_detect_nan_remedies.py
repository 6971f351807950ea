"""What `detect_nan` says to write is free of the NaN or infinity that it names."""

import ast

import numpy as np
import pytest
from nan_messages import F, here, leaf, message, remedy

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.insight.detection import detect_nan

# each line's text, run as it stands: forward, or forward and backward
VALUES = {
    "np.log(x)": ([1, 0], "log: the result has -inf at [1]; 1 of 2", "logarithm of 0"),
    "np.log2(x)": ([1, -2], "log2: the result has nan at [1]; 1 of 2", "negative number has no logarithm"),
    "np.log1p(x)": ([-1, 1], "log1p: the result has -inf at [0]; 1 of 2", "x > -1"),
    "np.sqrt(x)": ([4, -1e-6, 1], "sqrt: the result has nan at [1]; 1 of 3", "no square root"),
    "1 / x": ([0, 1], "divide: the result has inf at [0]; 1 of 2", "division by 0"),
    "(x - 1) / (x - 1)": ([1, 2], "divide: the result has nan at [0]; 1 of 2", "0 / 0"),
    "np.reciprocal(x)": ([0, 1], "reciprocal: the result has inf at [0]", "division by 0"),
    "x % (x - 1)": ([1, 3], "remainder: the result has nan at [0]", "division by 0"),
    "np.exp(x)": ([1, 100], "exp: the result has inf at [1]; 1 of 2", "overflows float32 beyond 88"),
    "np.exp2(x)": ([1, 200], "exp2: the result has inf at [1]", "overflows float32 beyond 127"),
    "x ** 0.5": ([-1, 1], "power: the result has nan at [0]", "no fractional power"),
    "x ** -1": ([0, -2], "power: the result has inf at [0]", "0 to a negative power"),
    "x ** np.array([2, -1])": ([-2, 0], "power: the result has inf at [1]", "0 to a negative power"),
    "x ** np.array([0.5, 2])": ([-1, -3], "power: the result has nan at [0]", "no fractional power"),
    "x ** -0.5": ([-1, 4], "power: the result has nan at [0]", "no fractional power"),
    "np.float_power(x, 0.5)": ([-1, 4], "float_power: the result has nan at [0]", "no fractional power"),
    "np.exp(x) / np.exp(x).sum()": ([1, 100], "exp: the result has inf at [1]", "overflows float32 beyond 88"),
    "np.cosh(x)": ([-200, 1], "cosh: the result has inf at [0]", "overflows float32 beyond 88"),
    "np.arcsin(x)": ([1.1, 0], "arcsin: the result has nan at [0]", "-1 <= x <= 1"),
    "np.arccosh(x)": ([0.9, 2], "arccosh: the result has nan at [0]", "x >= 1"),
    "np.arctanh(x)": ([1, 0], "arctanh: the result has inf at [0]", "-1 < x < 1"),
    "np.square(x)": ([1e30, 0], "square: the result has inf at [0]", "the largest float32"),
}
GRADIENTS = {
    "np.sqrt(x)": ([0, 1], "backward of sqrt: the gradient of x has inf at [0]; 1 of 2", "derivative of a square root"),
    "np.cbrt(x)": ([0, 1], "backward of cbrt: the gradient of x has inf at [0]", "derivative of a cube root"),
    "x ** 0.5": ([0, 1], "backward of power: the gradient of x has inf at [0]", "derivative of this power"),
    "np.arccos(x)": ([1, 0], "backward of arccos: the gradient of x has -inf at [0]", "derivative at -1 and 1"),
    "np.arccosh(x)": ([1, 2], "backward of arccosh: the gradient of x has inf at [0]", "derivative at 1"),
    "np.hypot(x, x * 1)": ([0, 1], "backward of hypot: the gradient of x has nan at [0]", "no derivative at 0"),
    "np.where(x > 0, np.sqrt(x) * 2, 0)": ([0, 1], "backward of sqrt: the gradient of x has nan at [0]", "0 · inf"),
    "1 / x": ([-1e-30, -4, 1e-30], "backward of divide: the gradient of x has -inf at [0]", "so small a number"),
    "np.power(x, 0.5)": ([0, 1], "backward of power: the gradient of x has inf at [0]", "derivative of this power"),
    "np.where(x < 1, np.arccos(x), 0)": ([1, 0.5], "backward of arccos: the gradient of x has nan at [0]", "0 · inf"),
    "np.where(x > 1, np.arccosh(x), 0)": ([1, 2], "backward of arccosh: the gradient of x has nan at [0]", "0 · inf"),
    "np.where(x <= 0, 0, x ** 0.5)": ([0, 1], "backward of power: the gradient of x has nan at [0]", "0 · inf"),
    "np.where(x > 0, np.sin(x) / x, 1)": ([1, 4, 0], "divide: the result has nan at [2]", "0 / 0"),
}
WITHOUT = ["np.square(x)", "np.exp(x)", "np.exp2(x)", "np.exp(x) / np.exp(x).sum()", "np.cosh(x)",
           "x ** np.array([0.5, 2])", "x ** np.array([2, -1])", "x ** -0.5"]  # fmt: skip


def run(code, x, backward, path):
    """Evaluate a line of a file that exists, so that its text can be read."""
    path.write_text(f"y = {code}\n")
    names = {"x": x, "np": np, "nn": nn}
    exec(compile(path.read_text(), str(path), "exec"), names)
    if backward:
        names["y"].sum().backward()
    return names["y"]


@pytest.mark.parametrize(
    ("code", "values", "says", "because", "backward"),
    [(c, *row, False) for c, row in VALUES.items()] + [(c, *row, True) for c, row in GRADIENTS.items()],
)
def test_names_the_element_and_the_cause_and_the_line_it_proposes_is_finite(
    code, values, says, because, backward, tmp_path
):
    text = message(run, code, leaf(values), backward, tmp_path / "user.py")
    assert text.startswith(says)
    assert because in text
    assert f"user.py:1, in <module>: y = {code}" in text
    if "write instead" not in text:
        assert code in WITHOUT
        return
    old, new = leaf(values), leaf(values)
    with np.errstate(all="ignore"):
        y = run(code, old, True, tmp_path / "user.py")
    well = np.isfinite(y.data) & np.isfinite(old.grad.data)  # what stays as it was
    with detect_nan():
        z = run(remedy(text).removeprefix("y = "), new, backward, tmp_path / "repaired.py")
    for a, b in [(y, z), (old.grad, new.grad)][: 1 + backward]:
        assert np.isfinite(b.data).all()
        np.testing.assert_allclose(b.data[well], a.data[well], rtol=1e-5, atol=2e-6)


def test_where_trap_says_which_where_and_chooses_the_other_branch_as_well():
    x = leaf([1, 0])

    def f():
        root = np.sqrt(x)
        return np.where(x == 0, 0, root).sum().backward()

    text = message(f)
    assert "np.where at test_detect_nan_remedies.py" in text
    assert remedy(text) == "root = np.sqrt(np.where(~(x == 0), x, 1))"
    assert "the gradient that arrives 0" in text


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("np.log(nn.functional.softmax(x))", "nn.functional.log_softmax(x)"),
        ("np.log(nn.functional.softmax(x * 2, axis=0))", "nn.functional.log_softmax(x * 2, axis=0)"),
        ("np.log(nn.functional.sigmoid(x))", "-nn.functional.softplus(-x)"),
        ("np.log(nn.functional.sigmoid(x))**2", "(-nn.functional.softplus(-x))**2"),
        ("-np.log(1 - nn.functional.sigmoid(x)).mean()", "-(-nn.functional.softplus(x)).mean()"),
        ("np.log(np.exp(x - 250).sum(1, keepdims=True))", "nn.functional.logsumexp(x - 250, axis=1, keepdims=True)"),
        ("np.log(np.exp(x - 350).sum())", "nn.functional.logsumexp(x - 350, axis=None)"),
    ],
)
def test_log_of_softmax_and_sigmoid_and_sum_of_exponentials_point_to_the_stable_forms(code, line, tmp_path):
    z = np.array([[-200.0, 3.0], [0.0, 20.0]])
    assert remedy(message(run, code, leaf(z), False, tmp_path / "user.py")) == f"y = {line}"
    right, found = (run(text, leaf(z).astype(float), False, tmp_path / "wide.py") for text in (code, line))
    np.testing.assert_allclose(found.data, right.data, rtol=1e-6, atol=1e-12)


def test_of_a_logarithm_to_another_base_the_stable_forms_would_be_wrong():
    text = message(lambda: np.log2(nn.functional.softmax(leaf([-200, 0]))))
    assert "np.log2(np.maximum(nn.functional.softmax(leaf([-200, 0])), 1e-12))" in remedy(text)


def test_what_is_of_another_function_has_no_text_there():
    def f(p):
        return np.log(p)

    assert (
        remedy(message(lambda: f(nn.functional.softmax(leaf([[0, 200]])))))
        == "return nn.functional.log_softmax(logits)"
    )


def test_no_line_is_proposed_for_the_inside_of_a_function():
    def f(x):
        return np.var(x, axis=0, ddof=1)

    text = message(f, leaf([[1]]))
    assert "in f: return np.var(x, axis=0, ddof=1)" in text
    assert "write instead" not in text


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("np.divide(1, x).sum()", "(1 / np.where(x == 0, 1, x)).sum()"),
        ("np.divide(np.ones(2), x).mean()", "(np.ones(2) / np.where(x == 0, 1, x)).mean()"),
        ("[np.divide(1, x), 1 / x]", "[1 / np.where(x == 0, 1, x), 1 / x]"),
        ("2 - 1 / x", "2 - 1 / np.where(x == 0, 1, x)"),
        ("np.float_power(x, -1).sum()", "np.float_power(np.where(x == 0, 1, x), -1).sum()"),
        ("np.log(*[x])", None),
    ],
)
def test_the_rest_of_the_line_keeps_its_meaning(code, line, tmp_path):
    text = message(run, code, leaf([0, 2]), False, tmp_path / "user.py")
    assert ("write instead" in text) == (line is not None)
    assert line is None or remedy(text) == f"y = {line}"


def test_a_small_divisor_keeps_its_sign():
    x = leaf([-1e-30, 1e-30])
    line = remedy(message(lambda: (1 / x).sum().backward()))
    assert "(1 / np.copysign(np.maximum(np.abs(x), 1e-06), x)).sum()" in line


@pytest.mark.parametrize("code", ["np.log(x)", "np.sqrt(x)", "np.arctanh(1 - x)", "np.divide(1, x)", "x ** 0.5"])
def test_what_is_proposed_in_float16_is_finite_too(code, tmp_path):
    x = tg.tensor(np.array([0, 0.25], np.float16), requires_grad=True)
    text = message(run, code, x, True, tmp_path / "user.py")
    with detect_nan():
        run(remedy(text).removeprefix("y = "), x, True, tmp_path / "repaired.py")
    assert np.isfinite(x.grad.data).all()


def test_an_operand_that_is_a_sum_stands_in_parentheses(tmp_path):
    assert "operands there: x[0] = 1, (x - x)[0] = 0\n" in message(
        run, "x / (x - x)", leaf([1]), False, tmp_path / "u.py"
    )


def test_a_kernel_of_ones_own_is_named():
    log, line = tg.primitive(lambda x: x / 0, lambda g, _y, x: g, name="log"), here()
    text = message(log, leaf([0, 1]))
    assert f"its own kernel gives it: test_detect_nan_remedies.py:{line}," in text
    assert "scale the inputs" not in text
    assert "write instead" not in text


def test_every_proposed_text_of_the_table_is_python():
    from tinygrad_dl.insight.causes import GRADIENTS as gradients
    from tinygrad_dl.insight.causes import VALUES as values
    from tinygrad_dl.insight.causes import Situation, words, written

    for cause in (*values, *gradients):
        op = cause.ops.replace("*", "exp").split()[0]
        s = Situation(op, np.dtype(F), of_what=("z", "z"), unused="x > 0")
        assert "{" not in words(cause.says, s)
        text = written(cause, s, ["x - 1", "y"])
        assert text is None or ast.parse(text)
