"""Eager operations on native kernels compute what NumPy computes; training with them."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.nn import functional as F

pytest.importorskip("llvmlite")
from native_slots import CROSS_ENTROPY, DTYPES, NORM, agree

from tinygrad_dl.compiler.native.eager import FACTOR


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
