"""Batches in the native backend: of matrix products, in whatever order their axes lie in memory, and of kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import nn, ops

pytest.importorskip("llvmlite")

from written import Writer, check

from tinygrad_dl.compiler.kernels import Kernels

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
BROADCAST, MATMUL, SUM, TRANSPOSE = ops.broadcast_to, ops.matmul, ops.sum, ops.transpose


@pytest.mark.parametrize(("batch", "dtype"), [((3,), F32), ((2, 3), F64), ((1,), F32), ((40,), F64)], ids=str)
def test_batches_of_products(batch: tuple[int, ...], dtype: Any, registers: None) -> None:
    """One after another, in every orientation, read as they are and turned."""
    rng = np.random.default_rng(0)
    last = (*range(len(batch)), len(batch) + 1, len(batch))
    for m, k, n in ((5, 7, 11), (17, 1, 9), (64, 33, 70)):
        w = Writer()
        a, b = (
            w.input(rng.normal(size=(*batch, m, k)).astype(dtype)),
            w.input(rng.normal(size=(*batch, k, n)).astype(dtype)),
        )
        at, bt = (w.input(np.swapaxes(w.found[x], -1, -2).copy()) for x in (a, b))
        pairs_ = [(x, y) for x in (a, w(TRANSPOSE, at, axes=last)) for y in (b, w(TRANSPOSE, bt, axes=last))]
        found = [w(np.add, w(MATMUL, x, y), 1) for x, y in pairs_]
        found += [w(np.exp, w(TRANSPOSE, w(MATMUL, x, y), axes=last)) for x, y in pairs_]
        found.append(w(MATMUL, a, b))
        check(w.program(*found), w.arrays, parts=None if 1 in (k, *batch) else 1)


def test_products_of_broadcast_batches() -> None:
    rng, w = np.random.default_rng(0), Writer()
    a, b, c, d = (w.input(rng.normal(size=s)) for s in ((3, 4, 5), (1, 5, 6), (5, 6), (2, 1, 5, 6)))
    found = [w(MATMUL, a, b), w(MATMUL, a, c), w(MATMUL, c, w(TRANSPOSE, b, axes=(0, 2, 1))), w(MATMUL, a, d)]
    check(w.program(*(w(np.add, y, 1) for y in found)), w.arrays)


def test_products_of_repeated_rows_and_columns() -> None:
    rng, w = np.random.default_rng(0), Writer()
    a, b, row, column = (w.input(rng.normal(size=s)) for s in ((3, 4, 5), (3, 5, 6), (1, 5), (5, 1)))
    rows, columns = w(BROADCAST, row, shape=(3, 4, 5)), w(BROADCAST, column, shape=(3, 5, 6))
    found = [w(MATMUL, rows, b), w(MATMUL, a, columns), w(MATMUL, rows, columns)]
    check(w.program(*(w(np.add, y, 1) for y in found)), w.arrays, parts=None)


def test_products_with_vectors_stay_numpys() -> None:
    rng, w = np.random.default_rng(0), Writer()
    a, c, v = (w.input(rng.normal(size=s)) for s in ((3, 4, 5), (5, 6), (5,)))
    found = [w(MATMUL, a, v), w(MATMUL, v, c), w(MATMUL, v, v)]
    check(w.program(*(w(np.add, y, 1) for y in found)), w.arrays, parts=None)


@st.composite
def layouts(draw: Any) -> Any:
    """A product of batches that lie in any order of their axes, whose result is read in any orders."""
    numbers, sizes = draw(st.lists(st.integers(1, 3), max_size=3)), st.integers(1, 20)
    m, k, n = draw(sizes), draw(sizes), draw(sizes)
    w, factors = Writer(), []
    for matrix in ((m, k), (k, n)):
        own = [count if draw(st.booleans()) else 1 for count in numbers]
        shape = (*own[draw(st.integers(0, len(own))) :], *matrix)
        order = draw(st.permutations(range(len(shape))))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        array = w.input(rng.normal(size=[shape[i] for i in order]))
        factors.append(w(TRANSPOSE, array, axes=tuple(np.argsort(order).tolist())))
    y = w(MATMUL, *factors)
    orders = draw(st.lists(st.permutations(range(y.ndim)), min_size=1, max_size=2))
    return w, [w(np.add, w(TRANSPOSE, y, axes=tuple(order)), 1) for order in orders]


@given(layouts())
@settings(max_examples=40)
def test_products_read_and_write_any_layout(found: Any) -> None:
    w, outputs = found
    check(w.program(*outputs), w.arrays, tolerance=1e-12, parts=None)


def heads(x: Any, number: int) -> Any:
    """Features shared out among heads, which then stand before the positions."""
    return x.reshape(*x.shape[:2], number, -1).transpose(0, 2, 1, 3)


def test_attention_of_several_heads_copies_nothing() -> None:
    """Each product reads and writes where features of all heads lie side by side."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 8))
    weights = [tg.tensor(rng.normal(size=(8, 8)), requires_grad=True) for _ in range(4)]

    def step(x: Any) -> Any:
        for w in weights:
            w.grad = None
        q, k, v = (heads(x @ w.T, 2) for w in weights[:3])
        mixed = tg.nn.functional.softmax(q @ k.swapaxes(-1, -2) / 2, axis=-1) @ v
        loss = np.tanh(mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ weights[3].T).sum()
        loss.backward()
        return loss

    want = step(tg.tensor(x)).item(), *(w.grad.numpy() for w in weights)
    function = tg.compile(step, backend="native")
    for _ in range(3):
        got = function(x).item(), *(w.grad.numpy() for w in weights)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)
    kernels = Kernels(function.latest)
    assert kernels.alone == 0
    assert not [s for k in kernels.found for s in k.nodes if s.name == "copy"]


