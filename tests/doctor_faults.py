"""Looks of the doctor at models with one fault each, and at the same models without it: `CASES`."""

import numpy as np
from doctor_cases import BCE, CE, MSE, Residual, chain, clouds, curve, yes_or_no

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.insight import doctor

X, Y = clouds(0)
BATCH = X[:64], Y[:64]


def look(model, batch=BATCH, loss=CE, optimizer=None, lr=1e-3):
    return doctor(model, batch, loss, optimizer or optim.Adam(model.parameters(), lr=lr))


def trained(model, steps, batch=BATCH, loss=CE, zero_grad=True, optimizer=None):
    """The optimizer of a model that has taken some steps on a batch."""
    optimizer = optimizer or optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(steps):
        if zero_grad:
            optimizer.zero_grad()
        loss(model(tg.tensor(batch[0])), tg.tensor(batch[1])).backward()
        optimizer.step()
    return optimizer


def mlp(activation=nn.ReLU, init=None, depth=1, **options):
    return chain([20] + depth * [32] + [5], activation, init, **options)


class WrittenOutSoftmax(nn.Linear):
    def forward(self, x):
        e = np.exp(super().forward(x))
        return e / e.sum(axis=1, keepdims=True)


class WrittenOutSigmoid(nn.Linear):
    def forward(self, x):
        return 1 / (1 + np.exp(-super().forward(x)))


class ByHand(nn.Module):
    def forward(self, x):
        return np.maximum(x, 0)


class Scaled(nn.Module):
    """A model with a constant in it."""

    def __init__(self, scale):
        self.inner, self.scale = mlp(), scale

    def forward(self, x):
        return self.inner(x * self.scale)


class Loop(nn.Module):
    """Weights of columns, transposed, used three times."""

    def __init__(self):
        self.w, self.out = nn.Parameter(np.zeros((20, 20), np.float32)), nn.Linear(20, 5)

    def forward(self, x):
        for _ in range(3):
            x = np.tanh(x @ self.w.T) * np.float64(2)
        return self.out(x)


class Cut(nn.Module):
    """Two layers, and between them, if so wished, a cut."""

    def __init__(self, cut):
        self.first, self.second, self.cut = nn.Linear(20, 32), nn.Linear(32, 5), cut

    def forward(self, x):
        h = self.first(x)
        return self.second(nn.functional.relu(h.detach() if self.cut else h))


class Remembering(nn.Module):
    """Adds what it had at the step before."""

    def __init__(self, forget):
        self.layer, self.out, self.forget, self.state = nn.Linear(20, 32), nn.Linear(32, 5), forget, None

    def forward(self, x):
        h = np.tanh(self.layer(x)) if self.state is None else np.tanh(self.layer(x)) + 0.1 * self.state
        self.state = h.detach() if self.forget else h
        return self.out(h)


def remembering(forget):
    model = Remembering(forget)
    model(tg.tensor(BATCH[0]))
    return look(model)


def partly_frozen():
    model = mlp(depth=2)
    model[0].requires_grad_(False)
    return model


def with_optimizer(make, model=None):
    model = model or mlp(depth=2)
    return look(model, optimizer=make(model))


def with_weights(change, model, **options):
    """Look at a model after its first layer's weights and biases have been changed."""
    with tg.no_grad():
        change(model[0])
    return look(model, **options)


def evaluated(evaluate):
    """A model with batch norm that trains, and is evaluated after each step."""
    model = mlp(norm=True)
    optimizer = optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(3):
        trained(model, 1, optimizer=optimizer)
        if evaluate:
            model.eval()
        model(tg.tensor(X))
        model.train()
    return look(model, optimizer=optimizer)


def replaced(late):
    model = mlp()
    optimizer = None if late else optim.Adam(model.parameters())
    model[2] = nn.Linear(32, 5)
    return look(model, optimizer=optimizer or optim.Adam(model.parameters()))


