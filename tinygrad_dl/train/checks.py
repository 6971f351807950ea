"""What must be right before a training starts: the data, the model's answer to it, the rates that are to come."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

from .._source import describe
from .._tensor import Tensor
from ..data import Loader
from ..graph import Array
from ..nn.module import Module
from ..optim.lr_scheduler import ReduceLROnPlateau, Schedule
from ..optim.optimizer import Optimizer
from ..random import generator
from ..scope import within
from .callbacks import Callback
from .measures import origin

COLUMNS = {"loss", "gradient", "largest_gradient", "first_loss", "lr", "epoch", "step", "seconds", "examples", "layers"}


def check_metric(metric: Any) -> None:
    """Raises ValueError for a metric whose name is that of another column of the history."""
    name = getattr(metric, "__name__", "")
    if name in COLUMNS or name.startswith("dev_"):
        raise ValueError(f"Trainer: metric: the history has another column {name!r}; give the function another name")


def check_parts(model: Any, loss: Any, optimizer: Any, schedule: Any, callbacks: Any) -> None:
    """Raises TypeError for parts of another kind, ValueError for those that do not belong together."""
    parts = [("model", model, Module), ("optimizer", optimizer, Optimizer)]
    parts += [("schedule", schedule, Schedule)] if schedule is not None else []
    parts += [("callbacks", callback, Callback) for callback in callbacks]
    for name, part, kind in parts:
        if not isinstance(part, kind):
            raise TypeError(f"Trainer: {name}: expected an instance of {kind.__name__}, got {describe(part)}")
    if not callable(loss):
        raise TypeError(f"Trainer: loss: expected a function of output and targets, got {describe(loss)}")
    own = {id(p) for p in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise ValueError("Trainer: the optimizer holds none of the model's parameters; make it from this model's")
    if schedule is not None and schedule.optimizer is not optimizer:
        raise ValueError("Trainer: the schedule is another optimizer's")


def loader(where: str, data: Any, **options: Any) -> Loader:
    """A Loader as it is; a tuple of arrays as a Loader of them, with the options. Raises TypeError for anything else,
    ValueError for fewer than two arrays; where: how the message begins."""
    if not isinstance(data, Loader | tuple | list):
        raise TypeError(f"{where}: expected a data.Loader or a tuple (inputs, targets), got {describe(data)}")
    found = data if isinstance(data, Loader) else Loader(*data, **options)
    if len(found.arrays) < 2:
        raise ValueError(f"{where}: expected inputs and targets, got one array; for an autoencoder give it twice")
    return found


def first_examples(data: Loader, n: int, start: int = 0) -> list[Tensor]:
    """A batch of n examples from one on, the first behind the last, as the Loader would give it without shuffling."""
    rows = np.arange(start, start + n) % data.size
    return [Tensor(a[rows], np.float32 if a.dtype == np.float64 else None) for a in data.arrays]


def check_data(train: Loader, dev: Loader | None) -> None:
    """Raises ValueError for NaN or infinite values, and for dev data of other features than the training data's."""
    for name, data in (("train", train), ("dev", dev)):
        if data is None:
            continue
        for i, array in enumerate(data.arrays):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row, *place = np.argwhere(~np.isfinite(array))[0].tolist()
                where = f"row {row}" + (f", column {', '.join(map(str, place))}" if place else "")
                raise ValueError(
                    f"fit: {name}: {_array(i, data)} is {array[(row, *place)]} in {where}; drop such rows or fill "
                    "the gaps before training"
                )
    if dev is None:
        return
    if len(dev.arrays) != len(train.arrays):
        raise ValueError(f"fit: dev: expected {len(train.arrays)} arrays as in train, got {len(dev.arrays)}")
    for i, (ours, theirs) in enumerate(zip(train.arrays, dev.arrays, strict=True)):
        if ours.shape[1:] != theirs.shape[1:] or _kind(ours) != _kind(theirs):
            raise ValueError(
                f"fit: dev: {_array(i, dev)} has examples of {theirs.dtype} {theirs.shape[1:]}, those in train are "
                f"{ours.dtype} {ours.shape[1:]}; prepare both in the same way"
            )


