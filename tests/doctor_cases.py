"""Models that are well, each with a loss, an optimizer and batches, as people write them."""

from itertools import pairwise

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim

CE, BCE, MSE = nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()


def clouds(seed, n=256, features=20, classes=5):
    """Normalised points around the centres of classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    x = rng.normal(size=(classes, features))[y] + rng.normal(size=(n, features))
    return (x / x.std(0)).astype(np.float32), y


def images(seed, n=128):
    """Like MNIST's: most of 784 pixels dark, the others up to 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(10, size=n)
    x = np.clip(rng.normal(size=(10, 784))[y] + 0.5 * rng.normal(size=(n, 784)) - 0.8, 0, 1)
    return x.astype(np.float32), y


def curve(seed, n=256):
    """A smooth function of three variables."""
    x = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return x, np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:]


def yes_or_no(seed):
    x, y = clouds(seed, classes=2)
    return x, y[:, None].astype(np.float32)


class Residual(nn.Module):
    """x + W₂ relu(W₁ x); W₂ begins at zero, if so wished."""

    def __init__(self, width, init=None):
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width, init=init)

    def forward(self, x):
        return x + self.second(nn.functional.relu(self.first(x)))


class Recurrent(nn.Module):
    """One tanh layer over the 20 features in five steps of four."""

    def __init__(self):
        self.inner, self.outer = nn.Linear(4 + 16, 16, init="xavier_normal"), nn.Linear(16, 5)

    def forward(self, x):
        h = tg.tensor(np.zeros((len(x), 16), np.float32))
        for t in range(5):
            h = np.tanh(self.inner(np.concatenate([x[:, 4 * t : 4 * t + 4], h], axis=1)))
        return self.outer(h)


class ByHand(nn.Module):
    """Parameters and NumPy only."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.w = nn.Parameter((rng.normal(size=(20, 32)) * np.sqrt(2 / 20)).astype(np.float32))
        self.b, self.c = nn.Parameter(np.zeros(32, np.float32)), nn.Parameter(np.zeros(5, np.float32))
        self.v = nn.Parameter((rng.normal(size=(32, 5)) * np.sqrt(1 / 32)).astype(np.float32))

    def forward(self, x):
        return np.maximum(x @ self.w + self.b, 0) @ self.v + self.c


def chain(widths, activation, init=None, norm=False, drop=0.0):
    """Linear layers with an activation between them."""
    parts = []
    for a, b in pairwise(widths[:-1]):
        parts += [nn.Linear(a, b, bias=not norm, init=init), *([nn.BatchNorm1d(b)] if norm else []), activation()]
    return nn.Sequential(*parts, *([nn.Dropout(drop)] if drop else []), nn.Linear(*widths[-2:], init=init))


def case(data_, model, loss, optimizer, **options):
    """A function of a seed that gives model, loss, optimizer and batches."""

    def build(seed, batch_size=64):
        net = model()
        batches = list(data.Loader(*data_(seed), batch_size=batch_size, shuffle=True, seed=seed))
        return net, loss, optimizer(net.parameters(), **options), batches

    return build


HEALTHY = {
    "images, ReLU": case(images, lambda: chain([784, 64, 32, 10], nn.ReLU), CE, optim.Adam, lr=1e-3),
    "images, SGD": case(images, lambda: chain([784, 64, 10], nn.ReLU), CE, optim.SGD, lr=0.05, momentum=0.9),
    "batch norm": case(clouds, lambda: chain([20, 64, 64, 5], nn.ReLU, norm=True), CE, optim.Adam, lr=3e-3),
    "batch norm, dropout": case(clouds, lambda: chain([20, 64, 64, 5], nn.ReLU, norm=True, drop=0.5), CE, optim.AdamW),
    "dropout": case(clouds, lambda: chain([20, 64, 5], nn.ReLU, drop=0.5), CE, optim.SGD, lr=0.1),
    "tanh": case(clouds, lambda: chain([20, 32, 32, 5], nn.Tanh, "xavier_normal"), CE, optim.Adam, lr=1e-3),
    "deep tanh": case(clouds, lambda: chain([20] + 6 * [32] + [5], nn.Tanh, "xavier_uniform"), CE, optim.RMSprop,
                      lr=1e-3),
    "deep ReLU": case(clouds, lambda: chain([20] + 10 * [64] + [5], nn.ReLU), CE, optim.Adam, lr=1e-3),
    "SELU": case(clouds, lambda: chain([20] + 6 * [64] + [5], nn.SELU, "lecun_normal"), CE, optim.Adam, lr=1e-3),
    "leaky ReLU": case(clouds, lambda: chain([20, 64, 64, 5], nn.LeakyReLU), CE, optim.SGD, lr=0.05, momentum=0.9),
    "GELU": case(clouds, lambda: chain([20, 64, 64, 5], nn.GELU), CE, optim.AdamW, lr=1e-3),
    "sigmoid": case(clouds, lambda: chain([20, 32, 5], nn.Sigmoid, "xavier_normal"), CE, optim.Adam, lr=1e-2),
    "regression": case(curve, lambda: chain([3, 32, 32, 1], nn.Tanh, "xavier_normal"), MSE, optim.Adam, lr=3e-3),
    "linear regression": case(curve, lambda: nn.Linear(3, 1), MSE, optim.SGD, lr=0.1),
    "logistic regression": case(yes_or_no, lambda: nn.Linear(20, 1, init="zeros"), BCE, optim.SGD, lr=0.1),
    "softmax regression": case(clouds, lambda: nn.Linear(20, 5, init="zeros"), CE, optim.SGD, lr=0.1),
    "residual": case(clouds, lambda: nn.Sequential(nn.Linear(20, 32), Residual(32), Residual(32), nn.Linear(32, 5)),
                     CE, optim.Adam, lr=1e-3),
    "residual from zero": case(clouds, lambda: nn.Sequential(nn.Linear(20, 32), *(Residual(32, "zeros") for _ in "123"),
                               nn.Linear(32, 5)), CE, optim.Adam, lr=1e-3),
    "recurrent": case(clouds, Recurrent, CE, optim.Adam, lr=3e-3),
    "by hand": case(clouds, ByHand, CE, optim.SGD, lr=0.1),
}  # fmt: skip
