"""Paths of four optimizers on a long, narrow bowl, side by side.

Run: python examples/optimizers.py [folder]
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_dl as tg
from tinygrad_dl import optim

CURVATURES = np.array([1.0, 25.0])
START = (-9.0, 2.2)
OPTIMIZERS = {
    "gradient descent, α = 0.075": lambda p: optim.SGD(p, lr=0.075),
    "momentum 0.9 (averaging), α = 0.075": lambda p: optim.SGD(p, lr=0.075, momentum=0.9, averaging=True),
    "RMSprop, α = 0.3": lambda p: optim.RMSprop(p, lr=0.3, alpha=0.9),
    "Adam, α = 0.5": lambda p: optim.Adam(p, lr=0.5),
}


def path(make: object, steps: int = 60) -> np.ndarray:
    """The points that an optimizer visits, (steps + 1, 2)."""
    p = tg.tensor(START, dtype=np.float64, requires_grad=True)
    optimizer = make([p])  # type: ignore[operator]
    points = [p.tolist()]
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * CURVATURES * p**2).sum().backward()
        optimizer.step()
        points.append(p.tolist())
    return np.array(points)


def main(folder: str = "out") -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    grid_x, grid_y = np.meshgrid(np.linspace(-10, 3, 200), np.linspace(-3, 3, 200))
    height = 0.5 * (CURVATURES[0] * grid_x**2 + CURVATURES[1] * grid_y**2)
    figure, axes = plt.subplots(2, 2, figsize=(11, 6), sharex=True, sharey=True, layout="constrained")
    for axis, (title, make) in zip(axes.flat, OPTIMIZERS.items(), strict=True):
        points = path(make)
        axis.contour(grid_x, grid_y, height, levels=np.geomspace(0.3, 150, 12), colors="#c9d3df", linewidths=0.8)
        axis.plot(*points.T, "-o", color="#2f6db5", markersize=3, linewidth=1.2)
        axis.plot(0, 0, "*", color="#d1495b", markersize=12)
        axis.set_title(title, fontsize=11)
        print(f"{title}: distance to the minimum after {len(points) - 1} steps {np.linalg.norm(points[-1]):.4f}")
    figure.savefig(out / "optimizers.png", dpi=130)
    plt.close(figure)
    print(out / "optimizers.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
