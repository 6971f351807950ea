"""Operations of one's own: what they may lack, what is kept for their rules, and errors in them."""

import functools
import re

import numpy as np
import pytest

import tinygrad_dl as tg


def test_a_wrong_shape_names_axes_and_line():
    bad = tg.primitive(np.add, lambda g, *_: g, lambda g, *_: g, name="bad")
    a, b = tg.tensor(np.ones((4, 3)), requires_grad=True), tg.tensor(np.ones(3), requires_grad=True)
    y = bad(a, b).sum()  # the forward line
    with pytest.raises(
        ValueError, match=r"(?s)argument 1.*shape \(4, 3\).*expected.*\(3,\).*axes \(0,\).*# the forward line"
    ):
        y.backward()


def test_elementwise_primitives_are_summed_over_broadcast_axes():
    a, b = tg.tensor(np.ones((4, 1, 3)), requires_grad=True), tg.tensor(np.ones((5, 1)), requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.shape == (4, 1, 3)
    assert b.grad.tolist() == [[12]] * 5


def test_a_taken_numpy_function_is_not_replaced():
    with pytest.raises(ValueError, match="tanh already has an operation"):
        tg.primitive(np.tanh, lambda g, y, x: g, numpy=np.tanh)


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        ((np.square,), {}, "square: expected a rule for each array argument, None for one without gradient: 1, got 0"),
        ((lambda x: x * x,), {"name": "squared"}, "squared: expected a rule for each array argument"),
        ((np.multiply, lambda g, y, a, b: g * b), {"name": "mul"}, "mul: expected a rule .*: 2, got 1"),
        ((functools.partial(np.sum, axis=0), lambda g, y, x: g), {}, "expected name= for functools.partial"),
        ((np.cosh, lambda g, y, x: g * np.sinh(x)), {"numpy": "cosh"}, "expected a function in numpy=.* got 'c'"),
    ],
)
def test_an_operation_that_lacks_something_is_refused(arguments, options, match):
    with pytest.raises(TypeError, match=match):
        tg.primitive(*arguments, **options)


def test_numpy_in_numpy_out():
    double = tg.primitive(lambda a: a * 2, lambda g, *_: g * 2, name="double")
    assert type(double(np.ones(2))) is np.ndarray
    assert double(tg.tensor([1.0])).tolist() == [2]


def test_unread_arguments_are_not_kept():
    seen = []
    op = tg.primitive(
        lambda a: a * 2, lambda g, _y, _a: seen.append((type(_a).__name__, _a.shape, _a.ndim)) or g * 2, name="op"
    )
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    op(x).sum().backward()
    assert seen == [("Leaf", (2, 3), 2)]


def test_errors_in_a_rule_name_the_forward_line():
    op = tg.primitive(lambda a: a * 2, lambda g, y, a: g @ a @ a, name="broken")
    y = op(tg.tensor(np.ones((2, 3)), requires_grad=True)).sum()  # made here
    with pytest.raises(ValueError, match=r"(?s)backward of broken.*# made here"):
        y.backward()


class Impossible(ValueError):
    """An error that is not made of a message."""

    def __init__(self, number, row):
        super().__init__(f"{number} in {row}")
        self.number = number


@pytest.mark.parametrize("compiled", [False, True])
def test_errors_keep_their_class_so_that_they_can_be_caught(compiled):
    impossible = False

    def kernel(a):
        if impossible:
            raise Impossible(3, "row 1")
        return a * 1

    def call(f, *args):
        f = tg.compile(f, backend="numpy") if compiled else f
        f(*args)
        return f

    inverse, own = call(np.linalg.inv, np.eye(2)), call(tg.primitive(kernel, lambda g, y, a: g, name="own"), np.ones(2))
    with pytest.raises(np.linalg.LinAlgError, match=r"(?s)inv: Singular matrix.*float64 \(2, 2\)"):
        inverse(tg.tensor(np.zeros((2, 2))))
    impossible = True
    with pytest.raises(Impossible, match="3 in row 1") as raised:
        own(tg.tensor(np.ones(2)))
    assert raised.value.number == 3
    assert re.match(r"own\n  called with \(float64 \(2,\).*\)\n  forward at ", raised.value.__notes__[0])


def test_an_error_in_a_rule_that_says_little_says_where():
    y = tg.primitive(lambda a: a * 2, lambda g, y, a: {}["k"], name="lost")(tg.tensor(1.0, requires_grad=True))
    with pytest.raises(KeyError) as raised:
        y.backward()
    assert re.match(r"backward of lost\n  called with \(float32 \(\)\)\n  forward at ", raised.value.__notes__[0])


def test_errors_in_a_kernel_name_op_and_arguments(x):
    with pytest.raises(ValueError, match=r"(?s)add: .*float32 \(3,\) 'x', float64 \(2,\).*"):
        x + np.ones(2)
    with pytest.raises(TypeError, match=r"write axis for dim="):
        tg.ops.sum(x, dim=0)
    with pytest.raises(AttributeError, match="expand_dims"):
        x.unsqueeze(0)


@pytest.fixture
def moments():
    def forward(x):
        return (x.mean(0), x.var(0)), x - x.mean(0)

    def backward(g, saved, needs, x):
        g_mean, g_var = g
        total = np.zeros_like(x)
        if g_mean is not None:
            total += g_mean / len(x)
        if g_var is not None:
            total += g_var * 2 * saved / len(x)
        return (total,)

    @tg.fused(forward=forward, backward=backward)
    def moments(x):
        return np.mean(x, axis=0), np.var(x, axis=0)

    return moments


@pytest.mark.parametrize("use", [(0,), (1,), (0, 1)])
def test_fused_operations_with_several_outputs(moments, use):
    data = np.random.default_rng(0).normal(size=(4, 3))
    results = []
    for f in (moments, moments.meaning):
        x = tg.tensor(data, requires_grad=True)
        outputs = f(x)
        y = sum((outputs[i] ** 2).sum() for i in use)
        y.backward(retain_graph=True)
        first, x.grad = x.grad, None
        y.backward(create_graph=True)
        (x.grad**2).sum().backward()
        results.append((first.numpy(), x.grad.detach().numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-13)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12)


def test_a_kernel_with_more_arrays_than_rules_is_refused_by_name():
    half = tg.primitive(lambda a, b: a * b, lambda g, y, a: g, name="half")
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match="half: b is metadata here and cannot be a Tensor"):
        half(t, t)


def test_a_kernel_that_returns_nothing_is_refused():
    nothing = tg.primitive(lambda a: None, lambda g, y, a: g, name="nothing")
    for flag in (True, False):
        with pytest.raises(TypeError, match="kernel"):
            nothing(tg.tensor([1.0], requires_grad=flag))


@pytest.mark.parametrize(
    "rule", [lambda g, _y, _x: g * np.cos(_x), lambda g, _y, _x: g * _x[0], lambda g, _y, _x: 2 * _y]
)
def test_a_rule_that_reads_what_it_says_it_does_not(rule):
    x = tg.tensor(np.ones(20), requires_grad=True)
    for before in (x, x * 1):
        with pytest.raises(TypeError, match=r"begins with _ is not kept.*drop the underscore"):
            tg.primitive(np.sin, rule, name="op")(before).sum().backward()
