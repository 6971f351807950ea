"""Eager training on native kernels computes what NumPy computes."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.nn import functional as F

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import eager
from tinygrad_dl.compiler.native.eager import FACTOR, WORTH, Pair

NORM, SOFTMAX, LOG_SOFTMAX, CROSS_ENTROPY, DROPOUT = (
    next(op for op in WORTH if op.name == name)
    for name in ("batch_norm", "softmax", "log_softmax", "cross_entropy", "dropout")
)
DTYPES = [np.float32, np.float64]
BOUND = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-14}
RULES = [c for c in vars(optim).values() if isinstance(c, type) and issubclass(c, optim.Optimizer)]
RULES.remove(optim.Optimizer)


def raw(op):
    """NumPy's pair, whatever stands in its place."""
    pair = getattr(op.forward, "__self__", None)
    return (pair.numpy_forward, pair.numpy_backward) if isinstance(pair, Pair) else (op.forward, op.backward)


class Slots:
    """Native kernels or NumPy, as a test wants it."""

    def __init__(self, monkeypatch):
        self.patch = monkeypatch
        self.off()
        self.pairs = {op: Pair(op, lambda *arrays, **static: True) for op in WORTH}

    def off(self):
        for op in WORTH:
            for name, function in zip(("forward", "backward"), raw(op), strict=True):
                self.patch.setattr(op, name, function)
        self.patch.setattr(optim.Optimizer, "native", None)

    def on(self):
        for op, pair in self.pairs.items():
            self.patch.setattr(op, "forward", pair.forward)
            self.patch.setattr(op, "backward", pair.backward)
        self.patch.setattr(optim.Optimizer, "native", staticmethod(eager.step))

    def both(self, compute):
        """What NumPy gives, and what the kernels do."""
        self.off()
        want = compute()
        self.on()
        compute()  # the first call of some is NumPy's all the same
        return want, compute()


@pytest.fixture
def slots(monkeypatch):
    """Everything is compiled after its first call."""
    for name in ("PAIR_COMPILED", "STEP_COMPILED", "STEP_WORTH", "LEAST", "LARGE"):
        monkeypatch.setattr(eager, name, 0)
    return Slots(monkeypatch)


def agree(got, want, bound=None):
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got[np.isinf(want)], want[np.isinf(want)])
    finite = np.isfinite(want)
    exact = want[finite].astype(np.float64)
    bound = BOUND.get(want.dtype, 0) if bound is None else bound
    assert np.linalg.norm(got[finite] - exact) <= bound * np.linalg.norm(exact)


def used(slots, op):
    """Was a kernel made, forward and, if there is one, backward?"""
    kernels = [*slots.pairs[op].kernels.values()]
    return kernels and all(k.backwards or op in FACTOR for k in kernels)


def norm(x, *parameters):
    return F.batch_norm(x, None, None, *parameters, training=True)


def softmaxes(x):
    return F.softmax(x, axis=0) * F.softmax(x)


def cross_entropy(x, labels):
    return F.cross_entropy(x, labels, ignore_index=2)


CASES = {
    "batch_norm": (norm, [(16, 5), (5,), (5,)]),
    "batch_norm without parameters": (norm, [(16, 5)]),
    "batch_norm of images": (norm, [(4, 3, 5, 2), (3,), (3,)]),
    "dropout": (lambda x: F.dropout(x, 0.3, rng=3), [(6, 7)]),
    "dropout at test time's scale": (lambda x: F.dropout(x, 0.3, scale="test", rng=3), [(6, 7)]),
    "softmax": (softmaxes, [(6, 7)]),
    "softmax of one axis": (F.softmax, [(9,)]),
    "log_softmax": (F.log_softmax, [(2, 6, 7)]),
    "cross_entropy": (cross_entropy, [(9, 4), "labels"]),
}


