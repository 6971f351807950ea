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


@pytest.fixture
def quadratic():
    return tg.tensor([1.0, -2.0], dtype=np.float64, requires_grad=True)


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


def test_a_bad_state_dict_changes_nothing(quadratic):
    optimizer = optim.Adam([quadratic])
    quadratic.grad = [1.0, 1.0]
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=r"groups of \[1\] parameters, got \[2\]"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{**before["param_groups"][0], "params": [0, 1]}]})
    bad = {"state": {0: {"step": 1, "exp_avg": np.ones(3)}}, "param_groups": before["param_groups"]}
    with pytest.raises(ValueError, match=r"exp_avg of parameter 0: expected \(2,\), got \(3,\)"):
        optimizer.load_state_dict(bad)
    assert optimizer.state[quadratic]["exp_avg"].tolist() == before["state"][0]["exp_avg"].tolist()


def test_torchs_state_dict_loads():
    torch = pytest.importorskip("torch")
    p, q = tg.tensor([1.0, 2.0], dtype=np.float64, requires_grad=True), torch.tensor([1.0, 2.0], dtype=torch.float64)
    theirs = torch.optim.Adam([q], lr=0.1)
    q.grad = torch.ones(2, dtype=torch.float64)
    theirs.step()
    saved = theirs.state_dict()
    plain = {n: {k: v.numpy() for k, v in s.items()} for n, s in saved["state"].items()}
    ours = optim.Adam([p], lr=0.1)
    options = {k: v for k, v in saved["param_groups"][0].items() if k in ours.param_groups[0]}
    ours.load_state_dict({"state": plain, "param_groups": [options]})
    p.assign(q.numpy())
    p.grad, q.grad = [0.5, -1.0], torch.tensor([0.5, -1.0], dtype=torch.float64)
    ours.step()
    theirs.step()
    np.testing.assert_allclose(p.detach().numpy(), q.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda p: optim.SGD([]), ValueError, "at least one parameter"),
        (lambda p: optim.SGD(p), TypeError, r"write \[tensor\]"),
        (lambda p: optim.SGD([p, p]), ValueError, "twice"),
        (lambda p: optim.SGD([p.detach().numpy()]), TypeError, "got ndarray"),
        (lambda p: optim.SGD([p * 2]), ValueError, "leaf"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "lr to be a finite number"),
        (lambda p: optim.SGD([p], lr=math.nan), ValueError, "lr"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas below 1"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs momentum"),
        (lambda p: optim.SGD([{"params": [p], "speed": 3}]), ValueError, "no option 'speed'"),
        (lambda p: optim.SGD([{"lr": 3}]), ValueError, "needs 'params'"),
    ],
)
def test_bad_arguments_are_refused(quadratic, make, error, match):
    with pytest.raises(error, match=match):
        make(quadratic)


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


# clipping


def test_clipping_by_norm_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    gs = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    for limit in (0.5, 100.0):
        ours = [tg.tensor(np.zeros(g.shape), requires_grad=True) for g in gs]
        theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gs]
        for p, q, g in zip(ours, theirs, gs, strict=True):
            p.grad, q.grad = g, torch.tensor(g)
        norm = optim.clip_grad_norm(ours, limit)
        assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, limit).item())
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-5)


def test_clipping_by_value(quadratic):
    quadratic.grad = [3.0, -0.2]
    assert optim.clip_grad_value([quadratic], 0.5) == 3
    assert quadratic.grad.tolist() == [0.5, -0.2]


def test_a_norm_that_is_not_finite_changes_nothing(quadratic):
    quadratic.grad = [math.nan, 1.0]
    with pytest.raises(RuntimeError, match="nan"):
        optim.clip_grad_norm([quadratic], 1.0)
    assert quadratic.grad[1].item() == 1


# averages


def test_the_recipes_average():
    average = optim.ExponentialAverage(0.98)
    average.update(1.0)
    weights = []
    for first, second in ((1.0, 0.0), (0.0, 1.0)):
        average = optim.ExponentialAverage(0.98)
        average.update(first)
        weights.append(average.update(second))
    assert weights == pytest.approx([0.0196 / 0.0396, 0.02 / 0.0396])
    plain = optim.ExponentialAverage(0.98, bias_correction=False)
    plain.update(1.0)
    assert plain.update(0.0) == pytest.approx(0.0196)


@pytest.mark.parametrize(("beta", "days"), [(0.5, 2), (0.9, 10), (0.98, 50)])
def test_an_average_covers_one_over_one_minus_beta_values(beta, days):
    assert 1 / (1 - beta) == pytest.approx(days)
    average = optim.ExponentialAverage(beta, bias_correction=False)
    average.update(1.0)
    for _ in range(days):
        last = average.update(0.0)
    assert last / (1 - beta) == pytest.approx(beta**days)
    assert abs(last / (1 - beta) - 1 / math.e) < 0.13


@pytest.mark.parametrize("make", [tg.tensor, np.array])
def test_averages_of_whole_numbers_are_floating(make):
    average = optim.ExponentialAverage(0.5)
    average.update(make([1, 2]))
    np.testing.assert_allclose(average.update(make([2, 4])), [5 / 3, 10 / 3])


