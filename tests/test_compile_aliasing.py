"""Tensors that share memory, and so look alike to a step that is being compiled, are told apart by its later runs."""

import copy

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

BACKENDS = ["interpreter", "numpy", "native"]
NUMBERS = [1.0, 2.0, 3.0, -1.0, 0.5]


def both(make, backend):
    """What some steps return and leave behind, eager and compiled."""
    found = []
    for compiled in (lambda f: f, tg.compile(backend=backend)):
        step, state = make(compiled)
        results = [step(tg.tensor(np.full(3, x))).item() for x in NUMBERS]
        found.append((results, [t.detach().numpy().copy() for t in state]))
    return found


def anchored(compiled):
    """The distance to where a weight was at first."""
    w = nn.Parameter(np.ones(3))
    anchor, optimizer = w.detach(), optim.SGD([w], lr=0.1)

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum() + np.square(w - anchor).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step, [w, anchor]


def twins(compiled):
    """Two leaves of one value, trained apart."""
    w = tg.tensor(np.ones(3), requires_grad=True)
    twin = w.detach()
    twin.requires_grad = True
    return trained(compiled, w, twin)


def copies(compiled):
    w = nn.Parameter(np.ones(3))
    return trained(compiled, w, copy.copy(w))


def trained(compiled, w, twin):
    slow, fast = optim.Adam([w], lr=0.01), optim.SGD([twin], lr=0.1, momentum=0.9)

    @compiled
    def step(x):
        slow.zero_grad()
        fast.zero_grad()
        loss = (w * x).sum() + (twin * x * x).sum() + (w * twin).sum()
        loss.backward()
        slow.step()
        fast.step()
        return loss

    return step, [w, twin]


def followed(compiled):
    """A buffer that follows a weight, begun as a tensor that shares its memory; and one that nobody changes."""
    w = nn.Parameter(np.ones(3))
    before, mean = w.detach(), nn.Buffer(w.detach())

    @compiled
    def step(x):
        with tg.no_grad():
            mean.assign(0.9 * mean + 0.1 * w)
            w.assign(w * x + before)
            return (w - mean).sum()

    return step, [w, before, mean]


class Tied(optim.Optimizer):
    """Descent that is drawn back to where it began."""

    elementwise = True

    def init_state(self, p, group):
        return {"start": p.detach()}

    def update(self, p, g, state, o):
        p -= o["lr"] * (g + (p - state["start"]))


def drawn_back(compiled):
    """The optimizer keeps the start, which it takes in the first step."""
    w = nn.Parameter(np.ones(3))
    optimizer = Tied([w], {"lr": 0.1})

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = np.square(w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step, [w]


def modules(compiled):
    """A network, and what it was: the state dict that is kept of it."""
    tg.seed(0)
    net = nn.Linear(3, 3, dtype=np.float64)
    kept, optimizer = net.state_dict(), optim.SGD(net.parameters(), lr=0.1)

    @compiled
    def step(x):
        optimizer.zero_grad()
        loss = np.square(net(x) - nn.functional_call(net, kept, x)).sum() + net(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step, list(net.parameters())


def gradients(compiled):
    """Of two parameters, the same tensor at first; a weight's is the weight itself."""
    parameters = [nn.Parameter(np.ones(3)) for _ in range(3)]
    optimizer = optim.SGD(parameters, lr=0.1)
    for p in parameters[:2]:
        p.grad = tg.tensor(np.full(3, 2.0)) if p is parameters[0] else parameters[0].grad
    parameters[2].grad = parameters[2].detach()

    @compiled
    def update():
        optimizer.step()

    def step(x):
        update()
        for number, p in enumerate(parameters):
            p.grad = x * number
        return sum(p.sum() for p in parameters).detach()

    return step, parameters


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "make", [anchored, twins, copies, followed, drawn_back, modules, gradients], ids=lambda f: f.__name__
)
def test_tensors_that_share_memory_go_their_own_ways(make, backend):
    (want, expected), (got, state) = both(make, backend)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    for a, b in zip(state, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_detach_copies_nothing():
    w = tg.tensor(np.ones(3), requires_grad=True)
    assert np.shares_memory(w.detach().numpy(), w.data)


@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_a_gradient_that_is_an_argument_is_a_copy_of_it(backend):
    w, x = tg.tensor(np.ones(3), requires_grad=True), np.ones(3)

    @tg.compile(backend=backend)
    def step(g):
        w.grad = g

    for _ in range(3):
        step(x)
        x[...] = 99
        np.testing.assert_array_equal(w.grad.numpy(), np.ones(3))
        x[...] = 1
