"""The engine: what is recorded, what backward does with it, and what it says when it cannot."""

import functools
import gc
import re
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl.autodiff import propagate
from tinygrad_dl.graph import wrap


@pytest.fixture
def x():
    return tg.tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")


def test_backward_collects_gradients_in_the_leaves(x):
    w = tg.tensor([4.0, 5.0, 6.0], requires_grad=True)
    (x * w + x).sum().backward()
    assert x.grad.tolist() == [5, 6, 7]
    assert w.grad.tolist() == [1, 2, 3]


def test_gradients_add_up_over_calls_and_paths(x):
    (x * x).sum().backward()
    first = x.grad
    (x + x).sum().backward()
    assert x.grad.tolist() == [4, 6, 8]
    assert first.tolist() == [2, 4, 6], "a gradient that somebody holds does not change"


def test_landed_gradients_own_their_memory(x):
    g = np.ones(3, np.float32)
    other = tg.tensor([0.0, 0, 0], requires_grad=True)
    (x + other).backward(g)
    assert not np.shares_memory(x.grad.data, other.grad.data)
    assert not np.shares_memory(x.grad.data, g)


def test_backward_needs_a_gradient_for_arrays_and_checks_it(x):
    with pytest.raises(ValueError, match=r"one-element tensor, got shape \(3,\)"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(2,\), expected the tensor's shape \(3,\)"):
        (x * 2).backward(np.ones(2))
    (x * 2).backward([1, 0, 2])
    assert x.grad.tolist() == [2, 0, 4]


def test_backward_without_a_graph_says_so():
    with pytest.raises(RuntimeError, match="does not require grad"):
        tg.tensor(1.0).backward()


def test_second_backward_names_the_first(x):
    y = (x * x).sum()
    y.backward()  # the first
    with pytest.raises(RuntimeError, match=r"(?s)test_autodiff.*y\.backward\(\)  # the first.*retain_graph=True"):
        y.backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_retain_graph_allows_a_second_run(x):
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 8, 12]


def test_retain_grad_keeps_a_results_gradient(x):
    h = x * 2
    (h * h).sum().backward(retain_graph=True)
    assert h.grad is None
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [4, 8, 12]


def test_create_graph_gives_higher_orders(x):
    (x**4).sum().backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.sum().backward(create_graph=True)
    second = x.grad
    x.grad = None
    second.sum().backward()
    assert first.tolist() == [4, 32, 108]
    assert second.tolist() == [12, 48, 108]
    assert x.grad.tolist() == [24, 48, 72]


def test_no_grad_and_enable_grad(x):
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @tg.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_no_grad_and_seeds_are_per_thread(x):
    barrier = threading.Barrier(8)

    def work(n):
        with tg.random.scope(n):
            if n % 2:
                with tg.no_grad():
                    barrier.wait()
                    return [(x * 2).requires_grad, tg.random.uniform().item()]
            barrier.wait()
            return [(x * 2).requires_grad, tg.random.uniform().item()]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    for n, (recorded, value) in enumerate(results):
        assert recorded is (n % 2 == 0)
        assert value == np.float32(np.random.default_rng(n).uniform())


def test_frozen_arguments_get_no_gradient(x):
    frozen = tg.tensor([1.0, 1, 1])
    y = (x * frozen).sum()
    y.backward()
    assert frozen.grad is None


def test_a_gradient_nobody_needs_is_not_computed():
    calls = []

    def rule(name):
        return lambda g, _y, a, b: calls.append(name) or g

    op = tg.primitive(lambda a, b: a + b, rule("a"), rule("b"), name="op")
    op(tg.tensor([1.0]), tg.tensor([1.0], requires_grad=True)).backward()
    assert calls == ["b"]


def test_mixed_dtypes_keep_each_leafs_own():
    a = tg.tensor(np.ones(3, np.float32), requires_grad=True)
    b = tg.tensor(np.ones(3), requires_grad=True)
    y = a * b
    assert y.dtype == np.float64
    y.sum().backward()
    assert (a.grad.dtype, b.grad.dtype) == (np.float32, np.float64)


def test_integers_do_not_require_grad():
    with pytest.raises(TypeError, match="floating dtype, got int64"):
        tg.tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="complex"):
        tg.tensor([1j])


@pytest.mark.parametrize("f", [lambda t: t * 1j, lambda t: t + np.ones(2, complex), lambda t: np.power(t, 1j)])
def test_what_becomes_complex_does_not_lose_a_gradient(f):
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match="result is of complex"):
        f(t)


# changing values


def test_in_place_on_a_leaf_is_refused_while_recording(x):
    with pytest.raises(RuntimeError, match=r"(?s)tg\.no_grad\(\)"):
        x -= 1
    with pytest.raises(RuntimeError, match="assign"):
        x[0] = 1
    assert x.tolist() == [1, 2, 3]


def test_in_place_in_no_grad_is_assign(x):
    same = x
    with tg.no_grad():
        x -= 1
        x[0] = 9
    assert x is same
    assert x.tolist() == [9, 1, 2]
    assert x.is_leaf
    assert x.requires_grad


def test_in_place_on_a_result_repoints_with_right_gradients(x):
    h = x * 2
    before = h
    h *= x
    h[0] = x[2] * 10
    assert h is before
    h.sum().backward()
    assert x.grad.tolist() == [0, 8, 22]


