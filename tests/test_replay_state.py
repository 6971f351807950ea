"""After some runs a replay looks at all that may have changed at once: here parameters, gradients and optimizers do."""

import copy

import numpy as np
import pytest
from programs import ones, run

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler import replay


def accumulating(compiled):
    """Steps that never clear the gradient."""
    w = tg.tensor(ones(), requires_grad=True)
    w.grad = np.zeros(3, np.float32)
    optimizer = optim.Adam([w], lr=0.1)

    @compiled
    def step(x):
        loss = ((w - x) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    return w, optimizer, step


def replace(w, _):
    w.grad = 5 * ones()


def clear(w, _):
    w.grad = None


def assign(w, _):
    w.assign(np.arange(3))


def rate(_, optimizer):
    optimizer.param_groups[0]["lr"] *= 2


def forget(_, optimizer):
    """Another program is needed, which is only seen while the optimizer counts."""
    optimizer.param_groups[0]["betas"] = (0.0, 0.9)


def load(_, optimizer):
    state = copy.deepcopy(optimizer.state_dict())
    for kept in state["state"].values():
        kept["exp_avg"] = -kept["exp_avg"]
    optimizer.load_state_dict(state)


def exchange(w, optimizer):
    kept = optimizer.state[w]
    optimizer.state[w] = {**kept, "exp_avg": tg.tensor(-kept["exp_avg"].numpy())}


def swap(w, optimizer):
    kept = optimizer.state[w]
    kept["exp_avg"] = tg.tensor(-kept["exp_avg"].numpy())


@pytest.mark.parametrize(
    "change", [replace, clear, assign, rate, forget, load, exchange, swap], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_is_changed(change, backend):
    runs = [accumulating(lambda f: f), accumulating(tg.compile(backend=backend))]
    target = np.full(3, 0.25, np.float32)
    for _ in range(3):
        for w, optimizer, step in runs:
            run(step, target)
            change(w, optimizer)
        (eager, theirs, _), (w, optimizer, _) = runs
        np.testing.assert_allclose(w.detach().numpy(), eager.detach().numpy(), rtol=1e-5)
        assert optimizer.state[w]["step"] == theirs.state[eager]["step"]
    for _, _, step in runs:
        run(step, target)
    np.testing.assert_allclose(runs[1][0].grad.numpy(), runs[0][0].grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_gradient_that_somebody_keeps_stays_as_it_is(backend):
    w = tg.tensor(ones(), requires_grad=True)

    @tg.compile(backend=backend)
    def step(x):
        w.grad = None
        (w * x).sum().backward()

    run(step, ones())
    tensor = w.grad
    step(2 * ones())
    array = w.grad.data
    step(3 * ones())
    for found, expected in (tensor, 1), (array, 2), (w.grad, 3):
        np.testing.assert_array_equal(np.asarray(found), expected * ones())


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_run_that_fails_in_the_middle(backend):
    """It leaves no gradients, and what it has counted is not counted."""
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        w = tg.tensor(np.eye(3, dtype=np.float32), requires_grad=True)
        optimizer = optim.Adam([w], lr=0.1)

        @compiled
        def step(x, y):
            optimizer.zero_grad()  # noqa: B023
            nn.functional.cross_entropy(x @ w, y).backward()  # noqa: B023
            optimizer.step()  # noqa: B023

        run(step, ones(2, 3), np.array([0, 2]))
        with pytest.raises((ValueError, IndexError)):
            step(ones(2, 3), np.array([0, 7]))
        assert w.grad is None
        run(step, ones(2, 3), np.array([1, 2]))
        found.append((w.detach().numpy(), w.grad.numpy(), optimizer.state[w]["step"]))
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_is_written_and_never_read(backend):
    state = nn.Buffer(ones())
    step = tg.compile(lambda x: state.assign(x * 2), backend=backend)
    for i in range(5):
        step(i * ones())
        np.testing.assert_array_equal(state.numpy(), 2 * i * ones())


def test_parameters_that_are_counted_apart():
    def weights(compiled):
        pair = [tg.tensor(ones(), requires_grad=True) for _ in range(2)]
        optimizer = optim.Adam(pair, lr=0.1)

        @compiled
        def step(x):
            optimizer.zero_grad()
            ((pair[0] * pair[1] - x) ** 2).sum().backward()
            optimizer.step()

        run(step, 3 * ones())
        optimizer.state[pair[1]]["step"] = 1
        run(step, 3 * ones())
        return [p.detach().numpy() for p in pair]

    np.testing.assert_allclose(weights(tg.compile), weights(lambda f: f), rtol=1e-5)


def test_a_schedule_is_not_stepped_twice_where_another_program_is_needed():
    def rates(compiled):
        w, optimizer, step = accumulating(lambda f: f)
        schedule, found = optim.lr_scheduler.StepLR(optimizer, 2), []

        @compiled
        def both(x):
            schedule.step()
            return step(x)

        for i in range(8):
            if i == 4:
                forget(w, optimizer)
            found.append((both(ones() / 4).item(), optimizer.param_groups[0]["lr"], schedule.count))
        return found

    np.testing.assert_allclose(rates(tg.compile), rates(lambda f: f), rtol=1e-5)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_view_of_state_that_somebody_takes_keeps_its_values(backend):
    w, _, step = accumulating(tg.compile(backend=backend))
    run(step, ones() / 4)
    view, before = w.detach().numpy(), w.detach().numpy().copy()
    run(step, ones() / 4)
    np.testing.assert_array_equal(view, before)
    assert (w.detach().numpy() != before).all()


def test_a_gradient_that_appears_where_there_was_none():
    def make(compiled):
        w = tg.tensor(ones(), requires_grad=True)

        @compiled
        def step(x):
            (w * x).sum().backward()
            return w.grad * 2

        return w, step

    results = []
    for compiled in (lambda f: f, tg.compile):
        w, step = make(compiled)
        for _ in range(4):
            w.grad = None
            step(ones())
        w.grad = 10 * ones()
        results.append((step(ones()).numpy(), w.grad.numpy()))
    np.testing.assert_array_equal(results[0], results[1])


def penalty(x, w):
    """A leaf that is made of the argument: the gradient of the loss reaches it as well."""
    x = x.detach()
    x.requires_grad = True
    (slope,) = tg.gradients([np.tanh(x * w).sum()], [x], create_graph=True)
    return ((slope * slope).sum(axis=-1) - 1) ** 2


def saliency(x, w):
    x.requires_grad = True
    loss = np.tanh(x * w).sum()
    loss.backward(retain_graph=True)
    return loss + (x.grad * 2).sum()


def copied(x, w):
    x = tg.tensor(x.detach(), requires_grad=True)
    return np.tanh(x * w)


@pytest.mark.parametrize("loss_of", [penalty, saliency, copied], ids=lambda f: f.__name__)
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_leaves_that_a_step_makes_for_itself(loss_of, backend):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(4, 3)).astype(np.float32) for _ in range(5)]
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        w = tg.tensor(ones(), requires_grad=True)
        optimizer = optim.SGD([w], lr=0.1)

        @compiled
        def step(x):
            optimizer.zero_grad()  # noqa: B023
            loss = loss_of(x, w).sum()  # noqa: B023
            loss.backward()
            optimizer.step()  # noqa: B023
            return loss

        found.append(([step(tg.tensor(x)).item() for x in inputs], w.detach().numpy()))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-4)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-4)
    assert len(step.programs) == 1


