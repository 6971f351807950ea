"""The engine: what is recorded, what backward does with it, and what it says when it cannot."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl.autodiff import propagate
from tinygrad_dl.graph import wrap


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


def test_a_gradient_has_its_tensors_dtype():
    p = tg.tensor(np.ones(2, np.float32), requires_grad=True)
    p.grad = tg.tensor(np.ones(2, np.float64))
    assert p.grad.dtype == np.float32


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
