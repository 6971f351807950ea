"""Models, leaves and a wrong operation for the tests of check_graph."""

import numpy as np
from wrong_gradients import X
from wrong_rules import op

import tinygrad_dl as tg
from tinygrad_dl import nn

F = nn.functional
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(64, 64)).astype(np.float32), RNG.integers(0, 10, 64)
ZEROS = np.where(np.arange(12).reshape(3, 4) < 3, 0, X)
twice = op(np.tanh, lambda g, y, _x: 2 * g * (1 - y * y))


def verdicts(report):
    return [check.verdict for check in report.checks]


def leaf(data, **options):
    return tg.tensor(data, requires_grad=True, **options)


def digits_mlp():
    tg.seed(0)
    return nn.Sequential(
        nn.Linear(64, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64, bias=False),
        nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


class Wrong(nn.Module):
    def forward(self, x):
        return twice(x)
