"""States of optimizers, ours and PyTorch's, and options that are refused."""

import math

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim


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
    optimizer.param_groups[0]["lr"] = np.float64(0.1)  # as np.cos leaves it: a step of float32 must not become float64
    p.grad = np.ones(2)
    optimizer.step()
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