def test_views_never_change_behind_anyones_back(x):
    with tg.no_grad():
        detached, row, plain = x.detach(), x[:2], x.detach().numpy()
        x.assign([7, 8, 9])
    assert detached.tolist() == [1, 2, 3]
    assert row.tolist() == [1, 2]
    assert plain.tolist() == [1, 2, 3]
    assert x.tolist() == [7, 8, 9]


def test_assign_writes_in_place_when_nobody_else_looks():
    x = tg.tensor(np.zeros(5), requires_grad=True)  # pictures keep smaller values
    memory = x.data.ctypes.data
    x.assign([4, 5, 6, 7, 8])
    assert x.data.ctypes.data == memory


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        (np.ones(2), ValueError, r"expected shape \(3,\) of 'x', got \(2,\)"),
        (np.ones(3, complex), TypeError, "complex128"),
        (tg.tensor([1.0, 2, 3], requires_grad=True), RuntimeError, "detach"),
    ],
)
def test_a_bad_assign_changes_nothing(x, value, error, match):
    with pytest.raises(error, match=match):
        x.assign(value)
    assert x.tolist() == [1, 2, 3]


def test_a_value_overwritten_before_its_backward_names_both_lines(x):
    y = (x * x).sum()  # uses x
    x.assign([0, 0, 0])  # overwrites x
    with pytest.raises(RuntimeError, match=r"(?s)'?x'? was overwritten.*# overwrites x.*# uses x"):
        y.backward()


def test_overwritten_views_are_found_too(x):
    y = (x.reshape(3, 1) * 2.0 * x.reshape(1, 3)).sum()
    with tg.no_grad():
        x -= 1
    with pytest.raises(RuntimeError, match="overwritten"):
        y.backward()


def test_an_overwritten_value_that_no_rule_reads_is_fine(x):
    y = (x + 1).sum()
    with tg.no_grad():
        x -= 1
    y.backward()
    assert x.grad.tolist() == [1, 1, 1]


# memory


def test_graphs_are_freed_by_reference_counting_alone(x):
    gc.collect()
    gc.disable()
    try:
        y = (np.exp(x) * x).sum()
        node = weakref.ref(y.node)
        y.backward()
        del y
        assert node() is None
        z = tg.tensor([1.0], requires_grad=True)
        (z * 2).sum().backward(create_graph=True)
        leaf = weakref.ref(z)
        del z
        assert leaf() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_backward_frees_what_the_graph_saved():
    x = tg.tensor(np.ones(100), requires_grad=True)
    h = np.exp(x)
    saved = weakref.ref(h.data)
    y = (h * h).sum()
    del h
    assert saved() is not None
    y.backward()
    assert saved() is None


def test_long_chains_need_no_recursion(x):
    gc.disable()
    try:
        y = x
        for _ in range(50_000):
            y = y * 1.0
        node = weakref.ref(y.node)
        y.sum().backward()
        del y
        assert node() is None
    finally:
        gc.enable()
    assert x.grad.tolist() == [1, 1, 1]


# operations of one's own


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


def test_propagate_can_stop_at_inner_nodes(x):
    h = x * 2
    y = (h * h + x).sum()
    found = propagate([(y.node, np.float32(1))], retain=True, wanted={h.node, x.node}, stop=True)
    assert found[h.node].tolist() == [4, 8, 12]
    assert found[x.node].tolist() == [1, 1, 1]
    assert x.grad is None


def test_wrap_neither_copies_nor_checks():
    array = np.ones(2)
    assert wrap(array).data is array


def test_the_gradient_of_a_number_broadcast_over_an_array_is_an_array():
    x = tg.tensor(2.0, requires_grad=True)
    (x * np.ones(6, np.float32)).sum().backward()
    assert isinstance(x.grad.data, np.ndarray)
    assert x.grad.numpy().tolist() == 6


def test_the_mean_of_many_half_precision_numbers_has_a_gradient():
    a = tg.tensor(np.ones(70000, np.float16), requires_grad=True)
    a.mean().backward()
    np.testing.assert_allclose(a.grad[0].item(), 1 / 70000, rtol=2e-3)


def test_a_leaf_cast_between_forward_and_backward_is_an_error():
    layer = tg.nn.Linear(2, 1)
    y = layer(np.ones((1, 2), np.float32)).sum()
    layer.astype("float64")
    with pytest.raises(RuntimeError, match="cast, or frozen and thawed"):
        y.backward()


def test_an_integer_tensor_does_not_swallow_a_gradient():
    t = tg.tensor([0, 0])
    with pytest.raises(TypeError, match="int64 tensor cannot hold"):
        t[0] = tg.tensor(1.5, requires_grad=True)


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


@pytest.mark.parametrize("block", [tg.no_grad, tg.enable_grad, tg.detect_nan, lambda: tg.random.scope(0)])
def test_a_block_does_not_decorate_what_runs_later(block):
    def numbers():
        yield 1

    async def wait():
        pass

    for function in (numbers, wait):
        with pytest.raises(TypeError, match=rf"{function.__name__}: expected a function that runs when it is called"):
            block()(function)

    @block()
    def now():
        return 1

    assert now() == now() == 1


@pytest.mark.parametrize(
    "rule", [lambda g, _y, _x: g * np.cos(_x), lambda g, _y, _x: g * _x[0], lambda g, _y, _x: 2 * _y]
)
def test_a_rule_that_reads_what_it_says_it_does_not(rule):
    x = tg.tensor(np.ones(20), requires_grad=True)
    for before in (x, x * 1):
        with pytest.raises(TypeError, match=r"begins with _ is not kept.*drop the underscore"):
            tg.primitive(np.sin, rule, name="op")(before).sum().backward()