def test_a_leaf_from_outside_that_shares_memory_has_its_gradient():
    def make(compiled):
        w = tg.tensor(ones(), requires_grad=True)
        other = w.detach()
        other.requires_grad = True

        @compiled
        def step(x):
            w.grad = other.grad = None
            (w * other * x).sum().backward()

        run(step, 3 * ones())
        return w.grad.numpy(), other.grad.numpy()

    np.testing.assert_array_equal(make(tg.compile), make(lambda f: f))


def test_the_line_that_overwrote_a_value_is_the_callers():
    w, _, step = accumulating(tg.compile)
    run(step, ones() / 4)
    loss = (w * w * ones()).sum()
    step(ones() / 4)  # here
    with pytest.raises(
        RuntimeError, match=r"test_replay_state.py:\d+, in test_the_line.*: step\(ones\(\) / 4\)  # here"
    ):
        loss.backward()


@pytest.mark.parametrize("loss_of", [lambda x, w: (x * w) ** 2, penalty], ids=["overwritten", "replaced"])
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_only_the_step_itself_changes_is_not_looked_at_anew(loss_of, backend, monkeypatch):
    taken = []
    take = replay.Recorded._take
    monkeypatch.setattr(replay.Recorded, "_take", lambda self: taken.append(self) or take(self))
    w = tg.tensor(ones(), requires_grad=True)
    optimizer = optim.Adam([w], lr=0.1)

    @tg.compile(backend=backend)
    def step(x):
        optimizer.zero_grad()
        loss_of(x, w).sum().backward()
        optimizer.step()

    run(step, tg.tensor(ones(4, 3)), times=6)
    assert len(taken) == 1
    kept = w.detach().numpy()
    before = kept.copy()
    run(step, tg.tensor(ones(4, 3)))
    assert len(taken) > 1
    np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_a_product_replaces_is_not_looked_at_anew(backend, monkeypatch):
    """The product reads the old value to its end, so the new one is another array."""
    taken = []
    take = replay.Recorded._take
    monkeypatch.setattr(replay.Recorded, "_take", lambda self: taken.append(self) or take(self))
    state = nn.Buffer(np.eye(20, dtype=np.float32))
    step = tg.compile(lambda x: state.assign(state @ x) * 2, backend=backend)
    turn = np.roll(np.eye(20, dtype=np.float32), 1, axis=0)
    for i in range(1, 7):
        result = step(turn).numpy()
        np.testing.assert_array_equal(state.numpy(), np.roll(np.eye(20), i, axis=0))
        np.testing.assert_array_equal(result, 2 * state.numpy())
    assert len(taken) == 1


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_state_that_is_turned(backend):
    """It lies row by row, whatever a step makes of it."""
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        state = nn.Buffer(np.arange(9, dtype=np.float32).reshape(3, 3))
        step = compiled(lambda x: state.assign(np.roll(np.tanh(state), 1, axis=0).T * 2) * x)  # noqa: B023
        for _ in range(5):
            step(ones(3, 3))
            assert state.data.flags.carray
        found.append(state.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
