"""What operations mean in basic ones: the same at every edge, and nothing of them is left to NumPy."""

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.compiler.native.rounds import is_native
from tinygrad_dl.nn import functional as F

BACKENDS = ["interpreter", "numpy", "native"]
RNG = np.random.default_rng(0)
EDGES = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 1e-3, np.inf, -np.inf, np.nan])
X, Y, W, V = (RNG.normal(size=s).astype(np.float32) for s in ((6, 5), (6, 5), 5, 6))
Q, K = RNG.normal(size=(2, 3, 5, 4)), RNG.normal(size=(2, 3, 6, 4))
NORM = nn.BatchNorm1d(3)
LABELS, CLASSES = RNG.integers(0, 5, 6), np.arange(1.0, 6.0)


def compiled(f, backend, *args):
    """What a compiled function gives, run again, and its program."""
    run = tg.compile(f, backend=backend)
    with np.errstate(all="ignore"):
        for _ in range(3):
            result = run(*args)
    return result, run


def left_to_numpy(run):
    return [each.first.name for each in run._latest.run.rounds if not is_native(each.first)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 7, 8, -0.5, -1, -1.5, -2, -3, -8, 0, 9, 0.3])
def test_powers_are_numpys_at_every_edge(p, dtype, backend):
    x = EDGES.astype(dtype)
    result, _ = compiled(lambda t: t**p, backend, x)
    with np.errstate(all="ignore"):
        expected = np.sqrt(x) if p == 0.5 else np.power(x, p)  # which older versions do not have as equal
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5 if dtype == np.float32 else 1e-13)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(result.numpy()[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "bounds",
    [(-1, 1), (None, 0.5), (0.25, None), (Y - 1, Y), (np.float32(-1), np.array(2.0)), (np.where(Y > 0, np.nan, Y), 1)],
    ids=["both", "above", "below", "arrays", "wider", "nan"],
)
def test_clip(bounds, backend):
    result, _ = compiled(lambda t: np.clip(t, *bounds), backend, X)
    expected = np.clip(X, *bounds)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.numpy(), expected)


SUMS = {
    "ij,kj->ik": (X, Y),
    "ij,ik->jk": (X, Y),
    "ij,j->i": (X, W),
    "i,ij->j": (V, X),
    "ij,ij->": (X, Y),
    "ij,ij->ij": (X, Y),
    "i,i": (W, W),
    "i,j->ji": (V, W),
    "ij->ji": (X,),
    "bhqd,bhkd->bhqk": (Q, K),
    "bhqd,bhkd->qbk": (Q, K),
    "bhqd,bhkd->qk": (Q, K),
    "bhqk,bhkd->bqhd": (Q, np.moveaxis(Q, 2, 3)),
    "...ij,...kj->...ik": (Q, K[:1]),
    "ij,jk,kl->il": (X, X.T, Y),
    "ij,kj->ik of two dtypes": (X, Y.astype(np.float64)),
    "ij,kj->ik of integers": (np.arange(6).reshape(2, 3), np.arange(9).reshape(3, 3)),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SUMS)
def test_sums_of_products(name, backend):
    subscripts, operands = name.split(" of ")[0], SUMS[name]
    result, _ = compiled(lambda *t: np.einsum(subscripts, *t), backend, *operands)
    expected = np.einsum(subscripts, *operands)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-5, atol=1e-5)


