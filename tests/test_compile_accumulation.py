"""Gradients that are kept from call to call: added to where they lie, unless somebody else has them."""

import weakref

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler.axes import root

BACKENDS = ["interpreter", "numpy", "native"]
NORMAL = np.random.default_rng(0).normal


def recurrent(uses, passes):
    """A step that adds to the gradients of a weight that is used so many times, and so often differentiated."""
    rng = np.random.default_rng(1)
    w = tg.tensor(rng.normal(size=(12, 12)) / 3, requires_grad=True)
    v, b = (tg.tensor(rng.normal(size=s), requires_grad=True) for s in ((12, 5), 5))

    def step(x, y):
        for _ in range(passes):
            h = x
            for _ in range(uses):
                h = np.tanh(h @ w)
            loss = nn.functional.cross_entropy(h @ v + b, y)
            loss.backward()
        return loss

    return step, (w, v, b)


X, Y = NORMAL(size=(8, 12)), np.arange(8) % 5
ONES = np.ones((1, 4))


def counting(backend):
    """A weight, and a step that adds one to each element of its gradient when it is called with `ONES`."""
    w = tg.tensor(np.ones((4, 3)), requires_grad=True)

    @tg.compile(backend=backend)
    def step(x):
        (x @ w).sum().backward()

    return step, w