@pytest.mark.parametrize("leading", [(6,), (2, 3)], ids=str)
@pytest.mark.parametrize("backend", ["native", "numpy", "interpreter"])
def test_a_layer_of_batches_is_one_product(leading: tuple[int, ...], backend: str) -> None:
    """Forward, and the gradients of its weight and of what it is given."""
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.normal(size=(*leading, 5, 4)), requires_grad=True)
    w = tg.tensor(rng.normal(size=(7, 4)), requires_grad=True)

    def step() -> Any:
        x.grad = w.grad = None
        loss = np.tanh(x @ w.T).sum()
        loss.backward()
        return loss

    want = step().item(), x.grad.numpy(), w.grad.numpy()
    function = tg.compile(step, backend=backend)
    for _ in range(3):
        got = function().item(), x.grad.numpy(), w.grad.numpy()
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    products = [s for s in function.latest.body if s.op is MATMUL]
    assert [s.outputs[0].ndim for s in products] == [2, 2, 2]


def test_a_sum_over_some_of_a_batch_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 6))
    sums: list[Any] = [0, 1, (0, 1), (0, 2), (-3, 0), None]

    def function(a: Any, b: Any) -> Any:
        y = a.swapaxes(-1, -2) @ b
        found = [np.sum(a.swapaxes(-1, -2) @ (b + i), axis=axis) for i, axis in enumerate(sums)]
        return [*found, np.sum(y, axis=(0, 1)), y, np.sum(a @ a.swapaxes(-1, -2), axis=(0, 1))]

    compiled = tg.compile(function, backend="native")
    y = np.swapaxes(a, -1, -2) @ b
    want = [np.sum(np.swapaxes(a, -1, -2) @ (b + i), axis=axis) for i, axis in enumerate(sums)]
    want += [np.sum(y, axis=(0, 1)), y, np.sum(a @ np.swapaxes(a, -1, -2), axis=(0, 1))]
    for _ in range(3):
        for got, expected in zip(compiled(a, b), want, strict=True):
            np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_batches_that_are_turned_otherwise_or_broadcast_are_no_single_product() -> None:
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(4, 4, 4)), rng.normal(size=(4, 4, 3)), rng.normal(size=(2, 2, 5, 5))

    def function(a: Any, b: Any, c: Any) -> Any:
        turned = [np.sum(np.transpose(a, axes) @ b, axis=0) for axes in ((0, 2, 1), (1, 2, 0), (2, 0, 1), (0, 1, 2))]
        one = np.sum(a[:1].swapaxes(1, 2) @ b, axis=0)
        return [*turned, one, np.exp((c @ c).transpose(1, 0, 3, 2)), np.exp((c @ (c + 1)).transpose(0, 1, 3, 2))]

    want = function(a, b, c)
    for backend in ("native", "numpy"):
        compiled = tg.compile(function, backend=backend)
        for _ in range(3):
            for got, expected in zip(compiled(a, b, c), want, strict=True):
                np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


# ---- kernels


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 40, 33), (2, 3, 4, 5), (4, 1, 6), (1, 5, 3), (70, 2, 130)], ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_reductions_of_an_axis_in_the_middle(shape: tuple[int, ...], dtype: Any) -> None:
    """They are used inside their kernel, leave it, and are broadcast to all that they come from."""
    rng, w, y = np.random.default_rng(0), Writer(), []
    x = w.input(rng.normal(size=shape).astype(dtype))
    shift = w.input(rng.normal(size=shape[2:]).astype(dtype))
    for op in (SUM, ops.max, ops.min, ops.prod):
        y.append(w(op, w(np.add, w(np.exp, x), shift), axis=1, keepdims=op is not SUM))
    peak = w(np.exp, w(np.subtract, x, w(ops.max, x, axis=1, keepdims=True)))
    softmax = w(np.divide, peak, w(SUM, peak, axis=1, keepdims=True))
    mask = w(np.greater, softmax, w(ops.max, softmax, axis=tuple(range(1, len(shape))), keepdims=True))
    check(w.program(*y, softmax, mask, w(np.sqrt, w(SUM, softmax, axis=(1,)))), w.arrays, tolerance=3e-6)


