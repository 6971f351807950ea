"""Products with vectors are sums in kernels: NumPy's numbers, without a copy of the matrix."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_dl as tg

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler import product_forms
from tinygrad_dl.compiler.native import pool
from tinygrad_dl.compiler.native.backend import Native

FORMS = {
    "matrix, vector": lambda x, w, v: x @ w,
    "vector, matrix": lambda x, w, v: v @ x,
    "turned matrix, vector": lambda x, w, v: x.T @ v,
    "vector, turned matrix": lambda x, w, v: w @ x.T,
    "matrix, column": lambda x, w, v: x @ w[:, None],
    "row, matrix": lambda x, w, v: v[None, :] @ x,
    "column, row": lambda x, w, v: v[:50, None] @ w[None, :],
    "vector, vector": lambda x, w, v: v @ v + w @ w,
    "both sides": lambda x, w, v: v @ x @ w,
    "of what is computed": lambda x, w, v: np.tanh(x) @ (w * 2) - 1,
}


def compiled(function, *arrays):
    step = tg.compile(function, backend="native")
    for _ in range(2):
        result = step(*arrays)
    assert isinstance(step._latest.run, Native)
    return result, step._latest.run


@pytest.mark.parametrize("least", [1, product_forms.LEAST])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FORMS)
def test_products_with_vectors_are_numpys(monkeypatch, name, dtype, least):
    monkeypatch.setattr(product_forms, "LEAST", least)
    monkeypatch.setattr(pool, "threads", lambda: 2)
    rng = np.random.default_rng(0)
    for n, k in ((700, 60), (2, 3), (33, 1), (1, 40), (50, 2000), (3000, 17)):
        x, w, v = (rng.normal(size=shape).astype(dtype) for shape in ((n, k), k, n))
        found, native = compiled(FORMS[name], x, w, v)
        want = FORMS[name](*(a.astype(np.float64) for a in (x, w, v)))
        assert found.dtype == dtype
        assert found.shape == np.shape(want)
        scale = np.linalg.norm(FORMS[name](*(np.abs(a.astype(np.float64)) for a in (x, w, v))))
        assert np.linalg.norm(found.numpy() - want) <= (1e-6 if dtype == np.float32 else 1e-14) * scale
        assert all(part.start is not None for part in native.parts)  # nothing is left to NumPy


def test_a_linear_model_is_one_kernel_and_keeps_nothing_of_its_matrix_size():
    """Forward, and the gradient of the weights, in one walk through the data."""
    rng = np.random.default_rng(0)
    x, y, w = (rng.normal(size=shape) for shape in ((5000, 20), 5000, 20))
    step = tg.value_and_grad(lambda w, x, y: np.mean(np.square(x @ w - y)))
    (loss, gradient), native = compiled(step, w, x, y)
    np.testing.assert_allclose(loss.item(), np.mean((x @ w - y) ** 2), rtol=1e-12)
    np.testing.assert_allclose(gradient.numpy(), 2 * x.T @ (x @ w - y) / 5000, rtol=1e-10)
    assert not any(getattr(s, "kind", "") == "gemm" for s in native.plan.order)
    assert native.kernels <= 2
    assert sum(a.nbytes for a in native.places.fixed.values()) < x.nbytes / 2


def test_small_products_and_matrices_stay_products():
    for shapes in (((64, 128), (128, 10)), ((1, 64), (64, 128))):
        _, native = compiled(np.matmul, *(np.ones(shape) for shape in shapes))
        assert [getattr(s, "kind", "") for s in native.plan.order] == ["gemm"]


def test_functions_of_one_number_for_each_row_have_a_kernel_of_their_own():
    """Side by side in vectors; but not where a wider value needs them, which would read the rows again."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4000, 20)), rng.normal(size=20)
    found, native = compiled(lambda x, w: np.log1p(np.exp(x @ w)), x, w)
    np.testing.assert_allclose(found.numpy(), np.log1p(np.exp(x @ w)), rtol=1e-12)
    assert native.kernels == 2
    found, native = compiled(lambda x: x - np.log(np.sum(np.exp(x), axis=1, keepdims=True)), x)
    np.testing.assert_allclose(found.numpy(), x - np.log(np.exp(x).sum(1, keepdims=True)), rtol=1e-12)
    assert native.kernels == 1