def twice_backward():
    """Before the first step."""
    model = mlp()
    for _ in range(2):
        CE(model(tg.tensor(BATCH[0])), tg.tensor(BATCH[1])).backward()
    return look(model)


def zeroed_in_place(model):
    optimizer = trained(model, 1)
    for _ in range(3):
        for p in model.parameters():
            p.grad *= 0
        trained(model, 1, zero_grad=False, optimizer=optimizer)
    return optimizer


def added_between_steps(model, optimizer):
    """As a generator's loss adds to the gradients of the discriminator after its step, before they are cleared."""
    for _ in range(2):
        trained(model, 1, optimizer=optimizer)
        CE(model(tg.tensor(BATCH[0])), tg.tensor(BATCH[1])).backward()
    return optimizer


def frozen_norm():
    """A pretrained batch norm that is kept as it is."""
    model = mlp(norm=True)
    model[1].requires_grad_(False).eval()
    return look(model)


def column():
    """Targets without the axis that the outputs have."""
    x, y = curve(0, 64)
    return x, y[:, 0].astype(np.float32)


def sgd(**options):
    return lambda model: optim.SGD(model.parameters(), **options)


def small(n):
    return X[:n], Y[:n]


def in_one(layer):
    layer.weight.assign(np.broadcast_to(layer.weight.data[:1], layer.weight.shape))


def asleep(layer):
    layer.bias.assign(np.where(np.arange(32) < 20, -50.0, 0.0))


def saturated(slope):
    """Large weights in a model that has taken a step, so that they are no longer judged as initial ones."""
    model = mlp(nn.Tanh, "xavier_normal")
    optimizer = trained(model, 1)
    model[0].weight.assign(model[0].weight.data * slope)
    return look(model, optimizer=optimizer)


def deep(activation, init, depth=12):
    return look(mlp(activation, init, depth))


def gain(value):
    return lambda weight: nn.init.variance_scaling_(weight, value)


def linear_chain(value):
    """No activation, so no initial values that suit it; every layer multiplies by about √value."""
    return look(mlp(nn.Identity, gain(value), 12))


def nan(model):
    model[0].weight.assign(np.full(model[0].weight.shape, np.nan))
    return look(model)


