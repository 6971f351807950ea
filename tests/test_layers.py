"""Layers, activations and losses against PyTorch in float64, and the recipe's worked numbers."""

import math

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.nn import functional as F

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5))
X[0, :3] = 0.0, 1.0, -1.0


def close(ours, theirs, **options):
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    ours = ours.detach().numpy() if isinstance(ours, tg.Tensor) else ours
    np.testing.assert_allclose(ours, theirs, **{"rtol": 1e-10, "atol": 1e-12, **options})


@pytest.fixture
def torch():
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


LAYERS = [
    (lambda: nn.Linear(5, 4), lambda t: t.nn.Linear(5, 4), X),
    (lambda: nn.Linear(5, 4, bias=False), lambda t: t.nn.Linear(5, 4, bias=False), RNG.normal(size=(2, 3, 5))),
    (lambda: nn.BatchNorm1d(5), lambda t: t.nn.BatchNorm1d(5), X),
    (lambda: nn.BatchNorm1d(5, eps=0.1, momentum=None), lambda t: t.nn.BatchNorm1d(5, eps=0.1, momentum=None), X),
    (lambda: nn.BatchNorm1d(3, affine=False), lambda t: t.nn.BatchNorm1d(3, affine=False), RNG.normal(size=(4, 3, 5))),
    (
        lambda: nn.BatchNorm1d(5, momentum=0.3, track_running_stats=False),
        lambda t: t.nn.BatchNorm1d(5, momentum=0.3, track_running_stats=False),
        X,
    ),
    (lambda: nn.ReLU(), lambda t: t.nn.ReLU(), X),
    (lambda: nn.LeakyReLU(0.2), lambda t: t.nn.LeakyReLU(0.2), X),
    (lambda: nn.ELU(0.7), lambda t: t.nn.ELU(0.7), X),
    (lambda: nn.SELU(), lambda t: t.nn.SELU(), X),
    (lambda: nn.GELU(), lambda t: t.nn.GELU(), X),
    (lambda: nn.GELU("tanh"), lambda t: t.nn.GELU("tanh"), X),
    (lambda: nn.SiLU(), lambda t: t.nn.SiLU(), X),
    (lambda: nn.Softplus(2.0, 3.0), lambda t: t.nn.Softplus(2.0, 3.0), X * 3),
    (lambda: nn.Sigmoid(), lambda t: t.nn.Sigmoid(), X),
    (lambda: nn.Tanh(), lambda t: t.nn.Tanh(), X),
    (lambda: nn.Softmax(), lambda t: t.nn.Softmax(-1), X),
    (lambda: nn.Softmax(axis=0), lambda t: t.nn.Softmax(0), X),
    (lambda: nn.LogSoftmax(), lambda t: t.nn.LogSoftmax(-1), X),
    (lambda: nn.Flatten(), lambda t: t.nn.Flatten(), RNG.normal(size=(4, 3, 2))),
    (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 2)),
        lambda t: t.nn.Sequential(t.nn.Linear(5, 3), t.nn.BatchNorm1d(3), t.nn.Tanh(), t.nn.Linear(3, 2)),
        X,
    ),
]


@pytest.mark.parametrize(("make", "make_theirs", "x"), LAYERS)
def test_layers_equal_torchs(torch, make, make_theirs, x):
    ours, theirs = make().astype(np.float64), make_theirs(torch)
    for p in theirs.parameters():
        torch.nn.init.normal_(p)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    for mode in (True, True, False):
        ours.train(mode)
        theirs.train(mode)
        a, b = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        ya, yb = ours(a), theirs(b)
        g = RNG.normal(size=ya.shape)
        ya.backward(g)
        yb.backward(torch.tensor(g))
        close(ya, yb)
        close(a.grad, b.grad)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad)
            p.grad = q.grad = None
    for name, value in theirs.state_dict().items():
        close(ours.state_dict()[name], value)


