"""gradcheck names the cause of a wrong gradient, and what its wrong elements have in common; and never a wrong one."""

from functools import cache

import numpy as np
import pytest
from op_table import ROWS
from test_ops import leaves, mapped
from wrong_gradients import BUGS, X, Y, check
from wrong_rules import CATALOGUE, UNNAMED, op

import tinygrad_dl as tg
from tinygrad_dl._gradcheck.causes import FACTS, REPAIRS
from tinygrad_dl._gradcheck.diagnosis import diagnose
from tinygrad_dl._gradcheck.operation import Operation, Randomness, operations_of
from tinygrad_dl._gradcheck.suspect import Suspect
from tinygrad_dl._gradcheck.verdict import Verdict, judge
from tinygrad_dl.checking import gradcheck
from tinygrad_dl.graph import behind


@cache
def report_on(bug):
    f, inputs, *_ = (CATALOGUE | UNNAMED)[bug]
    return check(f, *inputs)


@pytest.mark.parametrize("bug", CATALOGUE)
def test_the_cause_is_named(bug):
    assert {cause.name for cause in report_on(bug).causes} == {CATALOGUE[bug][2]}


def test_nine_of_ten_bugs_are_named():
    found = [bool(report_on(bug).causes) for bug in CATALOGUE | UNNAMED]
    assert len(found) >= 40
    assert sum(found) / len(found) >= 0.9


@pytest.mark.parametrize("bug", UNNAMED)
def test_what_cannot_be_verified_is_not_named(bug):
    assert report_on(bug).verdict == "wrong"
    assert report_on(bug).causes == []


def test_every_row_of_the_catalogue_is_tested():
    rows = {cause.name for cause in (*FACTS, *REPAIRS)} - {"argument written in place"}
    assert rows == {expected for *_, expected in CATALOGUE.values()} - {"gradient cut off"}


def nested(before, tree):
    """The same lists and tuples with `before` of every tensor that requires grad."""
    if type(tree) in (list, tuple):
        return type(tree)(nested(before, part) for part in tree)
    return before(tree) if isinstance(tree, tg.Tensor) and tree.requires_grad else tree


def judged(row, before=lambda t: t):
    """Each operation, its verdict, and the causes found for it; one after the other, as a recorded graph is."""

    tensors = mapped(lambda array: tg.tensor(array, requires_grad=array.dtype.kind == "f"), row.sample())
    with np.errstate(all="ignore"):
        result = row.call(nested(before, tensors))
        roots = [y.node for y in leaves(result) if isinstance(y, tg.Tensor) and y.node is not None]
        for found in operations_of(behind(roots)):
            assert isinstance(found, Operation), found
            verdict = judge(found, Randomness(0))
            yield found, verdict, list(diagnose(found, verdict))


def test_no_right_operation_is_named():
    """None alone, and none when what it is computed from has a gradient that is a thousandth too large."""
    slip = op(lambda x: x * 1, lambda g, _y, _x: 1.001 * g)
    operations = 0
    for row in ROWS:
        for found, verdict, causes in judged(row, slip):
            operations += 1
            if found.op is slip:
                told = found.args[0].size and np.isfinite(found.args[0]).all()
                assert [c.name for c in causes] == ["constant factor"] * bool(told), row.name
            else:
                assert verdict.kind in ("right", "not checked"), (row.name, found.op.name, verdict)
                assert causes == []
                assert verdict.kind == "right" or "not finite" in verdict.text, (row.name, found.op.name, verdict)
    assert len(ROWS) > 100
    assert operations > 500


def test_no_repair_is_taken_for_needed_where_a_rule_is_right():
    for f, inputs in ((np.tanh, (X,)), (lambda x, y: x @ y.T, (X, Y)), (lambda x: x.var(axis=0), (X,))):
        tensors = [tg.tensor(x, requires_grad=True) for x in inputs]
        for found in operations_of(behind([f(*tensors).node])):
            for i in found.live:
                assert not Suspect(found, i, 0, Verdict("wrong")).wrong
            judge(found, Randomness(0))


# ---- what is said


def test_the_report_names_the_operation_the_argument_and_the_line():
    wrong = op(np.divide, lambda g, _y, _a, b: g / b, lambda g, y, _a, b: g * y / b)

    def f(x, y):
        return np.sin(wrong(x, y + 3.0)).sum()

    report = check(f, X, Y)
    (cause,) = report.causes
    assert (cause.name, cause.text, cause.argument) == ("constant factor", "the sign is wrong", "argument 1")
    assert "return np.sin(wrong(x, y + 3.0)).sum()" in cause.place
    assert f"cause: {cause}" in str(report)
    assert "repaired, it is right at 5 random points" in str(report)


