"""Half precision: sums run in float32, so they neither stagnate nor overflow where the result is small."""

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn

N = 100_000


def test_a_sum_does_not_stagnate():
    x = tg.tensor(np.full((N, 2), 0.01, np.float16))
    total = x.sum(axis=0)
    assert total.dtype == np.float16
    np.testing.assert_allclose(total.numpy(), N * float(np.float16(0.01)), rtol=1e-3)


@pytest.mark.parametrize("f", [nn.functional.linear, lambda x, w, b: x @ w.T + b], ids=["fused", "broadcast"])
def test_the_gradient_of_a_bias_adds_up_over_many_rows(f):
    x, w = np.ones((N, 2), np.float16), np.ones((3, 2), np.float16)
    slope = tg.grad(lambda b: (f(x, w, b) * np.float16(1e-3)).sum())(np.zeros(3, np.float16))
    assert slope.dtype == np.float16
    np.testing.assert_allclose(slope.numpy(), N * float(np.float16(1e-3)), rtol=2e-3)


def test_batch_norm_over_many_rows():
    x = (np.arange(N)[:, None] % 7 + [10, 20]).astype(np.float16)
    layer = nn.BatchNorm1d(2, momentum=1.0).astype(np.float16)
    y = layer(tg.tensor(x))
    assert y.dtype == np.float16
    np.testing.assert_allclose(layer.running_mean.numpy(), x.astype(float).mean(0), rtol=1e-3)
    np.testing.assert_allclose(y.detach().numpy().astype(float).std(0), 1, rtol=2e-3)


def test_cross_entropy_over_many_rows():
    loss = nn.functional.cross_entropy(tg.tensor(np.zeros((N, 10), np.float16)), np.zeros(N, int))
    assert loss.item() == pytest.approx(np.log(10), rel=1e-3)


@pytest.mark.parametrize("options", [{"weight": np.ones(10)}, {"label_smoothing": 0.1}], ids=str)
def test_weighted_cross_entropy_over_many_rows(options):
    logits = tg.tensor(np.zeros((N, 10), np.float16), requires_grad=True)
    loss = nn.functional.cross_entropy(logits, np.zeros(N, int), **options)
    loss.backward()
    assert loss.dtype == logits.grad.dtype == np.float16
    assert loss.item() == pytest.approx(np.log(10), rel=1e-3)
    assert logits.grad[0, 0].item() == pytest.approx(
        (0.1 - (0.91 if "label_smoothing" in options else 1)) / N, rel=1e-2
    )


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_what_is_only_broadcast_in_a_compiled_function(backend):
    f = tg.compile(lambda x: np.broadcast_to(x, (3, *x.shape)), backend=backend)
    for x in (np.float16(1.5) * np.ones((), np.float16), np.arange(4).astype(np.float16)):
        for _ in range(2):
            assert f(x).dtype == np.float16
            np.testing.assert_array_equal(f(x).numpy(), np.broadcast_to(x, (3, *x.shape)))