LABELS = np.array([0, 4, 2, 2, 1, 3])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1, 3.0])
PROBABILITIES = np.abs(RNG.normal(size=(6, 5)))
PROBABILITIES /= PROBABILITIES.sum(1, keepdims=True)
LOSSES = [
    ("cross_entropy", X, LABELS, {}),
    ("cross_entropy", X * 1e4, LABELS, {}),
    ("cross_entropy", X, LABELS, {"weight": WEIGHT}),
    ("cross_entropy", X, LABELS, {"ignore_index": 2}),
    ("cross_entropy", X, LABELS, {"ignore_index": 2, "weight": WEIGHT, "label_smoothing": 0.1}),
    ("cross_entropy", X, LABELS, {"label_smoothing": 0.2}),
    ("cross_entropy", X, PROBABILITIES, {}),
    ("cross_entropy", X, PROBABILITIES, {"weight": WEIGHT, "label_smoothing": 0.2}),
    ("cross_entropy", RNG.normal(size=(3, 5, 2)), np.array([[0, 1], [4, 2], [3, 3]]), {"label_smoothing": 0.1}),
    ("cross_entropy", RNG.normal(size=(3, 5, 2)), np.array([[0, 1], [4, 2], [3, 3]]), {"weight": WEIGHT}),
    ("nll_loss", np.log(PROBABILITIES), LABELS, {}),
    ("nll_loss", np.log(PROBABILITIES), LABELS, {"weight": WEIGHT, "ignore_index": 1}),
    ("mse_loss", X, X[::-1].copy(), {}),
    ("l1_loss", X, X[::-1].copy(), {}),
    ("huber_loss", X, X[::-1].copy(), {"delta": 0.7}),
    ("binary_cross_entropy_with_logits", X * 50, PROBABILITIES, {}),
    ("binary_cross_entropy_with_logits", X, PROBABILITIES, {"weight": np.abs(X), "pos_weight": WEIGHT}),
]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "x", "target", "options"), LOSSES)
def test_losses_equal_torchs(torch, name, x, target, options, reduction):
    a, b = tg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    ya = getattr(F, name)(a, target, reduction=reduction, **options)
    yb = getattr(torch.nn.functional, name)(b, torch.tensor(target), reduction=reduction, **theirs)
    g = RNG.normal(size=ya.shape)
    ya.backward(g)
    yb.backward(torch.tensor(g))
    close(ya, yb)
    close(a.grad, b.grad)


def fused_cases():
    from tinygrad_dl.nn import activations, objectives, transformations

    key = np.array(12345, np.uint64)
    w, b = RNG.normal(size=(4, 5)), RNG.normal(size=4)
    gamma, beta = RNG.normal(size=5), RNG.normal(size=5)
    return [
        (transformations._linear, (X, w, b), {}),
        (transformations._linear, (RNG.normal(size=(2, 3, 5)), w, None), {}),
        (transformations._norm, (X, gamma, beta), {"eps": 1e-5}),
        (transformations._norm, (RNG.normal(size=(4, 5, 3)), gamma, None), {"eps": 1e-2}),
        (transformations._dropout, (X, key), {"p": 0.4, "factor": 1 / 0.6}),
        (activations._softmax, (X,), {"axis": 0}),
        (activations._log_softmax, (X,), {"axis": -1}),
        (objectives._mean_cross_entropy, (X, LABELS), {"ignore_index": 3}),
    ]