STEPS = {
    "matrix and vector": lambda x, w: x @ w,
    "vector and matrix": lambda x, w: w @ x.T,
    "two vectors": lambda x, w: w @ w,
    "batch and vector": lambda x, w: x.reshape(2, 3, 5) @ w,
    "vector and batch": lambda x, w: w @ x.reshape(1, 5, 6),
    "inner": lambda x, w: np.inner(x, w),
    "einsum": lambda x, w: np.einsum("ij,kj->ik", x * w, Y),
    "new axis": lambda x, w: (x * w)[..., None] * Y[:, :, None],
    "square root by power": lambda x, w: (x * x * w * w + 1) ** 0.5,
    "powers": lambda x, w: (x * w) ** 4 + (x * x * w * w + 1) ** -1.5,
    "clip": lambda x, w: np.clip(x * w, -0.5, 0.5),
    "softplus": lambda x, w: F.softplus(x * w, beta=2.0),
    "binary cross-entropy": lambda x, w: F.binary_cross_entropy_with_logits(x * w, Y > 0, weight=Y * Y),
    "weighed positive part": lambda x, w: F.binary_cross_entropy_with_logits(x * w, Y > 0, pos_weight=W * W),
    "huber": lambda x, w: F.huber_loss(x * w, Y),
    "smoothed labels": lambda x, w: F.cross_entropy(x * w, LABELS, label_smoothing=0.1),
    "weights of classes": lambda x, w: F.cross_entropy(x * w, LABELS, weight=CLASSES),
    "pairs of rows": lambda x, w: np.exp(-np.square((x * w)[:, None] - x * w).sum(axis=-1)),
    "pairs of elements": lambda x, w: np.outer(w, w) + np.abs(w[:, None] - w) * w,
    "one array along rows and columns": lambda x, w: (x * w).sum(1)[:, None] + (x * w).sum(1) - (x * w) @ (x * w).T,
    "sums over two axes apart": lambda x, w: (x.reshape(2, 3, 5) * w).sum(axis=(0, 2)) + w.sum(),
    "batch norm of positions": lambda x, w: NORM(x.reshape(2, 3, 5) * w) * x.reshape(2, 3, 5),
    "slices and joins": lambda x, w: np.concatenate([(x * w)[:, 1:3], (x * w)[:, ::-1]], axis=1) * np.flip(w)[0],
    "rows of a table": lambda x, w: (x * w)[LABELS] * w[LABELS[:5]],
    "an element of each row": lambda x, w: (x * w)[np.arange(6), LABELS],
    "an element of each row, as a column": lambda x, w: np.take_along_axis(x * w, LABELS[:, None] - 5, 1) * Y,
    "one of them as unsigned": lambda x, w: np.exp(x * w)[np.arange(6, dtype=np.uint8), LABELS.astype(np.uint8)],
    "a list of weights": lambda x, w: F.nll_loss(F.log_softmax(x * w), tg.tensor(LABELS), weight=[*CLASSES]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", STEPS)
def test_values_and_gradients_are_eagers(name, backend):
    def loss_and_slope(x):
        w = tg.tensor(W, requires_grad=True)
        loss = np.square(STEPS[name](x, w)).sum()
        return loss, *tg.gradients([loss], [w])

    (loss, slope), run = compiled(loss_and_slope, backend, X)
    expected = loss_and_slope(tg.tensor(X))
    for got, want in zip((loss, slope), expected, strict=True):
        want = want.detach().numpy()
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
    if backend == "native":
        assert left_to_numpy(run) == []


def test_labels_of_a_step_may_be_tensors_beside_arrays_of_weights():
    model = nn.Linear(5, 5)
    step = tg.compile(lambda x, y: F.cross_entropy(model(x), y, weight=CLASSES))
    for _ in range(3):
        loss = step(X, LABELS)
    assert loss.item() == pytest.approx(F.cross_entropy(model(X), LABELS, weight=CLASSES).item(), rel=1e-5)


@pytest.mark.parametrize("pick", [lambda s, y: s[np.arange(4), y], lambda s, y: np.take_along_axis(s, y[:, None], 1)])
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_element_that_a_row_does_not_have(backend, dtype, pick):
    """It raises at each run, before anything has changed."""
    total = nn.Buffer(np.zeros((4, 3)))

    def step(x, y):
        total.assign(total + x)
        return pick(np.exp(total), y).sum()

    labels, step = np.array([0, 2, 1, 2]).astype(dtype), tg.compile(step, backend=backend)
    for _ in range(3):
        step(np.ones((4, 3)), labels)
    for wrong in (3, 100, *((-4, -100) if dtype is not np.uint8 else ())):
        bad = labels.copy()
        bad[2] = wrong
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for axis 1 with size 3"):
            step(np.ones((4, 3)), bad)
    np.testing.assert_array_equal(total.numpy(), np.full((4, 3), 3.0))
    assert step(np.ones((4, 3)), labels - np.array(3 * (dtype is not np.uint8), dtype)).item() == 4 * np.exp(4.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_are_an_argument_are_not_taken_for_all_rows(backend):
    step = tg.compile(lambda x, i, y: np.exp(x)[i, y], backend=backend)
    x = np.zeros((1, 3))
    for _ in range(3):
        assert step(x, np.array([0]), np.array([2])).item() == 1
    with pytest.raises(IndexError, match="index 1 is out of bounds for axis 0 with size 1"):
        step(x, np.array([1]), np.array([2]))


def test_labels_that_a_loss_has_looked_at_are_not_looked_at_again():
    w = tg.tensor(np.ones((5, 5)), requires_grad=True)

    @tg.compile
    def step(x, y):
        F.cross_entropy(x @ w, y).backward()

    for _ in range(3):
        step(X, LABELS)
    assert [s.op.name for s in step.latest.body if s.op.name in ("nll_loss", "getitem")] == ["nll_loss"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_labels_of_one_array_may_be_none_of_another(backend):
    step = tg.compile(lambda x, y: F.cross_entropy(x, y) + np.exp(x[:, :3])[np.arange(6), y].sum(), backend=backend)
    for _ in range(3):
        step(X, LABELS % 3)
    with pytest.raises(IndexError, match="index 4 is out of bounds for axis 1 with size 3"):
        step(X, np.array([0, 1, 2, 0, 4, 1]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_picks_that_are_more_than_one_of_each_row(backend):
    def f(x, y):
        return np.exp(x)[np.arange(6), y[:, None]]

    step = tg.compile(f, backend=backend)
    for _ in range(3):
        np.testing.assert_allclose(step(X, LABELS).numpy(), f(X, LABELS), rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_integers_count_from_the_end_of_long_rows(backend):
    x, y = np.arange(800.0).reshape(4, 200), np.array([-1, -128, 5, 127], np.int8)
    step = tg.compile(lambda x, y: (x * 2)[np.arange(4), y], backend=backend)
    for _ in range(3):
        np.testing.assert_array_equal(step(x, y).numpy(), [398, 544, 810, 1454])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "dtype", [np.bool_, np.int8, np.uint16, np.int32, np.uint64, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize("pick", [lambda x, y: x[np.arange(4), y], lambda x, y: np.take_along_axis(x, y[:, None], 1)])
def test_what_is_picked_is_any_number_of_any_dtype(pick, dtype, backend):
    """The sign of zero, infinities and NaN, the smallest and the largest, beside others."""
    x, y = np.array([[0, 1, 2], [3, 0, 1], [1, 2, 5], [1, 0, 1]]).astype(dtype), np.array([1, 0, 2, -2])
    if np.issubdtype(dtype, np.floating):
        x[:] = [[1, -0.0, np.nan], [np.inf, -np.inf, -0.0], [np.inf, 2, np.nan], [-np.inf, np.finfo(dtype).min, 1]]
    elif dtype != np.bool_:
        x[:2, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    for labels in (y, y - 1):
        result, _ = compiled(pick, backend, x, labels)
        expected = pick(x, labels)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result.numpy(), expected)
        if result.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(result.numpy()), np.signbit(expected))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int16, np.int64])
def test_sorting_one_column(dtype, backend):
    x = np.array([[3], [0], [1]]).astype(dtype)
    result, _ = compiled(lambda t: np.sort(t, axis=1), backend, x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result.numpy(), x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.bool_, *[f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]])
def test_reciprocals_of_integers(dtype, backend):
    x = np.array([1, 2, 100, 1]).astype(dtype)
    result, _ = compiled(lambda t: np.reciprocal(t), backend, x)
    assert result.dtype == np.reciprocal(x).dtype
    np.testing.assert_array_equal(result.numpy(), np.reciprocal(x))


INTEGRAL = {
    "softmax": (F.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "log_softmax": (F.log_softmax, lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
    "logsumexp": (F.logsumexp, lambda x: np.log(np.exp(x).sum(-1))),
    "batch norm": (
        lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5),
    ),
    "cross entropy": (
        lambda x: F.cross_entropy(x, np.array([2, 0, 1])),
        lambda x: np.mean(np.log(np.exp(x).sum(-1)) - x[np.arange(3), [2, 0, 1]]),
    ),
    "dropout": (
        lambda x: F.dropout(x, 0.25, rng=3),
        lambda x: F.dropout(x, 0.25, rng=3),
    ),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("name", INTEGRAL)
def test_integers_are_computed_with_in_float64(name, dtype, backend):
    """Eager and compiled, by the definition; unsigned differences would wrap around, and those of small ones."""
    function, definition = INTEGRAL[name]
    x = np.array([[0, 1, 3], [5, 2, 0], [1, 100, 127]]).astype(dtype)
    x[0, 1] = -128 if dtype == np.int8 else 0
    for y in (function(tg.tensor(x)), compiled(function, backend, x)[0]):
        assert y.dtype == np.float64
        np.testing.assert_allclose(y.numpy(), definition(x.astype(np.float64)), rtol=1e-12, atol=1e-12)


def test_what_may_fail_comes_before_everything_else():
    step = tg.compile(lambda x, y: np.take_along_axis(np.exp(x * 2), y[:, None], 1))
    step(X, LABELS)
    names = [instruction.op.name for instruction in step.latest.body]
    assert names.index("getitem") < names.index("exp")


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean_of_whole_numbers_is_exactly_numpys(backend):
    labels = RNG.integers(0, 3, (9, 10))
    result, run = compiled(
        lambda x: [(x == 1).mean(), np.mean(x, axis=1), (x > 1).mean(axis=0, keepdims=True)], backend, labels
    )
    for got, want in zip(
        result, [(labels == 1).mean(), labels.mean(1), (labels > 1).mean(0, keepdims=True)], strict=True
    ):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.numpy(), want)
    if backend == "native":
        assert left_to_numpy(run) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (7, 45), (45, 7)], ids=str)
def test_angles_of_any_size(shape, dtype):
    """Also those that the C library is left, in every lane."""
    x = (RNG.normal(size=shape) * 10.0 ** RNG.integers(-3, 25, shape)).astype(dtype)
    result, run = compiled(lambda x: np.sin(x) + 2 * np.cos(x) * np.sin(x).sum(), "native", x)
    np.testing.assert_allclose(result.numpy(), np.sin(x) + 2 * np.cos(x) * np.sin(x).sum(), rtol=1e-4, atol=1e-4)
    assert left_to_numpy(run) == []
