"""Random graphs of smooth operations of every kind: reverse mode, differences, forward products, second order and
PyTorch agree."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl.nn import functional as F

# Every value is a 3 × 3 matrix. Each operation is written once, for NumPy's names and PyTorch's.
OPERATIONS = {
    "add": lambda n, a, b: a + b,
    "subtract": lambda n, a, b: a - 2 * b,
    "multiply": lambda n, a, b: a * b,
    "divide": lambda n, a, b: a / (1 + b * b),
    "power": lambda n, a, b: (1.5 + n.sin(a)) ** n.cos(b),
    "matmul": lambda n, a, b: a @ b / 3,
    "outer": lambda n, a, b: a[:, :1] * b[1],
    "arctan2": lambda n, a, b: n.arctan2(a, 2 + b * b),
    "logaddexp": lambda n, a, b: n.logaddexp(a, b),
    "hypot": lambda n, a, b: n.hypot(a, 1 + b * b),
    "join": lambda n, a, b: n.stack([a[0], b[1], a[2]], 0),
    "where": lambda n, a, b: n.where(n.mask, a, b),
    "einsum": lambda n, a, b: n.einsum("ij,kj->ki", a, b) / 3,
    "sin": lambda n, a, b: n.sin(a),
    "tanh": lambda n, a, b: n.tanh(a),
    "exp": lambda n, a, b: n.exp(-a * a),
    "log": lambda n, a, b: n.log(1 + a * a),
    "sqrt": lambda n, a, b: n.sqrt(1 + a * a),
    "gelu": lambda n, a, b: n.gelu(a),
    "sigmoid": lambda n, a, b: n.sigmoid(a),
    "softmax": lambda n, a, b: n.softmax(a, -1),
    "log_softmax": lambda n, a, b: n.log_softmax(a, 0),
    "logsumexp": lambda n, a, b: a - n.logsumexp(a, -1)[:, None],
    "mean": lambda n, a, b: a - a.mean(0) + b,
    "sum": lambda n, a, b: a + n.sum(b, 1)[None] / 3,
    "cumsum": lambda n, a, b: n.cumsum(a, 0) / 2,
    "cumprod": lambda n, a, b: n.cumprod(n.cos(a), 1),
    "transpose": lambda n, a, b: a.T,
    "flip": lambda n, a, b: n.flip(a, (0,)),
    "parts": lambda n, a, b: a[[2, 0, 2]] * b[:, [1, 1, 0]],
}
SHARED = "sin cos tanh exp log sqrt arctan2 logaddexp hypot stack where einsum sum cumsum cumprod flip"
OURS = SimpleNamespace(
    **{f: getattr(np, f) for f in SHARED.split()},
    **{f: getattr(F, f) for f in ("gelu", "sigmoid", "softmax", "log_softmax", "logsumexp")},
    mask=np.eye(3, dtype=bool),
)
SHAPES = [(3, 3), (3,), ()]


@st.composite
def graphs(draw):
    """Steps (operation, and the two earlier values that it takes); the first three values are the inputs."""
    steps = []
    for n in range(3, 3 + draw(st.integers(3, 10))):
        recent = st.integers(max(n - 3, 0), n - 1)
        steps.append((draw(st.sampled_from([*OPERATIONS])), draw(recent), draw(st.integers(0, n - 1))))
    return steps


def run(steps, inputs, n, zeros):
    values = [x + zeros for x in inputs]
    for name, i, j in steps:
        values.append(OPERATIONS[name](n, values[i], values[j]))
    weighted = [v * (k + 1) for k, v in enumerate(values[-3:])]
    return n.sum(n.sin(sum(weighted)))


def samples(seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.uniform(-1, 1, s)) for s in SHAPES]


ZEROS = np.zeros((3, 3))


@settings(max_examples=60)
@given(graphs(), st.integers(0, 9))
def test_derivatives_agree(steps, seed):
    def f(*xs):
        return run(steps, xs, OURS, ZEROS)

    xs, vs = samples(seed), samples(seed + 100)
    value, gradients = tg.value_and_grad(f, argnums=(0, 1, 2))(*xs)
    assume(all(np.abs(g.data).max() < 1e3 for g in gradients))
    np.testing.assert_allclose(value.item(), f(*xs), rtol=1e-12)
    eps = 1e-5
    for k, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        for i in np.ndindex(x.shape):
            ends = []
            for by in (eps, -eps):
                moved = x.copy()
                moved[i] += by
                ends.append(f(*xs[:k], moved, *xs[k + 1 :]))
            assert g.data[i] == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-5, abs=1e-6)
    along = sum(np.vdot(g.data, v) for g, v in zip(gradients, vs, strict=True))
    assert tg.jvp(f, xs, vs)[1].item() == pytest.approx(along, rel=1e-9, abs=1e-10)

    _, products = tg.hvp(f, xs, vs)
    ends = [tg.grad(f, argnums=(0, 1, 2))(*[x + by * v for x, v in zip(xs, vs, strict=True)]) for by in (eps, -eps)]
    scale = max(1, *[np.abs(p.data).max() for p in products])
    for p, up, down in zip(products, *ends, strict=True):
        np.testing.assert_allclose(p.data, (up.data - down.data) / (2 * eps), rtol=1e-4, atol=1e-5 * scale)


def assert_close(ours, theirs):
    expected = theirs.numpy(force=True)
    np.testing.assert_allclose(ours.data, expected, rtol=1e-8, atol=1e-10 * (1 + np.abs(expected).max()))


@settings(max_examples=60)
@given(graphs(), st.integers(0, 9))
def test_derivatives_are_pytorchs(steps, seed):
    torch = pytest.importorskip("torch")
    theirs = SimpleNamespace(
        **{f: getattr(torch, f) for f in vars(OURS) if f not in ("mask", "gelu")},
        gelu=torch.nn.functional.gelu,
        mask=torch.eye(3, dtype=torch.bool),
    )

    def f(*xs):
        return run(steps, xs, OURS, ZEROS)

    def g(*us):
        return run(steps, us, theirs, torch.zeros(3, 3, dtype=torch.float64))

    xs, vs = samples(seed), samples(seed + 100)
    us = [torch.tensor(x, requires_grad=True) for x in xs]
    first = torch.autograd.grad(g(*us), us, materialize_grads=True)
    for ours, h in zip(tg.grad(f, argnums=(0, 1, 2))(*xs), first, strict=True):
        assert_close(ours, h)
    _, second = torch.autograd.functional.hvp(g, tuple(us), tuple(map(torch.tensor, vs)))
    for ours, h in zip(tg.hvp(f, xs, vs)[1], second, strict=True):
        assert_close(ours, h)