@pytest.mark.parametrize(("op", "arrays", "static"), fused_cases(), ids=lambda v: getattr(v, "name", ""))
def test_fast_pairs_equal_their_meaning(op, arrays, static):
    """First order from the pair and from the meaning, and the second order of both."""
    results = []
    for f in (op, op.meaning):
        inputs = [tg.tensor(a, requires_grad=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a for a in arrays]
        outputs = f(*inputs, **static)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        rng = np.random.default_rng(1)
        total = sum((y * rng.normal(size=y.shape)).sum() for y in outputs)
        leaves = [t for t in inputs if isinstance(t, tg.Tensor) and t.requires_grad]
        total.backward(retain_graph=True)
        first = [t.grad.numpy() for t in leaves]
        for t in leaves:
            t.grad = None
        total.backward(create_graph=True)
        again = [t.grad for t in leaves]
        for t in leaves:
            t.grad = None
        square = sum((g * g).sum() for g in again)
        if square.requires_grad:
            square.backward()
        second = [np.zeros(t.shape) if t.grad is None else t.grad.detach().numpy() for t in leaves]
        results.append([[y.detach().numpy() for y in outputs], first, second])
    for ours, meant in zip(*results, strict=True):
        for a, b in zip(ours, meant, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


# the recipe's numbers


def test_softmax_of_the_notes():
    z = np.array([5.0, 2.0, -1.0, 3.0])
    t = np.exp(z)
    np.testing.assert_allclose(t, [148.4, 7.4, 0.4, 20.1], atol=0.05)
    a = F.softmax(z)
    np.testing.assert_allclose(a, [0.842, 0.042, 0.002, 0.114], atol=5e-4)
    assert a.sum() == pytest.approx(1)
    assert F.hardmax(z).tolist() == [1, 0, 0, 0]
    assert np.isfinite(F.softmax(np.array([1e4, -1e4, 0.0]))).all()


def test_softmax_of_two_classes_is_logistic_regression():
    z = RNG.normal(size=(7, 2))
    np.testing.assert_allclose(F.softmax(z)[:, 1], F.sigmoid(z[:, 1] - z[:, 0]), rtol=1e-14)


def test_softmax_jacobian_and_the_chain_to_a_minus_y():
    z, y = np.array([5.0, 2.0, -1.0, 3.0]), np.array([0.0, 1.0, 0.0, 0.0])
    a = F.softmax(z)
    expected = np.diag(a) - np.outer(a, a)
    from tinygrad_dl.transforms import jacobian

    np.testing.assert_allclose(jacobian(F.softmax)(z).numpy(), expected, atol=1e-15)
    np.testing.assert_allclose((-y / a) @ expected, a - y, atol=1e-14)
    t = tg.tensor(z[None], requires_grad=True)
    F.cross_entropy(t, np.array([1])).backward()
    np.testing.assert_allclose(t.grad.numpy()[0], a - y, atol=1e-15)


def test_cross_entropy_of_the_notes():
    loss = F.cross_entropy(np.log([[0.3, 0.2, 0.1, 0.4]]), np.array([[0.0, 1, 0, 0]]))
    assert loss == pytest.approx(-math.log(0.2))
    assert float(F.cross_entropy(np.log([[0.3, 0.2, 0.1, 0.4]]), np.array([1]))) == pytest.approx(-math.log(0.2))


def test_batch_norm_of_the_notes():
    layer = nn.BatchNorm1d(1)
    layer(tg.tensor([[1.0], [3.0]]))
    assert layer.running_var.item() == pytest.approx(1.1)
    assert layer.running_mean.item() == pytest.approx(0.2)
    layer.eval()
    assert layer(tg.tensor([[1.0]])).item() == pytest.approx(0.8 / math.sqrt(1.1 + 1e-5))
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer.train()(tg.tensor([[1.0]]))


def test_gamma_and_beta_can_undo_batch_norm():
    z = RNG.normal(3, 2, size=(50, 4))
    layer = nn.BatchNorm1d(4).astype(np.float64)
    layer.weight.assign(np.sqrt(z.var(0) + layer.eps))
    layer.bias.assign(z.mean(0))
    np.testing.assert_allclose(layer(tg.tensor(z)).detach().numpy(), z, rtol=1e-12)


def test_the_bias_before_batch_norm_is_redundant():
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Tanh()).astype(np.float64)
    before = model(tg.tensor(X)).detach().numpy()
    model[0].bias.assign([5.0, -7.0, 100.0])
    y = model(tg.tensor(X))
    np.testing.assert_allclose(y.detach().numpy(), before, rtol=1e-10)
    (y * RNG.normal(size=y.shape)).sum().backward()
    np.testing.assert_allclose(model[0].bias.grad.numpy(), 0, atol=1e-13)


@pytest.mark.parametrize("scale", ["train", "test"])
def test_both_forms_of_dropout(scale):
    keep = 0.8
    x = tg.tensor(np.ones(40_000), requires_grad=True)
    layer = nn.Dropout(1 - keep, scale=scale)
    tg.seed(0)
    y = layer(x)
    share = (y.detach().numpy() != 0).mean()
    assert abs(share - keep) < 4 * math.sqrt(keep * (1 - keep) / x.size)
    on = 1 / keep if scale == "train" else 1.0
    np.testing.assert_allclose(np.unique(y.detach().numpy()), [0, on])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())  # the same mask
    test = layer.eval()(x).detach().numpy()
    np.testing.assert_allclose(test, 1.0 if scale == "train" else keep)


