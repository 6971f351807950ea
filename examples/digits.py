"""Train a classifier on real handwritten digits, with its gradients checked and its graph drawn.

scikit-learn's 1797 images of 8 × 8 pixels; 64-128-64-10 with batch norm, ReLU, and dropout after the last
batch norm; He initialisation; Adam; mini-batches of 64. Writes the graph, the curves and the model.
Run: python examples/digits.py [--seeds 5] [--epochs 40] [--out out]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim


def build() -> nn.Sequential:
    """The network; a Linear before a batch norm needs no bias, which the norm would subtract again."""
    return nn.Sequential(
        nn.Linear(64, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 64, bias=False),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A fixed, stratified 80/20 split, normalised with the training statistics."""
    digits = load_digits()
    train, test = data.split(digits.data, digits.target, sizes=(0.8, 0.2), stratify=digits.target, seed=0)
    normalizer = data.Normalizer().fit(train[0])
    return (normalizer.transform(train[0]), train[1]), (normalizer.transform(test[0]), test[1])


def check(x: np.ndarray, y: np.ndarray) -> None:
    """Compare every parameter's gradient with central differences, in float64 and without dropout."""
    tg.seed(0)
    model = build().astype(np.float64)
    model[6] = nn.Identity()  # a gradient check cannot see through random masks
    report = tg.gradcheck(lambda: nn.functional.cross_entropy(model(x[:32]), y[:32]), wrt=model)
    print(f"gradient check of the whole model: {report.ratio:.1e} (about 1e-7 is great, 1e-3 a worry)")


def accuracy(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """The share of right answers, in evaluation mode."""
    model.eval()
    with tg.no_grad():
        right = (model(tg.tensor(x, dtype=np.float32)).argmax(axis=1) == y).mean().item()
    model.train()
    return float(right)


def train(seed: int, train_set: tuple, test_set: tuple, epochs: int) -> tuple[nn.Module, dict[str, list[float]]]:
    """One run; returns the model and its curves."""
    tg.seed(seed)
    model = build()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    batches = data.Loader(*train_set, batch_size=64, shuffle=True)
    history: dict[str, list[float]] = {"loss": [], "train": [], "test": []}
    progress = tqdm(range(epochs), desc=f"seed {seed}", unit="epoch")
    for _ in progress:
        losses = []
        for x, y in batches:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        schedule.step()
        history["loss"].append(float(np.mean(losses)))
        history["train"].append(accuracy(model, *train_set))
        history["test"].append(accuracy(model, *test_set))
        progress.set_postfix(loss=f"{history['loss'][-1]:.4f}", test=f"{history['test'][-1]:.4f}")
    return model, history


def draw(model: nn.Module, x: np.ndarray, y: np.ndarray, path: Path) -> None:
    """The graph of the loss of one mini-batch, with gradients."""
    inputs = tg.tensor(x[:64], dtype=np.float32, name="images")
    loss = nn.functional.cross_entropy(model(inputs), tg.tensor(y[:64], name="labels"))
    loss.name = "loss"
    loss.backward()
    tg.draw(loss).save(path)


def plot(history: dict[str, list[float]], path: Path) -> None:
    """Loss and accuracies over the epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    epochs = np.arange(1, len(history["loss"]) + 1)
    left.semilogy(epochs, history["loss"], color="#2f6db5")
    left.set(title="training loss", xlabel="epoch")
    right.plot(epochs, history["train"], color="#2f6db5", label="train")
    right.plot(epochs, history["test"], color="#d1495b", label="test")
    right.set(title="accuracy", xlabel="epoch")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many runs, each from its own seed")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    train_set, test_set = load()
    check(*train_set)
    results = []
    for seed in range(options.seeds):
        model, history = train(seed, train_set, test_set, options.epochs)
        results.append((history["train"][-1], history["test"][-1]))
        print(f"seed {seed}: train accuracy {results[-1][0]:.4f}, test accuracy {results[-1][1]:.4f}")
    means = np.mean(results, axis=0)
    print(f"mean of {options.seeds} seeds: train accuracy {means[0]:.4f}, test accuracy {means[1]:.4f}")

    tg.save(options.out / "model.safetensors", model.state_dict())
    draw(model, *train_set, options.out / "graph.svg")
    plot(history, options.out / "curves.png")
    print(nn.summary(model, tg.tensor(train_set[0][:64], dtype=np.float32)))
    print("written:", ", ".join(str(options.out / f) for f in ("graph.svg", "curves.png", "model.safetensors")))


if __name__ == "__main__":
    main()
