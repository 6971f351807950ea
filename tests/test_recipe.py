"""Rows of the training recipe about differentiation, losses and optimizers, each with the row's own numbers."""

import math

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.nn import functional as F
from tinygrad_dl.optim import lr_scheduler

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 3)), RNG.integers(0, 2, 40)


def network(dtype=np.float64):
    with tg.random.scope(0):
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).astype(dtype)


# graph and differentiation


@pytest.mark.parametrize("compiled", [False, True])
def test_the_first_program(compiled):
    """J(w) = w² − 10w + 25 from w = 0 reaches w = 5; other coefficients need no other program."""
    w = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)

    def step(c):
        optimizer.zero_grad()
        cost = c[0] * w**2 + c[1] * w + c[2]
        cost.backward()
        optimizer.step()
        return cost

    step = tg.compile(step) if compiled else step
    for coefficients, minimum in (([1.0, -10.0, 25.0], 5.0), ([1.0, -20.0, 100.0], 10.0), ([2.0, 4.0, 0.0], -1.0)):
        w.assign(0.0)
        first = step(np.array(coefficients)).item()
        assert first == coefficients[2]
        for _ in range(199):
            step(np.array(coefficients))
        assert w.item() == pytest.approx(minimum, abs=1e-10)
    assert not compiled or len(step.programs) == 1


def test_the_first_program_with_constants():
    w = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
    for _ in range(200):
        (w**2 - 10 * w + 25).backward()
        with tg.no_grad():
            w -= 0.1 * w.grad
        w.grad = None
    assert w.item() == pytest.approx(5, abs=1e-10)


def recipes_error(model, loss, eps=1e-7):
    """‖dθ̂ − dθ‖ / (‖dθ̂‖ + ‖dθ‖) with θ all parameters in one vector, written out."""
    parameters = list(model.parameters())
    for p in parameters:
        p.grad = None
    loss().backward()
    gradient = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    theta = np.concatenate([p.detach().numpy().ravel() for p in parameters])

    def at(vector):
        start = 0
        for p in parameters:
            p.assign(vector[start : start + p.size].reshape(p.shape))
            start += p.size
        return loss().item()

    unit = np.eye(theta.size)
    numeric = np.array([(at(theta + eps * e) - at(theta - eps * e)) / (2 * eps) for e in unit])
    at(theta)
    return np.linalg.norm(numeric - gradient) / (np.linalg.norm(numeric) + np.linalg.norm(gradient))


def test_gradient_check_with_its_penalty_at_the_start_and_after_training():
    model = network()
    weights = [model[0].weight, model[2].weight]
    loss = lambda: F.cross_entropy(model(tg.tensor(X)), Y) + F.l2_penalty(weights, 0.7, len(X))
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):
        assert recipes_error(model, loss) < 1e-7  # great
        report = tg.gradcheck(loss, wrt=model)
        assert report.ratio < 1e-7
        assert "great" in str(report)
        for _ in range(20):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()


def test_a_forgotten_penalty_is_a_worry():
    """The same check with dθ of the loss alone: the error of the row's last class."""
    model = network()
    plain = lambda: F.cross_entropy(model(tg.tensor(X)), Y)
    penalised = lambda: plain() + F.l2_penalty([model[0].weight], 0.7, len(X))
    results = iter([plain, *[penalised] * 1000])
    assert recipes_error(model, lambda: next(results)()) > 1e-3


def test_the_hessian_of_least_squares_is_its_closed_form():
    """J = ‖Xw − y‖² / n has H = 2XᵀX / n, everywhere; long, narrow bowls have a large condition number."""
    x, target = RNG.normal(size=(30, 4)) * [1, 1, 1, 20], RNG.normal(size=30)
    cost = lambda w: np.square(x @ w - target).mean()
    w, v = RNG.normal(size=4), RNG.normal(size=4)
    expected = 2 * x.T @ x / 30
    hessian = tg.hessian(cost)(w).numpy()
    np.testing.assert_allclose(hessian, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tg.hvp(cost, (w,), (v,))[1].numpy(), expected @ v, rtol=1e-10)
    assert np.linalg.cond(hessian) > 100


def test_a_network_at_zero_sits_on_a_saddle():
    """All weights zero: the gradient of the weights is zero, the Hessian indefinite; both from the library alone."""
    y = np.sin(X[:, :1])

    def cost(theta):
        first, second = theta[:12].reshape(3, 4), theta[12:].reshape(4, 1)
        return np.square(np.tanh(X @ first) @ second - y).mean()

    zero = np.zeros(16)
    np.testing.assert_allclose(tg.grad(cost)(zero).numpy(), 0)
    curvatures = np.linalg.eigvalsh(tg.hessian(cost)(zero).numpy())
    assert curvatures[0] < -0.1
    assert curvatures[-1] > 0.1
    # ∂²J / ∂first_ij ∂second_k = −2 mean(x_i y) for j = k: the eigenvalues are ± its norm, four times each
    size = 2 * np.linalg.norm((X * y).mean(0))
    np.testing.assert_allclose(curvatures, [-size] * 4 + [0] * 8 + [size] * 4, atol=1e-12)


