"""Models with one fault each, and looks of the doctor at them."""

import numpy as np
from doctor_cases import CE, chain, clouds, curve

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