@pytest.mark.parametrize("axes", [(0, 2), (0, 3), (1, 3), (0, 2, 3), (0, 1, 3), (0, -1)], ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_reductions_of_axes_that_lie_apart(axes: tuple[int, ...], dtype: Any) -> None:
    """One after another."""
    rng, w = np.random.default_rng(0), Writer()
    x = w.input(rng.normal(size=(3, 4, 5, 6)).astype(dtype))
    y = w(np.exp, x)
    found = [w(op, y, axis=axes, keepdims=keeps) for op in (SUM, ops.max, ops.min, ops.prod) for keeps in (True, False)]
    found.append(w(SUM, w(np.greater, x, 0), axis=axes))
    native = check(w.program(*found), w.arrays, tolerance=3e-6)
    assert not Kernels(native.program).alone


def test_what_is_read_for_each_of_a_batch_and_what_for_all() -> None:
    rng, w = np.random.default_rng(0), Writer()
    x, rows, columns, each, row = (
        w.input(rng.normal(size=s)) for s in ((3, 4, 5), (4, 5), (3, 1, 5), (3, 1, 1), (3, 4, 1))
    )
    y = w(np.add, w(np.multiply, x, rows), w(np.subtract, w(np.exp, columns), each))
    native = check(w.program(y, w(SUM, w(np.multiply, y, row), axis=(1, 2)), w(SUM, y, axis=1)), w.arrays)
    assert native.kernels == 1


@pytest.mark.parametrize("backend", ["native", "numpy"])
def test_masks_of_a_dropout_before_a_sum_over_the_middle(backend: str) -> None:
    """A mask depends on where in all of the array an element is, not in its part of the batch."""
    x = tg.tensor(np.ones((6, 5, 8)))

    def step(x: Any) -> Any:
        return tg.nn.functional.dropout(x, 0.5).sum(axis=1)

    function = tg.compile(step, backend=backend)
    function(x)
    for seed in range(3):
        tg.seed(seed)
        want = step(x).numpy()
        tg.seed(seed)
        np.testing.assert_array_equal(function(x).numpy(), want)


def test_a_state_that_a_batch_of_kernels_writes_over() -> None:
    rng = np.random.default_rng(0)
    start, x = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    found = []
    for backend in (None, "native", "numpy"):
        state = nn.Parameter(start.copy())

        def step(x: Any, state: Any = state) -> Any:
            with tg.no_grad():
                state.assign(state * 0.9 + (x * state).mean(axis=1, keepdims=True))
                return state.sum(axis=(1, 2))

        function = step if backend is None else tg.compile(step, backend=backend)
        found.append([function(tg.tensor(x * i)).numpy() for i in range(4)] + [state.detach().numpy()])
    for got in found[1:]:
        for one, other in zip(got, found[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)


@st.composite
def programs(draw: Any) -> Any:
    """Elementwise operations and reductions of arrays of three and four axes, broadcast along any of them."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=3, max_size=4))
    rng, w = np.random.default_rng(draw(st.integers(0, 99))), Writer()
    values = [w.input(rng.normal(size=sizes))]
    for _ in range(draw(st.integers(1, 2))):
        values.append(w.input(rng.normal(size=[n if draw(st.booleans()) else 1 for n in sizes])))
    for _ in range(draw(st.integers(2, 7))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        axes = tuple(draw(st.sets(st.integers(0, len(sizes) - 1), min_size=1)))
        op = draw(st.sampled_from([np.add, np.multiply, np.minimum, np.tanh, SUM, ops.max]))
        if op in (SUM, ops.max):
            values.append(w(op, x, axis=axes, keepdims=True))
        else:
            values.append(w(np.tanh, x) if op is np.tanh else w(op, w(np.tanh, x), y))
    outputs = draw(st.sets(st.integers(0, len(values) - 1), min_size=1, max_size=3))
    return w, [values[i] for i in sorted({*outputs, len(values) - 1})]


@given(programs())
@settings(max_examples=100)
def test_programs_of_several_axes(found: Any) -> None:
    w, outputs = found
    check(w.program(*outputs), w.arrays, tolerance=1e-10, parts=None)