def test_curvature_of_a_module_through_functional_call():
    """Hessian-vector product of a model's loss against differences of its gradients."""
    model = network()
    names = [n for n, _ in model.named_parameters()]
    loss = lambda *values: F.cross_entropy(nn.functional_call(model, dict(zip(names, values, strict=True)), X), Y)
    start = tuple(p.detach().numpy().copy() for p in model.parameters())
    direction = tuple(RNG.normal(size=a.shape) for a in start)
    eps, argnums = 1e-6, tuple(range(len(start)))
    gradient = tg.grad(loss, argnums=argnums)
    above, below = (gradient(*(a + s * eps * d for a, d in zip(start, direction, strict=True))) for s in (1, -1))
    _, products = tg.hvp(loss, start, direction)
    for ours, up, down in zip(products, above, below, strict=True):
        np.testing.assert_allclose(ours.numpy(), (up.numpy() - down.numpy()) / (2 * eps), rtol=1e-5, atol=1e-8)


# losses


def test_the_gradient_of_cross_entropy_is_y_hat_minus_y_over_m():
    z, labels = RNG.normal(size=(5, 4)), np.array([1, 0, 3, 3, 2])
    y = np.eye(4)[labels]
    y_hat = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    for target in (labels, y):
        logits = tg.tensor(z, requires_grad=True)
        loss = F.cross_entropy(logits, target)
        loss.backward()
        assert loss.item() == pytest.approx(-np.log(y_hat[y == 1]).mean())
        np.testing.assert_allclose(logits.grad.numpy(), (y_hat - y) / 5, atol=1e-15)


# averages


@pytest.mark.parametrize(
    ("beta", "window"), [(0.5, 2), (0.9, 10), (0.98, 50), (0.9005, 10.05), (0.999, 1000), (0.9995, 2000)]
)
def test_an_average_is_over_one_over_one_minus_beta_values(beta, window):
    """The latest value has the weight 1/window, and those within a window about 1 − 1/e of all."""
    average = optim.ExponentialAverage(beta, bias_correction=False)
    latest = average.update(1.0)
    assert 1 / latest == pytest.approx(window, rel=1e-4)
    for _ in range(round(window) - 1):
        average.update(1.0)
    assert average.value == pytest.approx(1 - beta ** round(window))
    assert average.value == pytest.approx(1 - 1 / math.e, abs=0.12)


def test_bias_correction_of_the_second_value():
    """β = 0.98: 0.0196θ₁ + 0.02θ₂ by 0.0396, so 0.4949 and 0.5051 and not 0.49 and 0.5."""
    weights = []
    for pair in ((1.0, 0.0), (0.0, 1.0)):
        average = optim.ExponentialAverage(0.98)
        average.update(pair[0])
        weights.append(average.update(pair[1]))
    assert [round(w, 4) for w in weights] == [0.4949, 0.5051]


def stepped(model, count=5):
    """The parameters after each of a few steps, and the step, compiled."""
    optimizer = optim.SGD(model.parameters(), lr=0.5)

    @tg.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(count):
        step(X, Y)
        yield {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


def test_the_average_of_a_model_over_compiled_steps():
    """By the definition: Σ (1 − β) β^(t − i) θᵢ / (1 − βᵗ); and it can be loaded."""
    beta, model = 0.8, network()
    average, history = optim.ExponentialAverage(beta), []
    for parameters in stepped(model):
        history.append(parameters)
        state = average.update(model)
        assert all(np.array_equal(p.detach().numpy(), parameters[n]) for n, p in model.named_parameters())
    shares = (1 - beta) * beta ** np.arange(len(history))[::-1] / (1 - beta ** len(history))
    for name, value in state.items():
        expected = sum(s * h[name] for s, h in zip(shares, history, strict=True))
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)
        assert not np.array_equal(value.numpy(), history[-1][name])
    model.load_state_dict(state)
    assert all(np.array_equal(p.detach().numpy(), state[n].numpy()) for n, p in model.named_parameters())