def inputs(shapes, dtype, special=()):
    """Normal numbers, the first of the first array replaced."""
    rng = np.random.default_rng(0)
    arrays = [np.arange(9) % 4 if shape == "labels" else rng.normal(size=shape).astype(dtype) for shape in shapes]
    arrays[0].reshape(-1)[: len(special)] = special
    return [tg.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


def values_and_gradients(function, tensors):
    y = function(*tensors)
    seed = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    y.backward(tg.tensor(seed))
    return [y.data, *(t.grad.data for t in tensors if t.requires_grad)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(slots, case, dtype):
    function, shapes = CASES[case]
    want, got = slots.both(lambda: values_and_gradients(function, inputs(shapes, dtype)))
    for a, b in zip(got, want, strict=True):
        agree(a, b)
    assert any(used(slots, op) for op in slots.pairs)


@pytest.mark.parametrize("special", [(np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf, np.nan), (1e30, -1e30)])
@pytest.mark.parametrize("case", CASES)
def test_no_number_and_infinity(slots, case, special):
    function, shapes = CASES[case]
    with np.errstate(all="ignore"):
        want, got = slots.both(lambda: values_and_gradients(function, inputs(shapes, np.float32, special)))
    for a, b in zip(got, want, strict=True):
        agree(a, b)


def test_dropout_has_the_same_bits(slots):
    want, got = slots.both(lambda: values_and_gradients(CASES["dropout"][0], inputs([(33, 17)], np.float32)))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert 0 < np.count_nonzero(want[0] == 0) < want[0].size / 2


@pytest.mark.parametrize("needs", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
@pytest.mark.parametrize("asked", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_only_some_gradients(slots, needs, asked):
    def compute():
        tensors = inputs([(8, 3), (3,), (3,)], np.float64)
        for t, need in zip(tensors, needs, strict=True):
            t.requires_grad = bool(need)
        outputs = NORM(*tensors, eps=1e-5)
        chosen = [(np.sin(y) * y).sum() for y, ask in zip(outputs, asked, strict=True) if ask and y.requires_grad]
        if chosen:
            sum(chosen[1:], start=chosen[0]).backward()
        return [None if t.grad is None else t.grad.data for t in tensors]

    want, got = slots.both(compute)
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_results_own_their_memory(slots):
    """What a call gave is still there after the next calls, and so is what it keeps for its backward."""
    slots.on()
    x, z = inputs([(6, 7), (6, 7)], np.float32)
    F.softmax(z)
    first = F.softmax(x)
    before = first.detach().numpy().copy()
    F.softmax(z).sum().backward()
    (F.softmax(z) * z).sum().backward()
    np.testing.assert_array_equal(first.detach().numpy(), before)
    (first * z.detach()).sum().backward()
    slots.off()
    again = tg.tensor(x.detach().numpy(), requires_grad=True)
    (F.softmax(again) * z.detach()).sum().backward()
    agree(x.grad.data, again.grad.data)


def test_backward_twice(slots):
    def compute():
        (x,) = inputs([(6, 7)], np.float64)
        y = (F.softmax(x) ** 2).sum()
        y.backward(retain_graph=True)
        y.backward()
        return x.grad.data

    want, got = slots.both(compute)
    agree(got, want)


def test_second_derivatives_use_the_meaning(slots):
    def compute():
        (x,) = inputs([(4, 3)], np.float64)
        (g,) = tg.gradients((F.softmax(x) ** 3).sum(), [x], create_graph=True)
        (g * g).sum().backward()
        return x.grad.data

    want, got = slots.both(compute)
    agree(got, want)


def test_layouts(slots):
    def compute():
        x = tg.tensor(np.random.default_rng(0).normal(size=(7, 12)), requires_grad=True)
        y = F.log_softmax(x.T[::2])
        y.sum().backward()  # a gradient that is broadcast
        return [y.data, x.grad.data]

    want, got = slots.both(compute)
    agree(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], atol=1e-14)


@pytest.mark.parametrize(
    ("labels", "error"), [([0, 1, 9], ValueError), ([0.0, 1.0, 2.0], ValueError), ([0], ValueError)]
)
def test_errors_are_the_same(slots, labels, error):
    slots.on()
    logits = tg.tensor(np.ones((3, 4)), requires_grad=True)
    for _ in range(2):
        F.cross_entropy(logits, np.array([0, 1, 2])).backward()
    assert used(slots, CROSS_ENTROPY)
    messages = []
    for switch in (slots.off, slots.on):
        switch()
        with pytest.raises(error) as caught:
            F.cross_entropy(logits, np.array(labels))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_all_labels_ignored(slots):
    with np.errstate(all="ignore"):
        want, got = slots.both(lambda: F.cross_entropy(tg.tensor(np.ones((3, 4))), np.full(3, -100)).item())
    assert math.isnan(want)
    assert math.isnan(got)


# optimizers

SHAPES = [(3, 4), (7,), (), (2,), (50, 33)]
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


# all together


def model(dtype=np.float32):
    tg.seed(0)
    layers = [nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4)]
    rng = np.random.default_rng(0)
    x = tg.tensor(rng.normal(size=(32, 12)).astype(np.float32))
    y = tg.tensor(rng.integers(0, 4, 32))
    return nn.Sequential(*layers), x, y


def train(number, wrap=lambda step: step):
    net, x, y = model()
    optimizer = optim.Adam(net.parameters(), lr=0.01)

    @wrap
    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step().item() for _ in range(number)]
    return losses, {name: value.numpy() for name, value in net.state_dict().items()}


def test_training(slots):
    want, got = slots.both(lambda: train(20))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    assert want[0][-1] < 0.7 * want[0][0]
    for name, value in want[1].items():
        agree(got[1][name], value, 1e-5)
    assert used(slots, NORM)


def test_a_compiled_step_is_recorded_as_ever(slots):
    want, got = slots.both(lambda: train(5, tg.compile))
    assert want[0] == got[0]


def test_threads(slots):
    x = np.random.default_rng(0).normal(size=(8, 40, 30))
    want = [values_and_gradients(F.softmax, [tg.tensor(a, requires_grad=True)]) for a in x]
    slots.on()
    wrong = []

    def work(i):
        for _ in range(30):
            got = values_and_gradients(F.softmax, [tg.tensor(x[i], requires_grad=True)])
            wrong.extend(1 for a, b in zip(got, want[i], strict=True) if not np.allclose(a, b, rtol=1e-12, atol=1e-14))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(x))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# when