def check_model(model: Module, loss: Any, train: Loader, dev: Loader | None) -> None:
    """Run copies of the model on the sizes of batch that will come, in both modes.

    Raises ValueError for labels outside the classes and a loss that is no single number, FloatingPointError for one
    that is not finite, and whatever the model raises, such as batch norm for a last batch of one example."""
    for name, data in (("train", train), ("dev", dev)):
        if data is None:
            continue
        whole, rest = divmod(data.size, data.batch_size)
        sizes = {min(data.size, data.batch_size), *([rest] if rest and whole and not data.drop_last else [])}
        for size in sorted(sizes, reverse=True):
            _trial(name, model, loss, data, size)


def _trial(name: str, model: Module, loss: Any, data: Loader, size: int) -> None:
    """Train or evaluate a copy of the model on a batch of that size."""
    twin = copy.deepcopy(model).train(name == "train")
    *inputs, target = first_examples(data, size)
    with within(recording=name == "train", generator=copy.deepcopy(generator())):
        output = twin(*inputs)
        wrong = _wrong_labels(data, output, getattr(loss, "ignore_index", -100))
        if wrong.any():  # before the loss says less of them
            _check_labels(name, twin, loss, data, size, wrong)
        value = loss(output, target)
    if not isinstance(value, Tensor) or value.size != 1:
        raise ValueError(f"fit: expected a loss of one number, got {describe(value)}; is its reduction 'none'?")
    if not math.isfinite(value.item()):
        where = origin(twin, loss, inputs, target) or f"the loss is {value.item()}"
        raise FloatingPointError(f"fit: {name}: not finite before the first step: {where}")
    if name == "train" and not value.requires_grad:
        raise ValueError("fit: the loss depends on no parameter that requires grad; is everything frozen?")


def are_labels(target: Any, output: Any) -> bool:
    """Integer targets of the output's shape without its axis of classes, the second; there are several classes."""
    shape: tuple[int, ...] = getattr(output, "shape", ())
    return bool(target.dtype.kind in "iub" and len(shape) > 1 and shape[1] > 1 and target.shape[1:] == shape[2:])


def _wrong_labels(data: Loader, output: Any, ignored: int) -> Array:
    target = data.arrays[-1]
    if not are_labels(target, output):
        return np.zeros(0, bool)
    wrong: Array = ((target < 0) | (target >= output.shape[1])) & (target != ignored)
    return wrong


def _check_labels(name: str, model: Module, loss: Any, data: Loader, size: int, wrong: Array) -> None:
    """Are these integers labels? They are if the loss refuses one of them; others may be counts, say."""
    place = tuple(np.argwhere(wrong)[0].tolist())
    *inputs, target = first_examples(data, size, place[0])
    output = model(*inputs)
    try:
        loss(output, target)
    except Exception as error:
        label, classes = data.arrays[-1][place], output.shape[1]
        raise ValueError(
            f"fit: {name}: label {label} in row {place[0]} is outside the model's {classes} classes, 0 to "
            f"{classes - 1}; labels like it: {np.count_nonzero(wrong)}"
        ) from error


def check_schedule(schedule: Schedule | None, steps: int) -> None:
    """Ask a schedule for the rates of that many steps to come. Raises ValueError for one that is negative, infinite or
    no number, and what the schedule raises for a step beyond its end."""
    if schedule is None or isinstance(schedule, ReduceLROnPlateau):
        return
    last = schedule.count + max(steps, 0)
    counts = np.linspace(schedule.count, last, min(last - schedule.count + 1, 10_000)).astype(int)
    for count in counts.tolist():
        for i, base in enumerate(schedule.base_lrs):
            rate = schedule.rate(base, count, i)
            if not (math.isfinite(rate) and rate >= 0):
                raise ValueError(
                    f"fit: the learning rate would be {rate:.4g} at step {count} of {type(schedule).__name__}, of "
                    f"{last} to come; expected finite rates >= 0"
                )


def _array(i: int, data: Loader) -> str:
    return "the target" if i == len(data.arrays) - 1 else f"array {i}" if len(data.arrays) > 2 else "the input"


def _kind(array: Array) -> str:
    """Numbers of all widths are of a kind."""
    return "f" if array.dtype.kind == "f" else "i"