def test_dropout_edges_and_errors():
    x = tg.tensor(np.ones(8))
    assert F.dropout(x, 0.0).tolist() == [1] * 8
    assert F.dropout(x, 1.0).tolist() == [0] * 8
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match="probability of dropping"):
            nn.Dropout(bad)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        nn.Dropout(0.5, scale="other")


def test_penalties_of_the_notes():
    w = tg.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=np.float64, requires_grad=True)
    lam, m = 0.5, 4
    F.l2_penalty([w], lam, m).backward()
    np.testing.assert_allclose(w.grad.numpy(), lam / m * w.detach().numpy())
    assert F.l2_penalty([w], lam, m).item() == pytest.approx(lam / (2 * m) * 14)
    w.grad = None
    F.l1_penalty([w], lam, m).backward()
    np.testing.assert_allclose(w.grad.numpy(), lam / m * np.sign(w.detach().numpy()))
    assert F.l1_penalty([w], lam, m).item() == pytest.approx(lam / m * 6)


def test_activations_are_stable_far_out():
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    for f in (F.sigmoid, F.silu, F.softplus, F.gelu, F.elu, F.selu, F.softmax, F.log_softmax):
        t = tg.tensor(x, requires_grad=True)
        y = f(t)
        y.sum().backward()
        assert np.isfinite(y.detach().numpy()).all(), f
        assert np.isfinite(t.grad.numpy()).all(), f


def test_masked_softmax_gives_no_probability_to_minus_infinity():
    t = tg.tensor([[1.0, -np.inf, 2.0]], requires_grad=True)
    y = F.softmax(t)
    assert y[0, 1].item() == 0
    (y * np.array([1.0, 2.0, 3.0])).sum().backward()
    assert np.isfinite(t.grad.numpy()).all()


def test_erf_and_gelu_to_full_precision():
    from scipy import special

    from tinygrad_dl.nn.activations import erf

    x = np.concatenate([np.linspace(-7, 7, 2001), [np.inf, -np.inf, 30.0, 0.0]])
    np.testing.assert_allclose(erf(x), special.erf(x), atol=4e-15)
    assert np.isnan(erf(np.array([np.nan]))).all()
    assert erf(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.uint64])
def test_a_sigmoid_of_integers(dtype):
    x = np.array([0, 1, 5, 127, -128 if dtype == np.int8 else 0]).astype(dtype)
    y = F.sigmoid(x)
    assert y.dtype == np.exp(x[:1]).dtype
    eps = np.finfo(y.dtype).eps
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-x.astype(float))), rtol=2 * eps, atol=eps)