# fault: looks at which it is found, and looks at which it is not
CASES = {
    "not finite": (
        [lambda: nan(mlp()), lambda: look(mlp(), (np.full_like(X[:64], np.inf), Y[:64]))],
        [lambda: look(mlp())],
    ),
    "graph of an earlier step": (
        [lambda: remembering(False)],
        [lambda: remembering(True), lambda: look(mlp(), (mlp()[0](tg.tensor(X[:64]))[:, :20], Y[:64]))],
    ),
    "softmax before cross-entropy": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax())),
            lambda: look(WrittenOutSoftmax(20, 5)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax()), loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
        ],
        [
            lambda: look(nn.Linear(20, 5)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.LogSoftmax()), loss=nn.NLLLoss()),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.ReLU())),
        ],
    ),
    "activation before cross-entropy": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.ReLU())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), ByHand())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Sigmoid())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Tanh(), nn.LogSoftmax()), loss=nn.NLLLoss()),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax(axis=0))),
        ],
        [
            lambda: look(nn.Linear(20, 5)),
            lambda: look(mlp(nn.Sigmoid)),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Softmax())),  # has a name of its own
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.LeakyReLU())),
            lambda: look(nn.Sequential(nn.Linear(20, 5), nn.Tanh()), loss=lambda z, y: CE(20 * z, y)),  # soft-capped
            lambda: look(nn.Sequential(nn.Linear(3, 1), nn.ReLU()), curve(0), MSE),
        ],
    ),
    "outputs broadcast against targets": (
        [
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: ((o - t) ** 2).mean()),
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.abs(t - o).mean()),
            lambda: look(nn.Linear(3, 1), curve(0, 64), lambda o, t: np.square(o[:, 0] - t).mean()),
        ],
        [
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.square(o - t[:, None]).mean()),
            lambda: look(nn.Linear(3, 1), curve(0, 64), lambda o, t: np.square(o - t).mean()),
            lambda: look(nn.Linear(3, 1), column(), lambda o, t: np.square(o - o.T - (t[:, None] - t)).mean()),
            lambda: look(nn.Linear(3, 3), (curve(0, 3)[0], np.ones((3, 3))), lambda o, t: np.square(o - t).mean()),
        ],
    ),
    "sigmoid before the with-logits loss": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()), yes_or_no(0), BCE),
            lambda: look(WrittenOutSigmoid(20, 1), yes_or_no(0), BCE),
        ],
        [
            lambda: look(nn.Linear(20, 1), yes_or_no(0), BCE),
            lambda: look(nn.Sequential(nn.Linear(20, 1), nn.Sigmoid()), yes_or_no(0), MSE),
        ],
    ),
    "bias before batch norm": (
        [lambda: look(nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5)))],
        [
            lambda: look(mlp(norm=True)),
            lambda: look(nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 5))),
        ],
    ),
    "dropout before batch norm": (
        [
            lambda: look(nn.Sequential(nn.Linear(20, 32), nn.Dropout(0.2), nn.BatchNorm1d(32), nn.Linear(32, 5))),
            lambda: look(nn.Sequential(nn.Linear(20, 20), nn.Dropout(0.5), nn.ReLU(), mlp(norm=True))),
        ],
        [lambda: look(mlp(norm=True, drop=0.5)), lambda: look(mlp(drop=0.5))],
    ),
    "float64 leaking in": (
        [
            lambda: look(mlp(), (X[:64].astype(np.float64), Y[:64])),
            lambda: look(Scaled(np.sqrt(0.5))),
            lambda: look(nn.Linear(3, 1), [a.astype(t) for a, t in zip(curve(0), "fd", strict=True)], MSE),
        ],
        [
            lambda: look(Scaled(0.5)),
            lambda: look(mlp().astype(np.float64), (X[:64].astype(np.float64), Y[:64])),
        ],
    ),
    "evaluation mode": (
        [lambda: look(mlp(norm=True).eval()), lambda: look(mlp(drop=0.5).eval())],
        [lambda: look(mlp(norm=True, drop=0.5)), lambda: look(mlp().eval()), frozen_norm],
    ),
    "evaluated in training mode": ([lambda: evaluated(False)], [lambda: evaluated(True)]),
    "parameters without gradient": (
        [lambda: look(Cut(True)), lambda: look(nn.Linear(20, 5), loss=lambda z, y: CE(z.detach(), y))],
        [lambda: look(Cut(False)), lambda: look(Cut(True).requires_grad_(False))],
    ),
    "nothing to learn": (
        [lambda: look(mlp().requires_grad_(False))],
        [lambda: look(mlp()), lambda: look(partly_frozen())],
    ),
    "parameters not in the optimizer": (
        [lambda: with_optimizer(lambda m: optim.Adam(m[0].parameters())), lambda: replaced(False)],
        [lambda: with_optimizer(lambda m: optim.Adam(optim.decay_groups(m, 0.1))), lambda: replaced(True)],
    ),
    "other parameters in the optimizer": (
        [lambda: replaced(False), lambda: with_optimizer(lambda m: optim.Adam(mlp().parameters()))],
        [lambda: replaced(True)],
    ),
    "gradients accumulated": (
        [
            lambda: with_optimizer(lambda m: trained(m, 30, zero_grad=False, optimizer=sgd(lr=1e-3)(m))),
            lambda: with_optimizer(lambda m: trained(m, 4, zero_grad=False)),
            twice_backward,
        ],
        [
            lambda: with_optimizer(lambda m: trained(m, 30)),
            lambda: with_optimizer(zeroed_in_place),
            lambda: with_optimizer(lambda m: added_between_steps(m, trained(m, 3))),
        ],
    ),
    "batch norm on a tiny batch": (
        [lambda: look(mlp(norm=True), small(4))],
        [lambda: look(mlp(norm=True), small(16)), lambda: look(mlp(), small(4))],
    ),
    "unscaled inputs": (
        [
            lambda: look(mlp(), (X[:64] * 100, Y[:64])),
            lambda: look(mlp(), (X[:64] / 1000, Y[:64])),
            lambda: look(mlp(), (X[:64] * np.where(np.arange(20) == 3, 500, 1).astype(np.float32), Y[:64])),
            lambda: look(mlp(), (1 + X[:64] / 100, Y[:64])),
        ],
        [
            lambda: look(Scaled(0.01), (X[:64] * 100, Y[:64])),
            lambda: look(mlp(), ((X[:64] > 0).astype("f"), Y[:64])),
            lambda: look(nn.Linear(20_000, 5), (np.eye(64, 20_000, dtype=np.float32), Y[:64])),
        ],
    ),
    "identical units": (
        [
            lambda: look(mlp(init="zeros")),
            lambda: look(mlp(nn.Tanh, init=lambda w: nn.init.constant_(w, 0.1))),
        ],
        [
            lambda: look(nn.Linear(20, 5, init="zeros")),
            lambda: look(nn.Sequential(nn.Linear(20, 32), Residual(32, "zeros"), nn.Linear(32, 5))),
            lambda: with_weights(in_one, mlp()),  # the output layer's weights tell them apart
        ],
    ),
    "unsuited initial weights": (
        [
            lambda: look(mlp(nn.Tanh, "normal")),
            lambda: look(mlp(nn.ReLU, "fan_in_uniform", 3)),
            lambda: look(mlp(nn.SELU, gain(6.0), 3)),
            lambda: look(mlp(nn.LeakyReLU, gain(0.05))),
            lambda: look(mlp(ByHand, gain(0.05))),
        ],
        [
            lambda: look(mlp(nn.ReLU, "xavier_normal")),
            lambda: look(mlp(nn.Tanh, "xavier_uniform", 3)),
            lambda: look(mlp(nn.SELU, "lecun_normal", 3)),
            lambda: look(mlp(nn.ReLU, "normal", norm=True)),
            lambda: look(nn.init.lsuv_(mlp(depth=3), X)),
            lambda: saturated(30),
        ],
    ),
    "dead units": (
        [lambda: with_weights(asleep, mlp()), lambda: with_weights(asleep, mlp(ByHand))],
        [lambda: look(mlp()), lambda: with_weights(asleep, mlp(nn.LeakyReLU))],
    ),
    "saturated units": ([lambda: saturated(30)], [lambda: saturated(1)]),
    "activations explode": ([lambda: linear_chain(9)], [lambda: linear_chain(1)]),
    "activations vanish": ([lambda: linear_chain(0.1)], [lambda: linear_chain(1)]),
    "gradients explode": ([lambda: linear_chain(9)], [lambda: linear_chain(1)]),
    "gradients vanish": (
        [lambda: deep(nn.Sigmoid, "xavier_normal")],
        [lambda: deep(nn.Tanh, "xavier_normal"), lambda: deep(nn.Sigmoid, "xavier_normal", 2)],
    ),
    "learning rate beyond the curvature": (
        [lambda: with_optimizer(sgd(lr=50.0)), lambda: with_optimizer(sgd(lr=50.0, momentum=0.9, nesterov=True))],
        [lambda: with_optimizer(sgd(lr=0.1)), lambda: with_optimizer(sgd(lr=0.1, momentum=0.9, averaging=True))],
    ),
    "updates too large": ([lambda: look(mlp(), lr=0.5)], [lambda: look(mlp(), lr=3e-3)]),
    "updates too small": (
        [lambda: look(mlp(), lr=1e-9), lambda: with_optimizer(sgd(lr=0.0))],
        [lambda: look(mlp(), lr=1e-4)],
    ),
}  # fmt: skip