def test_what_does_not_repeat_is_not_compiled(monkeypatch):
    slots = Slots(monkeypatch)
    monkeypatch.setattr(eager, "PAIR_COMPILED", 5 * (600 + eager.PAIR_CALLS))
    slots.on()
    pair = slots.pairs[DROPOUT]
    x = tg.tensor(np.ones((20, 30)))
    for number in range(1, 8):
        F.dropout(x, 0.5)
        F.dropout(tg.tensor(np.ones((number, 100))), 0.5)
        assert len(pair.kernels) == (number >= 5)


def test_a_run_gives_the_same_bits_again(monkeypatch):
    """What differs from NumPy in last bits is native from the first call on, or never."""
    slots = Slots(monkeypatch)
    slots.on()
    for rows, kernels in ((16, 0), (256, 1)):
        x = np.random.default_rng(0).normal(size=(rows, 64))
        first = F.log_softmax(tg.tensor(x)).numpy()
        assert len(slots.pairs[LOG_SOFTMAX].kernels) == kernels
        for _ in range(3):
            np.testing.assert_array_equal(F.log_softmax(tg.tensor(x)).numpy(), first)


def test_small_and_large_arrays_and_other_dtypes_stay(slots, monkeypatch):
    monkeypatch.setattr(eager, "LEAST", 100)
    monkeypatch.setattr(eager, "MOST", 200)
    slots.on()
    for x in (np.ones(99, np.float32), np.ones(201, np.float32), np.ones(150, np.float16)):
        F.softmax(tg.tensor(x))
    assert not slots.pairs[SOFTMAX].kernels
    F.softmax(tg.tensor(np.ones(150, np.float32)))
    assert len(slots.pairs[SOFTMAX].kernels) == 1


def test_what_takes_longer_stays(slots):
    slots.pairs = {op: Pair(op, worth) for op, worth in WORTH.items()}
    slots.on()
    for _ in range(2):
        F.batch_norm(tg.tensor(np.ones((2, 3, 4))), None, None)
        F.log_softmax(tg.tensor(np.ones((3, 4))), axis=0)
        F.cross_entropy(tg.tensor(np.ones((3, 4))), np.array([0, 1, 2]))
    assert not any(pair.kernels for pair in slots.pairs.values())
    F.batch_norm(tg.tensor(np.ones((3, 4))), None, None)
    F.log_softmax(tg.tensor(np.ones((3, 4))))
    F.cross_entropy(tg.tensor(np.ones((128, 4))), np.zeros(128, int))
    assert all(slots.pairs[op].kernels for op in (NORM, LOG_SOFTMAX, CROSS_ENTROPY))


def test_signatures_have_a_limit(slots, monkeypatch):
    monkeypatch.setattr(eager, "SIGNATURES", 2)
    slots.on()
    for n in range(2, 6):
        F.log_softmax(tg.tensor(np.ones(n)))
    assert len(slots.pairs[LOG_SOFTMAX].kernels) == 2


@pytest.mark.parametrize("missing", [False, True])
def test_switched_off(monkeypatch, missing):
    Slots(monkeypatch)
    if missing:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    else:
        monkeypatch.setenv("TINYGRAD_DL_NATIVE", "0")
    before = [op.forward for op in WORTH]
    eager.install()
    assert optim.Optimizer.native is None
    assert [op.forward for op in WORTH] == before


def test_a_machine_without_code_generation(slots, monkeypatch):
    """NumPy goes on, with one warning for each operation."""

    def refuse(program):
        raise OSError("no memory may be made executable")

    monkeypatch.setattr("tinygrad_dl.compiler.native.backend.build", refuse)
    slots.on()
    x = tg.tensor(np.ones((3, 4)))
    with pytest.warns(RuntimeWarning, match=r"softmax runs as NumPy.*executable"):
        y = F.softmax(x)
    np.testing.assert_array_equal(y.numpy(), np.full((3, 4), 0.25))
    F.softmax(x)
    p = tg.tensor(np.ones(5), requires_grad=True)
    p.grad = tg.tensor(np.ones(5))
    optimizer = optim.SGD([p], lr=1.0)
    with pytest.warns(RuntimeWarning, match=r"SGD.step runs as NumPy"):
        optimizer.step()
    optimizer.step()
    np.testing.assert_array_equal(p.detach().numpy(), np.full(5, -1.0))