@pytest.mark.parametrize(
    ("bug", "text"),
    [
        ("constant factor: two", "multiply the gradient by 1/2"),
        ("constant factor: a thousandth", "multiply the gradient by 0.999"),
        ("constant factor: number of elements", "too large by the factor 12, the number of elements"),
        ("constant factor: divided by an axis", "too small by the factor 4, the length of its axis 1"),
        ("mean treated as sum: axis", "divide by 3"),
        ("wrong ddof: var", "divides by 11 where the kernel divides by 12"),
        ("missing sum over a broadcast axis: of a row", "has shape (3, 4): sum it over the broadcast axes (0,)"),
        ("missing sum over a broadcast axis: mean", "average it over the broadcast axes (0,)"),
        ("transposed operand: right factor", "argument 1 is to be transposed"),
        ("transposed operand: answer", "the rule's answer is to be transposed"),
        ("swapped arguments: rules", "the rules for arguments 0 and 1 are exchanged"),
        ("swapped arguments: operands", "takes arguments 0 and 1 for each other"),
        ("missing chain factor: one by y", "the factor 1/y is missing"),
        ("missing chain factor: one less y squared", "the factor 1 - y² is missing"),
        ("missing chain factor: other operand", "the factor argument 1 is missing"),
        ("missing chain factor: mask", "the mask x > 0 is missing"),
        ("shifted by a slice: off by one", "belongs 1 further on along axis 1"),
        ("repeated indices overwrite: vector", "add them up, as tg.scatter_add does"),
        ("not linear in the incoming gradient: squared", "multiplies by the incoming gradient twice"),
        ("saved value mutated: fused", "writes into what the forward saved"),
        ("gradient cut off: detached", "x is argument 1 of multiply"),
        ("gradient cut off: no rule", "whose rule is None"),
    ],
)
def test_words(bug, text):
    assert text in str(report_on(bug))


def test_both_arguments_of_an_operation_and_several_operations():
    first = op(np.multiply, lambda g, _y, _a, b: 2 * g * b, lambda g, _y, a, _b: -g * a)
    second = op(np.tanh, lambda g, _y, _x: g)
    causes = check(lambda x, y: second(first(x, y)), X, Y).causes
    assert [(c.name, c.argument) for c in causes] == [
        ("constant factor", "argument 0"),
        ("constant factor", "argument 1"),
        ("missing chain factor", "argument 0"),
    ]


def test_no_causes_where_all_is_right_or_only_the_second_order_is_wrong():
    assert gradcheck(np.tanh, X, order=2).causes == []
    stop = lambda x: x.detach() if isinstance(x, tg.Tensor) else x
    report = check(op(np.sin, lambda g, _y, x: g * np.cos(stop(x))), X, order=2)
    assert report.verdict == "wrong"
    assert report.causes == []


@pytest.mark.parametrize(
    ("f", "cause"),
    [
        (lambda x: np.round(x) * x, "kink at the point"),
        (lambda x: op(np.sin, lambda g, _y, x: 1.01 * g * np.cos(x))(x) + 1e8, "constant factor"),
    ],
)
def test_what_rounding_or_a_jump_hides_is_not_taken_for_float32(f, cause):
    assert [c.name for c in check(f, np.array([0.5, 1.3])).causes] == [cause]


# ---- what the wrong elements have in common

SIGNED = np.where(np.abs(X) < 0.05, 0.3, X)


def slip(where):
    """A gradient that is too large where a mask, made of x, says so."""
    return op(lambda x: x * x, lambda g, _y, x: g * 2 * x * np.where(where(x), 1.01, 1))


def at(*index):
    def mask(x):
        mask = np.zeros(x.shape, bool)
        mask[index] = True
        return mask

    return mask


PATTERNS = {
    "where x < 0": (lambda x: x < 0, SIGNED),
    "where x > 0": (lambda x: x > 0, SIGNED),
    "where |x| > 1": (lambda x: abs(x) > 1, X * 2),
    "in row 0": (at(0), X),
    "in the last row": (at(-1), X),
    "in column 1": (at(slice(None), 1), X),
    "in the last column": (at(slice(None), -1), X),
    "outside of row 1": (at([0, 2]), X),
    "in element 2": (at(2), X.ravel()),
    "in the last element": (at(-1), X.ravel()),
    "in part 1 of axis 0": (at(1), np.stack([X, Y + 0.1, X - 3])),
    "on the diagonal": (lambda x: np.eye(*x.shape, dtype=bool), X),
    "above the diagonal": (lambda x: np.triu(np.ones(x.shape, bool), 1), X),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_the_wrong_elements_have_in_common(pattern):
    where, x = PATTERNS[pattern]
    f = slip(where)
    report = check(lambda x: f(x), x)
    assert report.comparisons[0].pattern == f"wrong only {pattern}"
    assert report.comparisons[0].pattern in str(report)


def test_patterns_by_the_value_of_a_zero_and_of_the_gradient():
    x = np.array([0.0, 1.0, 0.0, -2.0])
    cube = op(lambda x: x + x**3, lambda g, _y, x: g * (3 * x * x + np.where(x == 0, 2, 1)))
    assert check(lambda x: cube(x), x).comparisons[0].pattern == "wrong only where x == 0"
    relu = op(lambda x: np.maximum(x, 0) + x, lambda g, _y, x: g * np.where(x > 0.3, 2, 0))
    assert check(lambda x: relu(x), np.array([0.1, 1.0, 0.2, 3.0])).comparisons[0].pattern in (
        "wrong only where |x| < 1",
        "wrong only where the gradient by backward is 0",
    )


def test_nothing_in_common():
    assert check(*[BUGS["twice"][0], *BUGS["twice"][1]]).comparisons[0].pattern == "", "all are wrong"
    scattered = op(lambda x: x * x, lambda g, _y, x: g * 2 * x * np.where(at([0, 1, 2, 2], [1, 3, 0, 2])(x), 2, 1))
    assert check(lambda x: scattered(x), np.abs(X) + 1).comparisons[0].pattern == ""


def test_patterns_of_a_sample_of_a_large_argument():
    x = np.random.default_rng(0).normal(size=(40, 30))
    f = slip(lambda x: x < 0)
    assert check(lambda x: f(x), x, max_entries=60).comparisons[0].pattern == "wrong only where x < 0"
