"""The first steps of a project, before any long run: dumb baselines, overfitting one batch, a learning rate.

The order is Karpathy's (A recipe for training neural networks, 2019). Nothing here changes the model that is given."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn, optim
from ..data import Loader, Normalizer
from ..nn.module import Module
from ..nn.observing import in_mode
from ..random import generator
from ..scope import within
from . import checks
from .plots import DEV, TRAIN, finish, new_figure
from .step import Step
from .trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def baselines(train: Any, dev: Any) -> dict[str, dict[str, float]]:
    """Baselines that a model should beat: dev `loss` (mean cross-entropy) and `accuracy` of the majority class, which
    uses only the class frequencies, and of softmax regression, which is linear in the features.

    train, dev: `data.Loader`s or tuples (x, y), y integer labels from 0. All axes of x but the first are features,
        normalised with the training data's statistics. The result is deterministic; the library's generator is not
        used.
    Raises TypeError for labels that are not integers, ValueError for negative ones and for data that `Trainer.fit`
    refuses.
    """
    train, dev = checks.loader("baselines: train", train), checks.loader("baselines: dev", dev)
    checks.check_data(train, dev)
    (x, y), (dev_x, dev_y) = (_flat(data) for data in (train, dev))
    classes = int(max(y.max(), dev_y.max())) + 1
    shares = np.bincount(y, minlength=classes) / len(y)
    with np.errstate(divide="ignore"):
        majority = {
            "loss": float(-np.log(shares[dev_y]).mean()),
            "accuracy": float(np.mean(dev_y == shares.argmax())),
        }
    normalizer = Normalizer().fit(x)
    model = nn.Linear(x.shape[1], classes, init=nn.init.zeros_)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.01), progress=False)
    trainer.fit(Loader(normalizer.transform(x), y, batch_size=256, shuffle=True, seed=0), epochs=_epochs(len(x)))
    if trainer.ended:  # half-trained figures are nobody's
        raise KeyboardInterrupt(f"baselines: {trainer.ended}")
    return {"majority class": majority, "softmax regression": trainer.evaluate((normalizer.transform(dev_x), dev_y))}


def _epochs(examples: int) -> int:
    """About 1000 steps in batches of 256, and no fewer than 5 epochs."""
    return max(5, min(200, round(1000 / math.ceil(examples / 256))))


def _flat(data: Loader) -> tuple[Any, Any]:
    x, y = data.arrays[0], data.arrays[-1]
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise TypeError(f"baselines: expected integer labels (N,), got {y.dtype} {y.shape}")
    if y.min() < 0:
        raise ValueError(f"baselines: expected labels from 0, got {y.min()}")
    return x.reshape(len(x), -1).astype(np.float32, copy=False), y.astype(np.int64, copy=False)


@dataclass(frozen=True)
class Overfit:
    """What `overfit_one_batch` found; true if the model learned the batch by heart."""

    losses: list[float]
    reached: bool
    target: float

    def __bool__(self) -> bool:
        return self.reached

    def __str__(self) -> str:
        course = f"loss {self.losses[0]:.3g} to {self.losses[-1]:.3g} in {len(self.losses)} steps on one batch"
        if self.reached:
            return f"{course}: the model can learn it"
        return (
            f"{course}, above {self.target:.3g}: look for labels that do not belong to the inputs, a softmax before a "
            "loss that has one, a layer that passes no gradient, frozen parameters, a far too small model, or a loss "
            "whose minimum is not 0 (label smoothing, a penalty)"
        )


def overfit_one_batch(
    model: Module, loss: Callable[[Any, Any], Any], batch: Sequence[Any], steps: int = 500, lr: float = 3e-3
) -> Overfit:
    """Can the model memorise one small batch? If not, there is a mistake in the model or the loss.

    batch: inputs and targets, arrays or Tensors of a few different examples. A copy of the model, without dropout and
        noise, is trained on it with Adam until the loss is a hundredth of its first value, which counts as learned.
        Raises as `Trainer.fit` does for bad data, ValueError if the first loss is 0 or less, FloatingPointError if it
        is not finite.
    """
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.GaussianNoise):
            module.std = 0.0
    data = checks.loader("overfit_one_batch: batch", batch, batch_size=len(batch[0]))
    checks.check_data(data, None)
    checks.check_model(twin, loss, data, None)
    step = Step(twin.train(), loss, optim.Adam(twin.parameters(), lr=lr), None, compile=False)
    given = checks.first_examples(data, data.size)
    losses: list[float] = []
    with within(generator=copy.deepcopy(generator())):
        while len(losses) < steps and (not losses or losses[-1] > 0.01 * losses[0]):
            losses.append(step(given)[0])
            if losses[0] <= 0:
                raise ValueError(f"overfit_one_batch: expected a loss whose least value is 0, got {losses[0]:.4g}")
    return Overfit(losses, losses[-1] <= 0.01 * losses[0], 0.01 * losses[0])


@dataclass(frozen=True)
class RateSearch:
    """What `find_lr` found: `suggestion`, and the `losses` (smoothed) at the `rates` on the way there."""

    rates: list[float]
    losses: list[float]
    suggestion: float

    def plot(self) -> Figure:
        """Loss over rate, the suggestion marked; a matplotlib Figure. Raises ImportError without matplotlib."""
        figure = new_figure(5.0, 3.4)
        axis = figure.subplots()
        axis.semilogx(self.rates, self.losses, color=TRAIN)
        axis.axvline(self.suggestion, color=DEV, linestyle="--", label=f"suggestion: {self.suggestion:.2g}")
        start, lowest = self.losses[0], min(self.losses)
        axis.set_ylim(lowest - 0.1 * (start - lowest), start + 0.5 * (start - lowest))
        axis.set(xlabel="learning rate", ylabel="loss, smoothed")
        axis.legend(frameon=False)
        finish(axis)
        return figure


def find_lr(trainer: Trainer, train: Any, low: float = 1e-6, high: float = 10.0, steps: int = 100) -> RateSearch:
    """Raise the learning rate from low to high, by a constant factor per step, until the loss explodes (Smith 2017,
    Cyclical learning rates for training neural networks, section 3.3).

    The suggestion is the rate at which the smoothed loss fell fastest on the logarithmic scale of rates, measured over
    a fifth of the steps around it, since the change in a single step is mostly noise. The trainer's state is restored.

    train: as in `fit`. Raises ValueError for rates and steps out of range, and as `fit` does for bad data.
    """
    if not 0 < low < high or steps < 10:
        raise ValueError(f"find_lr: expected 0 < low < high and steps >= 10, got {low}, {high} and {steps}")
    data = copy.copy(checks.loader("find_lr: train", train, shuffle=True))
    checks.check_data(data, None)
    checks.check_model(trainer.model, trainer.loss, data, None)
    rates = np.geomspace(low, high, steps).tolist()
    losses: list[float] = []
    with in_mode(trainer.model, training=True), _put_back(trainer):
        for loss in _losses(trainer, data, rates):
            losses.append(loss)
            if loss - min(losses) > 3 * max(abs(losses[0]), abs(min(losses))):
                break
    if len(losses) < 4:
        raise ValueError(f"find_lr: the loss explodes at {low:.2g}, the lowest rate; begin lower")
    reach = max(1, min(steps // 10, len(losses) // 4))
    falls = {i: losses[i - reach] - losses[i + reach] for i in range(2 * reach, len(losses) - reach)}
    return RateSearch(rates[: len(losses)], losses, rates[max(falls, key=falls.__getitem__)])


def _losses(trainer: Trainer, data: Loader, rates: Sequence[float]) -> Iterator[float]:
    """The smoothed loss of a step at each rate, up to the first that is not finite."""
    step = Step(trainer.model, trainer.loss, trainer.optimizer, None, compile=False)
    average = optim.ExponentialAverage(0.9)
    for rate, batch in zip(rates, _endless(data), strict=False):
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate
        try:
            yield average.update(step(batch)[0])
        except FloatingPointError:
            return


@contextmanager
def _put_back(trainer: Trainer) -> Iterator[None]:
    """After the block all is as before it, but for the place in the data, which a copy looks over."""
    before = {**trainer.state_dict(), "loader": None}
    gradients = [(p, p.grad) for p in trainer.model.parameters()]
    try:
        yield
    finally:
        trainer.load_state_dict(before)
        for p, gradient in gradients:
            p.grad = gradient


def _endless(data: Loader) -> Iterator[Any]:
    while True:
        yield from data
