"""Draw a formula with its values and gradients, and a network with its modules.

Run: python examples/draw_graph.py [folder]
"""

import sys
from pathlib import Path

import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import nn


def formula() -> tg.Drawing:
    """A neuron: every value and every gradient fits into the picture."""
    x = tg.tensor(2.0, requires_grad=True, name="x")
    w = tg.tensor(-3.0, requires_grad=True, name="w")
    b = tg.tensor(6.5, requires_grad=True, name="b")
    y = np.tanh(x * w + b)
    y.backward()
    return tg.draw(y)


def network() -> tg.Drawing:
    """The loss of a small classifier with batch norm and dropout."""
    tg.seed(0)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    x = tg.tensor(np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), name="x")
    labels = tg.tensor(np.arange(16) % 3, name="labels")
    loss = nn.functional.cross_entropy(model(x), labels)
    loss.name = "loss"
    loss.backward()
    return tg.draw(loss)  # here, where the model lives, whose names the picture shows


def main(folder: str = "out") -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    for name, drawing in (("formula", formula()), ("network", network())):
        drawing.save(out / f"{name}.svg")
        print(f"{out / name}.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