@pytest.mark.parametrize(("uses", "passes"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_they_are_those_of_the_eager_step(backend, uses, passes):
    (step, ours), (eager, theirs) = recurrent(uses, passes), recurrent(uses, passes)
    compiled = tg.compile(step, backend=backend)
    for times in range(6):
        np.testing.assert_allclose(compiled(X, Y).item(), eager(X, Y).item(), rtol=1e-12)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-14, err_msg=str(times))


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_they_stay_where_they_are(backend):
    step, tensors = recurrent(2, 1)
    compiled = tg.compile(step, backend=backend)
    for _ in range(4):
        compiled(X, Y)
    before = [t.grad.data.ctypes.data for t in tensors]
    for _ in range(3):
        compiled(X, Y)
    assert [t.grad.data.ctypes.data for t in tensors] == before


@pytest.mark.parametrize("shape", [(3, 5, 4), (64, 32, 48), (1, 6, 9), (256, 600, 300)], ids=str)
def test_products_add_to_them(shape):
    """The gradient of a weight is one product, with no kernel behind it."""
    pytest.importorskip("llvmlite")
    batch, inner, columns = shape
    w = tg.tensor(NORMAL(size=(inner, columns)), requires_grad=True)

    @tg.compile(backend="native")
    def step(x):
        (x @ w).sum().backward()

    x = NORMAL(size=(batch, inner))
    for times in range(1, 5):
        step(x)
        expected = times * np.repeat(x.sum(axis=0)[:, None], columns, axis=1)
        np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-9, atol=1e-9)
    plan = step._latest.run.plan
    products = [s for s in plan.order if getattr(s, "kind", "") == "gemm"]
    added = [root(p).kind for p in products if p.shows is not None]
    assert added == (["input"] if batch > 1 else [])  # what a column and a row give is added by a kernel
    assert not any(p in plan.lives for p in products if p.shows is not None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_somebody_has_of_them_keeps_its_values(backend):
    step, w = counting(backend)
    for take in (lambda g: g, lambda g: g.data, lambda g: g.data[1:], lambda g: g.numpy(), lambda g: g.detach()):
        w.grad = None
        found = []
        for times in range(1, 7):
            step(ONES)
            found.append((times, take(w.grad)))
        for times, kept in found:
            np.testing.assert_array_equal(np.asarray(kept), np.full(np.shape(kept), times))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_that_share_memory_are_told_apart(backend):
    w, v = (tg.tensor(np.ones(3), requires_grad=True) for _ in range(2))

    @tg.compile(backend=backend)
    def step(x):
        (w * x + v * (2 * x)).sum().backward()

    x = np.ones(3)
    for _ in range(4):
        step(x)
    w.grad = v.grad = tg.tensor(np.zeros(3))
    for times in range(1, 5):
        step(x)
        np.testing.assert_array_equal(w.grad.numpy(), np.full(3, times))
        np.testing.assert_array_equal(v.grad.numpy(), np.full(3, 2 * times))


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_outlive_a_run_that_fails(backend):
    """A label that is none, in the middle of gathering gradients: those of the batches before are still there."""
    step, tensors = recurrent(1, 1)
    compiled = tg.compile(step, backend=backend)
    for _ in range(4):
        compiled(X, Y)
    before = [t.grad.numpy().copy() for t in tensors]
    for _ in range(2):
        with pytest.raises((ValueError, IndexError)):
            compiled(X, Y + 1)
        for t, expected in zip(tensors, before, strict=True):
            np.testing.assert_array_equal(t.grad.numpy(), expected)
    compiled(X, Y)
    for t, expected in zip(tensors, before, strict=True):
        np.testing.assert_allclose(t.grad.numpy(), 5 / 4 * expected, rtol=1e-10)


@pytest.mark.parametrize("uses", [1, 2, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_they_outlive_an_operation_that_fails(backend, uses):
    step, tensors = recurrent(uses, 1)

    @tg.compile(backend=backend)
    def inverted(x, y, matrix):
        step(x, y)
        return np.linalg.inv(2 * matrix)

    for _ in range(4):
        inverted(X, Y, np.eye(3))
    before = [t.grad.numpy().copy() for t in tensors]
    with pytest.raises(ValueError, match="Singular"):
        inverted(X, Y, np.zeros((3, 3)))
    for t, expected in zip(tensors, before, strict=True):
        np.testing.assert_array_equal(t.grad.numpy(), expected)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (lambda old, new: old, lambda n: n),
        (lambda old, new: old * 10, lambda n: n * 10),
        (lambda old, new: new, lambda n: n + 1),
        (lambda old, new: old * 10 + new, lambda n: n * 11 + 1),
    ],
    ids=["as it was", "of what it was", "as it is", "of both"],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_gives_its_gradient(backend, results, expected):
    w = tg.tensor(np.ones((4, 3)), requires_grad=True)
    w.grad = tg.tensor(np.zeros((4, 3)))

    @tg.compile(backend=backend)
    def step(x):
        old = w.grad
        (x @ w).sum().backward()
        return results(old, w.grad)

    for times in range(5):
        np.testing.assert_array_equal(step(ONES).numpy(), np.full((4, 3), expected(times)))
        np.testing.assert_array_equal(w.grad.numpy(), np.full((4, 3), times + 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_that_has_a_graph_is_only_its_value(backend):
    w = tg.tensor(np.ones(30), requires_grad=True)

    @tg.compile(backend=backend)
    def step(x):
        (w * x).sum().backward()

    for _ in range(4):
        step(np.ones(30))
    w.grad = None
    (w**2).sum().backward(create_graph=True)
    graph = w.grad.node
    step(np.ones(30))
    assert graph is not None
    assert w.grad.node is None
    np.testing.assert_array_equal(w.grad.numpy(), np.full(30, 3))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_that_are_replaced_or_turned_between_calls(backend):
    step, w = counting(backend)
    for _ in range(4):
        step(ONES)
    for change in (
        lambda: np.zeros((4, 3)),
        lambda: np.asfortranarray(np.zeros((4, 3))),
        lambda: np.zeros((8, 3))[::2],
        lambda: np.broadcast_to(np.zeros(3), (4, 3)),
    ):
        w.grad = tg.graph.wrap(change())
        for times in range(1, 4):
            step(ONES)
            np.testing.assert_array_equal(w.grad.numpy(), np.full((4, 3), times))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_memory_of_those_that_are_cleared_is_free(backend):
    """Unless they are small: a program has the latest of those until the next call."""
    w = tg.tensor(np.ones((64, 96)), requires_grad=True)
    update = tg.compile(optim.SGD([w], lr=0.1).step, backend=backend)
    for _ in range(4):
        w.grad = tg.tensor(np.ones((64, 96)))
        update()
    array = weakref.ref(w.grad.data)
    w.grad = None
    assert array() is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_gathered_from_small_batches_they_are_those_of_the_whole(backend):
    """And the step that uses them is a program of its own."""
    small = X.astype(np.float32)
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        tg.seed(0)
        model = nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5))
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        @compiled
        def gather(x, y):
            (nn.functional.cross_entropy(model(x), y) / 4).backward()  # noqa: B023

        @compiled
        def update():
            optim.clip_grad_norm(model.parameters(), 0.1)  # noqa: B023
            optimizer.step()  # noqa: B023
            optimizer.zero_grad()  # noqa: B023

        for _ in range(3):
            for i in range(4):
                gather(small[2 * i : 2 * i + 2], Y[2 * i : 2 * i + 2])
            update()
        found.append([p.detach().numpy().copy() for p in model.parameters()])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_verified_beside_the_function_itself():
    (step, ours), (eager, theirs) = recurrent(2, 1), recurrent(2, 1)
    compiled = tg.compile(step, verify=3)
    for _ in range(5):
        compiled(X, Y)
        eager(X, Y)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10)


def test_a_step_of_gradients_alone_is_verified():
    w = tg.tensor(np.ones(3), requires_grad=True)
    w.grad = tg.tensor(np.full(3, 16.0))

    @tg.compile(verify=2)
    def halve():
        w.grad = w.grad / 2

    for times in range(1, 4):
        halve()
        np.testing.assert_array_equal(w.grad.numpy(), np.full(3, 16 / 2**times))