def test_the_average_of_a_model_takes_in_running_statistics_and_the_latest_count():
    model = nn.BatchNorm1d(3)
    average = optim.ExponentialAverage(0.5)
    for _ in range(2):
        model(tg.tensor(X.astype(np.float32)))
        state = average.update(model)
    one = 0.1 * X.mean(0)
    two = 0.9 * one + 0.1 * X.mean(0)
    np.testing.assert_allclose(state["running_mean"].numpy(), (0.25 * one + 0.5 * two) / 0.75, rtol=1e-5)
    assert state["num_batches_tracked"].item() == 2
    assert state["num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize("what", ["number", "array", "model"])
def test_an_average_goes_on_from_its_state(what, tmp_path):
    model = nn.Linear(3, 2)
    make = {"number": lambda: RNG.normal(), "array": lambda: RNG.normal(size=4), "model": lambda: model}[what]
    first, second = optim.ExponentialAverage(0.9), optim.ExponentialAverage(0.9)
    for _ in range(3):
        first.update(make())
    tg.save(tmp_path / "average.npz", first.state_dict())
    second.load_state_dict(tg.load(tmp_path / "average.npz"))
    value = make()
    a, b = first.update(value), second.update(value)
    for x, y in zip(*((list(v.values()) if what == "model" else [v]) for v in (a, b)), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    with pytest.raises(ValueError, match="expected count and average, got"):
        second.load_state_dict({"average": {}})


def test_an_average_inside_a_compiled_step_is_refused():
    average = optim.ExponentialAverage(0.9)
    with pytest.raises(RuntimeError, match="call it after the step"):
        tg.compile(lambda x: average.update(x.sum()))(np.ones(3))
    assert average.count == 0


# optimizers and schedules


def test_defaults_of_the_notes():
    p = tg.tensor([1.0], requires_grad=True)
    adam, rmsprop = optim.Adam([p]).param_groups[0], optim.RMSprop([p]).param_groups[0]
    assert (adam["betas"], adam["eps"]) == ((0.9, 0.999), 1e-8)
    assert (rmsprop["alpha"], rmsprop["eps"]) == (0.99, 1e-8)


def test_momentum_weighs_past_gradients_by_powers_of_beta():
    """The averaging form after t steps: v = (1 − β) Σ β^(t − i) gᵢ."""
    beta, gradients = 0.9, RNG.normal(size=6)
    p = tg.tensor(0.0, dtype=np.float64, requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0, momentum=beta, averaging=True)
    for t, g in enumerate(gradients, 1):
        before = p.item()
        p.grad = g
        optimizer.step()
        v = (1 - beta) * sum(beta ** (t - i) * gradients[i - 1] for i in range(1, t + 1))
        assert before - p.item() == pytest.approx(v)


def test_the_decays_of_the_notes_begin_where_they_say():
    """By epoch from 0 both of the first give α₀; k/√epoch begins at epoch 1, which is the first count."""

    def rates(kind, n, **options):
        optimizer = optim.SGD([tg.tensor([1.0], requires_grad=True)], lr=0.2)
        schedule, found = getattr(lr_scheduler, kind)(optimizer, **options), []
        for _ in range(n):
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        return found

    assert rates("InverseTimeLR", 1, decay=1.0) == rates("ExponentialLR", 1, gamma=0.95) == [0.2]
    assert rates("InverseSqrtLR", 4, k=3.0) == pytest.approx([3 / math.sqrt(t) * 0.2 for t in (1, 2, 3, 4)])
    assert rates("ExponentialLR", 3, gamma=0.95) == pytest.approx([0.95**e * 0.2 for e in (0, 1, 2)])
    assert rates("StepLR", 6, step_size=2, gamma=0.5) == pytest.approx([0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    assert rates("LinearLR", 4, start_factor=0.25, total_iters=3) == pytest.approx([0.05, 0.1, 0.15, 0.2])
    warm = rates("LambdaLR", 4, lr_lambda=lambda n: min(1, (n + 1) / 4))
    assert warm == pytest.approx([0.05, 0.1, 0.15, 0.2])


def path(make, steps=40):
    p = tg.tensor([-9.0, 2.2], dtype=np.float64, requires_grad=True)
    optimizer, points = make([p]), [p.tolist()]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * np.array([1.0, 25.0]) * p**2).sum().backward()
        optimizer.step()
        points.append(p.tolist())
    return np.array(points)


def test_paths_on_a_long_narrow_bowl():
    """Descent jumps from wall to wall at each step, momentum less often; RMSprop and Adam set out diagonally."""
    descent = path(lambda p: optim.SGD(p, lr=0.075))
    momentum = path(lambda p: optim.SGD(p, lr=0.075, momentum=0.9, averaging=True))
    crossings = [np.sum(np.diff(np.sign(points[:, 1])) != 0) for points in (descent, momentum)]
    assert crossings[0] == 40  # 1 − 0.075 · 25 < 0
    assert 0 < crossings[1] < 20
    np.testing.assert_allclose(descent[:, 0], -9 * (1 - 0.075) ** np.arange(41), rtol=1e-10)
    for make in (lambda p: optim.RMSprop(p, lr=0.3, alpha=0.9), lambda p: optim.Adam(p, lr=0.5)):
        across, along = np.diff(path(make), axis=0)[0][::-1]
        assert along == pytest.approx(-across, rel=1e-6)