def test_averages_of_a_model():
    model = nn.Linear(2, 3)
    average = optim.ExponentialAverage(0.9)
    first = model.weight.detach().numpy().copy()
    average.update(model)
    with tg.no_grad():
        model.weight += 1
    state = average.update(model)
    np.testing.assert_allclose(state["weight"].numpy(), (0.09 * first + 0.1 * (first + 1)) / 0.19, rtol=1e-5, atol=1e-6)
    model.load_state_dict(state)
    with pytest.raises(ValueError, match="other names or shapes"):
        average.update(nn.Linear(2, 4))


def test_the_state_of_another_optimizer_is_refused():
    p = nn.Parameter(np.ones(2))
    sgd, adam = optim.SGD([p], momentum=0.9), optim.Adam([p])
    p.grad = np.ones(2)
    sgd.step()
    with pytest.raises(ValueError, match="another optimizer's"):
        adam.load_state_dict(sgd.state_dict())
    with pytest.raises(KeyError, match="param_groups"):
        adam.load_state_dict({})
    adam.step()
    with pytest.raises(ValueError, match=r"got betas, eps; .* another optimizer's"):
        sgd.load_state_dict(optim.Adam([p]).state_dict())  # which has no state yet
    assert sgd.state_dict()["state"][0]["step"] == 1


@pytest.mark.parametrize("given", [nn.Linear(2, 2), nn.Linear(2, 2).parameters], ids=["model", "method"])
def test_a_model_in_place_of_its_parameters_is_refused(given):
    with pytest.raises(TypeError, match=r"write model\.parameters\(\)"):
        optim.SGD(given)


def test_a_rate_may_be_a_numpy_number_but_not_a_truth_value():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.Adam([p], lr=np.float64(0.1))
    assert type(optimizer.param_groups[0]["lr"]) is float
    with pytest.raises(ValueError, match="expected lr to be a finite number"):
        optim.Adam([p], lr=True)


def test_a_schedule_is_made_after_the_last_group():
    optimizer = optim.SGD([nn.Parameter(np.ones(2))], lr=0.1)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2)
    optimizer.add_param_group({"params": [nn.Parameter(np.ones(3))]})
    with pytest.raises(ValueError, match="after add_param_group"):
        schedule.step()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [("SGD", "momentum", 0.9), ("RMSprop", "momentum", 0.9), ("RMSprop", "centered", True), ("AdamW", "amsgrad", True)],
)
def test_an_option_that_came_too_late_changes_nothing(compiled, cls, option, value):
    weight = nn.Parameter(np.ones(3, np.float32))
    optimizer = getattr(optim, cls)([weight], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()

    step = tg.compile(step) if compiled else step
    for _ in range(2):
        step(tg.tensor(np.ones(3, np.float32)))
    before, steps = weight.detach().tolist(), optimizer.state[weight]["step"]
    optimizer.param_groups[0][option] = value
    with pytest.raises(RuntimeError, match=rf"{cls}.step: {option} was off when training began"):
        step(tg.tensor(np.ones(3, np.float32)))
    assert (weight.detach().tolist(), optimizer.state[weight]["step"]) == (before, steps)
    optimizer.param_groups[0][option] = type(value)(0)
    step(tg.tensor(np.ones(3, np.float32)))
    assert optimizer.state[weight]["step"] == steps + 1


@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop, optim.Adagrad, optim.NAdam, optim.RAdam, optim.Adamax])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_state_may_come_as_arrays(kind, shape):
    after = []
    for plain in (False, True):
        p = nn.Parameter(np.ones(shape))
        o = kind([p])
        for step in range(3):
            p.grad = np.full(shape, 0.5)
            o.step()
            if plain and step == 1:
                state = o.state_dict()
                state["state"][0] = {k: np.asarray(v) for k, v in state["state"][0].items()}
                o.load_state_dict(state)
        after.append(p.numpy() if p.node is None else p.detach().numpy())
    np.testing.assert_array_equal(*after)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_goes_on_from_pytorchs_state(momentum):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    other = torch.optim.SGD([theirs], lr=0.1, momentum=momentum)
    theirs.grad = torch.tensor([1.0, 2.0], dtype=torch.float64)
    other.step()
    p = nn.Parameter(theirs.detach().numpy())
    o = optim.SGD([p], lr=0.1, momentum=momentum)
    state = other.state_dict()["state"]
    kept = {i: {k: v if v is None else v.numpy() for k, v in s.items()} for i, s in state.items()}
    o.load_state_dict({"state": kept, "param_groups": [{"lr": 0.1, "params": [0]}]})
    p.grad = np.array([1.0, 2.0])
    o.step(), other.step()
    np.testing.assert_allclose(p.detach().numpy(), theirs.detach().numpy())


def test_betas_are_two():
    with pytest.raises(ValueError, match="expected betas to be two numbers"):
        optim.Adam([nn.Parameter(1.0)], betas=(0.9,))


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value], ids=lambda f: f.__name__)
def test_the_clipped_gradient_of_a_number_is_an_array(clip):
    w = nn.Parameter(np.array(2.0))
    (w * w * 100).backward()
    clip([w], 0.1)
    assert type(w.grad.data) is np.ndarray
    assert w.grad.item() == pytest.approx(0.1)
