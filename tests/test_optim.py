"""Optimizers against PyTorch in float64 over 50 steps, and against the recipe's worked numbers."""

import math

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": True, "weight_decay": 0.01}),
    ("RMSprop", {"maximize": True, "centered": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"maximize": True, "eps": 1e-3}),
    ("AdamW", {"lr": 0.02}),
    ("AdamW", {"weight_decay": 0.3, "amsgrad": True, "maximize": True}),
    ("Adagrad", {}),
    (
        "Adagrad",
        {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.01, "initial_accumulator_value": 0.2, "maximize": True},
    ),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.01}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"weight_decay": 0.1, "betas": (0.8, 0.9), "maximize": True}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1, "betas": (0.7, 0.9), "maximize": True}),
]
SHAPES = [(), (3,), (4, 5), (2, 0)]


def name(case):
    return case if isinstance(case, str) else ",".join(case)


@pytest.fixture
def double():
    """PyTorch with float64 as its default: NAdam keeps its product of momenta in the default dtype."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=name)
def test_fifty_steps_equal_torchs(kind, options, double):
    torch = double
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s) for s in SHAPES]
    ours = [tg.tensor(a, requires_grad=True) for a in start]
    theirs = [torch.tensor(a, requires_grad=True) for a in start]
    a, b = getattr(optim, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    for step in range(50):
        if step == 25:
            for optimizer in (a, b):
                optimizer.param_groups[0]["lr"] *= 0.5
        for p, q in zip(ours, theirs, strict=True):
            g = rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 2)
            p.grad, q.grad = g, torch.tensor(g)
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_the_loop_everyone_writes_first_is_sgd_bit_for_bit():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(64, 300)).astype(np.float32)
    by_hand, by_sgd = tg.tensor(data, requires_grad=True), tg.tensor(data, requires_grad=True)
    optimizer = optim.SGD([by_sgd], lr=0.1)
    for _ in range(5):
        for p in (by_hand, by_sgd):
            p.grad = None
            (np.sin(p) * p).sum().backward()
        with tg.no_grad():
            by_hand -= 0.1 * by_hand.grad
        optimizer.step()
    assert by_hand.detach().numpy().tobytes() == by_sgd.detach().numpy().tobytes()


def test_blocks_change_nothing():
    rng = np.random.default_rng(0)
    data, g = rng.normal(size=(3, 20_000)), rng.normal(size=(3, 20_000))
    whole, parts = tg.tensor(data, requires_grad=True), [tg.tensor(row, requires_grad=True) for row in data[:, :100]]
    optimizers = optim.Adam([whole]), optim.Adam(parts)
    for _ in range(3):
        whole.grad = g
        for p, row in zip(parts, g[:, :100], strict=True):
            p.grad = row
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_array_equal(whole.detach().numpy()[:, :100], [p.tolist() for p in parts])


def test_views_taken_before_a_step_keep_the_old_value(quadratic):
    for make in (optim.SGD, optim.Adam):
        view = quadratic.detach().numpy()
        old = view.copy()
        quadratic.grad = [1.0, 1.0]
        make([quadratic], lr=0.1).step()
        assert view.tolist() == old.tolist()
        assert quadratic.tolist() != old.tolist()


def test_an_update_before_backward_is_noticed(quadratic):
    loss = (quadratic * quadratic).sum()
    quadratic.grad = [1.0, 1.0]
    optim.SGD([quadratic]).step()
    with pytest.raises(RuntimeError, match="overwritten"):
        loss.backward()


def test_first_step_of_the_averaging_form(quadratic):
    """The recipe: v = βv + (1-β)g, so g = 1 and lr = 1 move by -0.1, not -1."""
    for averaging, expected in ((True, -0.1), (False, -1.0)):
        p = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
        p.grad = 1.0
        optim.SGD([p], lr=1.0, momentum=0.9, averaging=averaging).step()
        assert p.item() == pytest.approx(expected)


@pytest.mark.parametrize("inside", [False, True])
def test_both_places_of_epsilon(inside):
    g, eps = 1e-3, 1e-4
    root = math.sqrt(g * g + eps) if inside else g + eps
    for make, square in ((lambda p: optim.Adam(p, lr=1.0, eps=eps, eps_inside=inside), 1.0),):
        p = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
        p.grad = g
        make([p]).step()
        assert p.item() == pytest.approx(-square * g / root)
    p = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
    p.grad = g
    optim.RMSprop([p], lr=1.0, alpha=0.9, eps=eps, eps_inside=inside).step()
    s = 0.1 * g * g
    assert p.item() == pytest.approx(-g / (math.sqrt(s + eps) if inside else math.sqrt(s) + eps))


def test_frozen_and_unused_parameters_stay():
    p, frozen, unused = (tg.tensor([1.0], requires_grad=True) for _ in range(3))
    p.grad, frozen.grad = [1.0], [1.0]
    frozen.requires_grad = False
    optimizer = optim.AdamW([p, frozen, unused], weight_decay=0.5)
    optimizer.step()
    assert p.item() != 1
    assert frozen.item() == unused.item() == 1


def test_a_step_without_any_gradient_says_what_to_do(quadratic):
    with pytest.raises(RuntimeError, match=r"loss\.backward"):
        optim.SGD([quadratic]).step()


def test_zero_grad(quadratic):
    quadratic.grad = [1.0, 1.0]
    optim.SGD([quadratic]).zero_grad()
    assert quadratic.grad is None


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_parameters_keep_their_dtype(dtype):
    for kind in ("SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "NAdam", "RAdam", "Adamax"):
        p = tg.tensor(np.ones(3, dtype), requires_grad=True)
        p.grad = np.ones(3, dtype)
        optimizer = getattr(optim, kind)([p], eps=1e-3) if kind != "SGD" else optim.SGD([p], momentum=0.9)
        optimizer.step()
        assert p.dtype == dtype
        assert all(v.dtype == dtype for v in optimizer.state[p].values() if isinstance(v, tg.Tensor))


@pytest.mark.parametrize(("kind", "options"), CASES, ids=name)
def test_state_dicts_continue_bit_for_bit(kind, options):
    rng = np.random.default_rng(1)
    grads = rng.normal(size=(8, 4))

    def run(p, optimizer, part):
        for g in part:
            p.grad = g
            optimizer.step()

    p = tg.tensor(np.ones(4), requires_grad=True)
    first = getattr(optim, kind)([p], **options)
    run(p, first, grads[:4])
    saved, q = first.state_dict(), tg.tensor(p.detach(), requires_grad=True)
    run(p, first, grads[4:])
    second = getattr(optim, kind)([q])
    second.load_state_dict(saved)
    run(q, second, grads[4:])
    assert p.tolist() == q.tolist()


def test_groups_and_named_parameters():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    groups = optim.decay_groups(model, 0.1)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert [len(g["params"]) for g in groups] == [2, 4]
    optimizer = optim.AdamW(groups, lr=0.1)
    assert len(optimizer.param_groups) == 2
    assert optim.SGD(model.named_parameters()).param_groups[0]["params"][0] is model[0].weight


def test_weight_decay_equals_the_l2_penalty_for_plain_descent():
    """w ← (1 - αλ/m)w - α dw, for m = 8 and the penalty λ/2m ‖w‖²."""
    lam, m, lr = 0.7, 8, 0.1
    w, v = (tg.tensor([1.0, -3.0], dtype=np.float64, requires_grad=True) for _ in range(2))
    (np.sin(w).sum() + nn.functional.l2_penalty([w], lam, m)).backward()
    np.sin(v).sum().backward()
    expected = (1 - lr * lam / m) * v.detach().numpy() - lr * v.grad.numpy()
    optim.SGD([w], lr=lr).step()
    optim.SGD([v], lr=lr, weight_decay=lam / m).step()
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(v.detach().numpy(), expected, rtol=1e-14)


class WholeTensorRule(optim.Optimizer):
    """A user's own: steps of unit norm."""

    elementwise = False

    def update(self, p, g, state, o):
        p -= o["lr"] * g / np.sqrt((g * g).sum())


def test_a_rule_of_ones_own():
    p = tg.tensor(np.zeros((200, 200)), requires_grad=True)
    p.grad = np.ones((200, 200))
    WholeTensorRule([p], {"lr": 2.0}).step()
    np.testing.assert_allclose(p.detach().numpy(), -2.0 / 200)
