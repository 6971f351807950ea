"""Optimizers that step on native kernels have the bits of those on NumPy."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import optim

pytest.importorskip("llvmlite")
from native_slots import DTYPES, agree

from tinygrad_dl.compiler.native import eager

SHAPES = [(3, 4), (7,), (), (2,), (50, 33)]
RULES = [c for c in vars(optim).values() if isinstance(c, type) and issubclass(c, optim.Optimizer)]
RULES.remove(optim.Optimizer)
OPTIONS = {
    optim.SGD: [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.5, "averaging": True}],
    optim.Adam: [{}, {"amsgrad": True, "weight_decay": 0.1}, {"eps_inside": True, "maximize": True}],
    optim.RMSprop: [{}, {"centered": True, "momentum": 0.9}],
}


def steps(rule, dtype=np.float32, number=9, between=lambda number, optimizer: None, **options):
    """Everything that some steps leave behind."""
    rng = np.random.default_rng(0)
    params = [tg.tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in SHAPES]
    optimizer = rule(params, **options)
    for i in range(number):
        between(i, optimizer)
        for p in params:
            p.grad = tg.tensor(rng.normal(size=p.shape).astype(dtype))
        optimizer.step()
    kept = [{k: getattr(v, "data", v) for k, v in s.items()} for s in optimizer.state.values()]
    history = eager._histories.get(optimizer)
    return [p.data for p in params], kept, history is not None and history.compiled is not None


def equal(want, got, native=True):
    assert (want[2], got[2]) == (False, native)
    for a, b in zip(want[0], got[0], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    for a, b in zip(want[1], got[1], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rule", "options"), [(r, o) for r in RULES for o in OPTIONS.get(r, [{}])])
def test_an_optimizer_has_the_same_bits(slots, rule, options, dtype):
    equal(*slots.both(lambda: steps(rule, dtype, **options)))


def test_options_may_change(slots):
    def between(number, optimizer):
        optimizer.param_groups[0]["lr"] = 0.1 / (number + 1)
        optimizer.param_groups[0]["weight_decay"] = 0.1 * (number > 3)

    equal(*slots.both(lambda: steps(optim.Adam, number=8, between=between)))


def test_state_is_loaded_between(slots):
    def between(number, optimizer):
        if number == 3:
            optimizer.load_state_dict(optimizer.state_dict())

    equal(*slots.both(lambda: steps(optim.Adam, between=between)))


def test_parameters_freeze_and_miss_gradients(slots):
    def compute():
        a, b, c = (tg.tensor(np.ones(4), requires_grad=True) for _ in range(3))
        optimizer = optim.Adam([{"params": [a, b]}, {"params": [c], "lr": 0.1}])
        for i in range(8):
            for p in (a, b, c):
                p.grad = tg.tensor(np.full(4, 1.0 + i))
            if i in (2, 3):
                b.grad = None
            c.requires_grad = i < 5
            optimizer.step()
        return a.data, b.data, c.data

    want, got = slots.both(compute)
    for x, y in zip(want, got, strict=True):
        np.testing.assert_array_equal(x, y)


def test_more_parameters_than_one_program_takes(slots):
    def compute():
        params = [tg.tensor(np.full((i % 3 + 1, 5), i / 7), requires_grad=True) for i in range(40)]
        optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
        for _ in range(3):
            for p in params:
                p.grad = p.detach() * 2
            optimizer.step()
        return [p.data for p in params]

    want, got = slots.both(compute)
    for x, y in zip(want, got, strict=True):
        np.testing.assert_array_equal(x, y)


def test_what_others_see_is_not_written(slots):
    slots.on()
    p = tg.tensor(np.ones(5), requires_grad=True)
    optimizer = optim.SGD([p], lr=1.0)
    for i in range(3):
        seen = p.detach().numpy()
        p.grad = tg.tensor(np.ones(5))
        optimizer.step()
        np.testing.assert_array_equal(seen, np.full(5, 1.0 - i))
        np.testing.assert_array_equal(p.detach().numpy(), np.full(5, -float(i)))


def test_a_stale_graph_is_found(slots):
    slots.on()
    p = tg.tensor(np.ones(5), requires_grad=True)
    optimizer = optim.SGD([p])
    for _ in range(2):
        loss = (p * p).sum()
        p.grad = tg.tensor(np.ones(5))
        optimizer.step()
        with pytest.raises(RuntimeError, match="overwritten"):
            loss.backward()


def test_a_gradient_of_another_dtype(slots):
    def compute():
        p = tg.tensor(np.ones(5, np.float32), requires_grad=True)
        optimizer = optim.SGD([p], momentum=0.9)
        for dtype in (np.float32, np.float64, np.float32):
            p.grad = tg.tensor(np.full(5, 0.3, dtype))
            optimizer.step()
        return p.data

    want, got = slots.both(compute)
    agree(got, want)


def test_a_rule_of_the_users_stays(slots):
    class Mine(optim.SGD):
        calls = 0

        def update(self, p, g, state, o):
            self.calls += 1
            p -= self.calls * g

    equal(*slots.both(lambda: steps(Mine)), native=False)


def test_an_optimizer_goes_when_it_is_dropped(slots):
    slots.on()
    p = tg.tensor(np.ones(5), requires_grad=True)
    optimizer = optim.Adam([p])
    for _ in range(3):
        p.grad = tg.tensor(np.ones(5))
        optimizer.step()
    assert eager._histories[optimizer].compiled is not None
    gone = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert gone() is None
    finally:
        gc.enable()