def test_a_gelu_of_a_python_number_is_not_rounded():
    assert float(F.gelu(0.3)) == pytest.approx(0.15 * (1 + math.erf(0.3 * math.sqrt(0.5))), rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_layers_keep_the_dtype(dtype):
    x = tg.tensor(X.astype(dtype), requires_grad=True)
    model = nn.Sequential(
        nn.Linear(5, 4), nn.BatchNorm1d(4), nn.GELU(), nn.Dropout(0.3), nn.SiLU(), nn.Linear(4, 3)
    ).astype(dtype)
    y = model(x)
    loss = F.cross_entropy(y, LABELS % 3)
    loss.backward()
    assert y.dtype == loss.dtype == x.grad.dtype == dtype
    assert all(p.grad.dtype == dtype for p in model.parameters())


# bad input


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: F.cross_entropy(X, np.array([0, 1, 2, 9, 0, 0])), ValueError, r"label 9 at row 3 .* 5 classes"),
        (lambda: F.nll_loss(X, np.array([0, -1, 2, 1, 0, 0])), ValueError, r"label -1 at row 1"),
        (lambda: F.cross_entropy(X, np.array([0, 1])), ValueError, r"labels of shape \(6,\) .* got \(2,\)"),
        (lambda: F.cross_entropy(X, X[:, :1]), ValueError, r"probabilities of the logits' shape \(6, 5\)"),
        (lambda: F.cross_entropy(X[0], np.array([0])), ValueError, r"labels of shape \(\) .* got \(1,\)"),
        (lambda: F.mse_loss(X, X[:, :1]), ValueError, r"\(6, 5\) and target \(6, 1\)"),
        (lambda: F.l1_loss(X, X[0]), ValueError, "must be equal"),
        (lambda: F.mse_loss(X, X, reduction="avg"), ValueError, "'mean', 'sum' or 'none', got 'avg'"),
        (lambda: nn.MSELoss("avg"), ValueError, "MSELoss: reduction"),
        (lambda: nn.Linear(5, 4)(tg.tensor(X[:, :3])), ValueError, r"5 features on the last axis, got shape \(6, 3\)"),
        (lambda: nn.Linear(0, 4), ValueError, "in_features >= 1"),
        (lambda: nn.Linear(3, 4, init="nonsense"), ValueError, "he_normal_"),
        (lambda: nn.BatchNorm1d(4)(tg.tensor(X)), ValueError, r"\(N, 4\).*got shape \(6, 5\)"),
        (lambda: F.one_hot(np.array([0, 3]), 3), ValueError, "label 3 at row 1"),
        (lambda: F.gelu(X, "sometimes"), ValueError, "'none' or 'tanh'"),
        (lambda: nn.Sequential(nn.ReLU(), 3), TypeError, "got int at place 1"),
    ],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_errors_inside_a_layer_name_it():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    model[1].forward = lambda x: x @ x
    with pytest.raises(ValueError, match=r"matmul in layer Sequential\.1"):
        model(tg.tensor(X.astype(np.float32)))


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss], ids=lambda c: c.__name__)
def test_a_loss_that_was_not_made_is_refused_in_words(loss):
    with pytest.raises(TypeError, match=rf"make the loss first: {loss.__name__}\(\)\(x, y\)"):
        loss(tg.tensor(X), X)
    with pytest.raises(ValueError, match="must be 'mean', 'sum' or 'none', got 'max'"):
        loss("max")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gelu", ([1.0, -2.0],)),
        ("hardmax", ([1.0, 3.0, -2.0],)),
        ("batch_norm", ([[1.0, 2.0], [2.0, 5.0]], None, None)),
        ("cross_entropy", ([[1.0, 2.0]], [0])),
        ("nll_loss", ([[-1.0, -2.0]], [1])),
        ("binary_cross_entropy_with_logits", ([1.0, -2.0], [0.0, 1.0])),
    ],
)
def test_lists_are_taken_as_arrays(name, arguments):
    f = getattr(nn.functional, name)
    arrays = [a if a is None else np.array(a) for a in arguments]
    np.testing.assert_array_equal(f(*arguments), f(*arrays))
