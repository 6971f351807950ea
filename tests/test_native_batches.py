"""Batches of matrix products in the native backend, in whatever order their axes lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import ops

pytest.importorskip("llvmlite")

from written import Writer, check

from tinygrad_dl.compiler.kernels import Kernels

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
BROADCAST, MATMUL, TRANSPOSE = ops.broadcast_to, ops.matmul, ops.transpose


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("batch", [(3,), (2, 3), (1,), (40,)], ids=str)
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
@settings(max_examples=60)
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
