"""A user's program with type hints: it runs, and mypy's strict mode accepts it (`mypy tests/test_types.py`)."""

from pathlib import Path

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim


class Net(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(4, 8), nn.Linear(8, 3)]

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        y: tg.Tensor = self.layers[1](nn.functional.relu(self.layers[0](x)))
        return y


@tg.no_grad()
def doubled(t: tg.Tensor) -> tg.Tensor:
    return t * 2


def test_tensors() -> None:
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    y = tg.exp(t) * 2.0 + 1 - t[0] / (t @ t)
    total: float = y.sum().item()
    y.sum().backward()
    assert total > 0
    assert t.grad is not None
    assert t.grad.numpy().shape == (2,)
    with tg.no_grad():
        t -= 0.1
    assert not doubled(t).requires_grad


def test_functions() -> None:
    slope = tg.grad(lambda v: (v * v).sum())(np.ones(3))
    assert slope.tolist() == [2, 2, 2]
    cube = tg.primitive(lambda a: a**3, lambda g, _y, a: g * 3 * a**2, name="cube", elementwise=True)
    assert tg.gradcheck(cube, np.linspace(-1, 1, 5)).ratio < 1e-7


def test_training(tmp_path: Path) -> None:
    model = Net()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for x, labels in data.Loader(np.ones((8, 4)), np.arange(8) % 3, batch_size=4):
        loss = nn.functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tg.save(tmp_path / "model.npz", model.state_dict())
    model.load_state_dict(tg.load(tmp_path / "model.npz"))
    tg.draw(loss).save(tmp_path / "graph.dot")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.dot", "model.npz"]
