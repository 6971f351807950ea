"""Why random points and not a grid, and how coarse to fine closes in: three searches over Adam's α and β₁.

Each trial trains a network of four hidden layers on scikit-learn's digits for a few epochs; lower dev loss is better.
Run: python examples/tuning.py [--epochs 3] [--side 5] [--workers 1] [--out out]
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from sklearn.datasets import load_digits

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim, tune
from tinygrad_dl.train import Trainer

SPACE = {"lr": tune.log_uniform(1e-4, 1), "beta1": tune.one_minus_log(0.9, 0.999)}
COLORS = ["#8a94a0", "#2f6db5", "#d1495b"]  # of the rounds from coarse to fine


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A fixed, stratified 80/20 split, normalised with the training statistics."""
    digits = load_digits()
    train, dev = data.split(digits.data, digits.target, sizes=(0.8, 0.2), stratify=digits.target, seed=0)
    normalizer = data.Normalizer().fit(train[0])
    return (normalizer.transform(train[0]), train[1]), (normalizer.transform(dev[0]), dev[1])


def dev_loss(sets: tuple, epochs: int, trial: tune.Trial) -> float:
    """The dev loss after training at the trial's point; weights and shuffling begin alike in every trial."""
    train, dev = sets
    with tg.random.scope(0):
        hidden = [part for _ in range(4) for part in (nn.Linear(64, 64), nn.ReLU())]
        model = nn.Sequential(*hidden, nn.Linear(64, 10))
        optimizer = optim.Adam(model.parameters(), lr=trial["lr"], betas=(trial["beta1"], 0.999))
        trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, progress=False)
        return trainer.fit(data.Loader(*train, batch_size=64, shuffle=True), dev, epochs=epochs)["dev_loss"][-1]


def columns(trials: list[tune.Outcome]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """α, 1 - β₁ and dev loss of the trials that came to an end."""
    rows = [(t.params["lr"], 1 - t.params["beta1"], t.value) for t in trials if t.state == "complete"]
    lr, one_minus_beta, loss = np.array(rows).T
    return lr, one_minus_beta, loss


def plot_argument(found: dict[str, tune.Results], path: Path) -> None:
    """Of each search the points below, and above them what they tell of α alone."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True, sharey="row", layout="constrained")
    for (name, results), (above, below) in zip(found.items(), axes.T, strict=True):
        lr, one_minus_beta, loss = columns(results.trials)
        best = np.argmin(loss)
        different = len(np.unique(lr.round(12)))
        above.set_title(f"{name}: {different} values of α, lowest dev loss {loss[best]:.3f}", fontsize=11)
        above.vlines(lr, loss, 10, color="#8a94a0", alpha=0.35, linewidth=0.8)
        for axis, y in ((above, loss), (below, one_minus_beta)):
            axis.scatter(lr, y, c=np.log(loss), cmap="viridis_r", s=36, edgecolor="white", linewidth=0.5, zorder=3)
            axis.scatter(lr[best], y[best], s=170, facecolor="none", edgecolor="#d1495b", linewidth=1.8, zorder=4)
        above.set(yscale="log", ylim=(0.05, 10))
        below.set(xscale="log", yscale="log", xlabel="α")
    axes[0, 0].set_ylabel("dev loss")
    axes[1, 0].set_ylabel("1 - β₁")
    finish(figure, axes.ravel(), path)


def plot_rounds(results: tune.Results, size: int, path: Path) -> None:
    """The points of each round and the box that they fill, and the losses in the order of the trials."""
    figure, (plane, order) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for i, color in enumerate(COLORS):
        trials = [t for t in results.trials[i * size : (i + 1) * size] if t.state == "complete"]
        lr, one_minus_beta, loss = columns(trials)
        label = f"round {i + 1}: median {np.median(loss):.3f}"
        plane.scatter(lr, one_minus_beta, s=22, color=color, label=label, zorder=3)
        low, high = (lr.min(), one_minus_beta.min()), (lr.max(), one_minus_beta.max())
        plane.add_patch(Rectangle(low, high[0] - low[0], high[1] - low[1], fill=False, edgecolor=color, linewidth=1.2))
        order.scatter([t.number + 1 for t in trials], loss, s=22, color=color, zorder=3)
    complete = [t for t in results.trials if t.state == "complete"]
    best = np.minimum.accumulate([t.value for t in complete])
    order.step([t.number + 1 for t in complete], best, where="post", color="#20262e", label="the best so far")
    plane.set(xscale="log", yscale="log", xlabel="α", ylabel="1 - β₁")
    order.set(yscale="log", xlabel="trial", ylabel="dev loss")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    finish(figure, (plane, order), path)


def finish(figure: plt.Figure, axes: list, path: Path) -> None:
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=3, help="of each trial")
    parser.add_argument("--side", type=int, default=5, help="of the grid; random points are as many as its square")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    search = partial(tune.search, partial(dev_loss, load(), options.epochs), SPACE, workers=options.workers)
    side, size = options.side, options.side**2
    grid, random = search(tune.grid(SPACE, side)), search(size)
    zoomed = search(len(COLORS) * size, tune.CoarseToFine(size))
    for name, results in (("grid", grid), ("random", random), ("coarse to fine", zoomed)):
        print(f"{name:15}{results}")
    found = {f"{side} × {side} grid": grid, f"{size} random points": random}
    plot_argument(found, options.out / "random_or_grid.png")
    plot_rounds(zoomed, size, options.out / "coarse_to_fine.png")
    print("written:", options.out / "random_or_grid.png", options.out / "coarse_to_fine.png")


if __name__ == "__main__":
    main()
