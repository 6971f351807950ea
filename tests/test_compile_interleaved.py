"""Programs that share state, in random turn with eager steps, loads, changes of mode and views that are kept."""

import functools

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, optim

F = nn.functional


def network():
    layers = nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.2), nn.Linear(9, 3)
    return nn.Sequential(*layers).astype(np.float64)


class World:
    """A model, an average of it, two optimizers, and what may happen to them; `results` are what came out."""

    def __init__(self, compiled, seed):
        tg.seed(seed)
        self.rng = np.random.default_rng(seed)
        self.model, self.average = network(), network()
        self.first = optim.Adam(self.model.parameters(), lr=1e-2)
        self.second = optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.results, self.kept = [], []
        model, average, first, second = self.model, self.average, self.first, self.second

        def train(x, y):
            first.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            first.step()
            return loss

        def train_otherwise(x, y):
            loss = F.cross_entropy(model(x), y) + 1e-3 * sum((p * p).sum() for p in model.parameters())
            loss.backward()
            second.step()
            second.zero_grad()
            return loss

        def gradient(x, y):
            first.zero_grad()
            F.cross_entropy(model(x), y).backward()
            return sum((p.grad * p.grad).sum() for p in model.parameters())

        def follow(x, y):
            for a, b in zip(average.parameters(), model.parameters(), strict=True):
                a.assign(0.9 * a.detach() + 0.1 * b.detach())
            return average(x).sum()

        def predict(x, y):
            return model(x).sum()

        self.eager = train
        self.programs = [compiled(f) for f in (train, train_otherwise, gradient, follow, predict)]

    def turn(self):
        x, y = self.rng.normal(size=(6, 5)), self.rng.integers(0, 3, 6)
        match self.rng.integers(0, 40):
            case 5:
                self.model.train(not self.model.training)
            case 6:
                self.keep(self.model[0].weight.detach().numpy())
            case 7 if self.model[0].weight.grad is not None:
                self.keep(self.model[0].weight.grad)
            case 8:
                state = {k: (v.numpy() * 0.99).astype(v.dtype) for k, v in self.model.state_dict().items()}
                self.model.load_state_dict(state)
            case 9:
                self.first.param_groups[0]["lr"] *= 0.9
            case 10:
                self.results.append(self.eager(tg.tensor(x), tg.tensor(y)).item())
            case 11:
                self.results += [float(np.abs(p.detach().numpy()).sum()) for p in self.model.parameters()]
            case number:
                if number % 5 == 1:
                    self.second.zero_grad()
                self.results.append(self.programs[number % 5](x, y).item())

    def keep(self, value):
        self.kept.append((value, np.array(value)))


@functools.cache
def eager(seed):
    return run(lambda f: f, seed)


def run(compiled, seed):
    world = World(compiled, seed)
    for _ in range(100):
        world.turn()
    assert all(np.array_equal(now, before) for now, before in world.kept)
    return world.results


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_programs_in_turn_with_everything_else(backend, seed):
    np.testing.assert_allclose(run(tg.compile(backend=backend), seed), eager(seed), rtol=1e-9, atol=1e-9)
