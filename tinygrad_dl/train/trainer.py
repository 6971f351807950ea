"""`Trainer`: the training loop, which checkpoints, stops early, and halts at the first NaN or infinity.

The loop is `_run`, `_epoch` and `_batch`. A Callback listens to it, a History holds the measurements; `checks` examines
everything before the first step, `step` is the step that is repeated, `state` what a checkpoint holds.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..data import Loader
from ..nn.module import Module
from ..nn.observing import evaluating
from ..optim.lr_scheduler import ReduceLROnPlateau, Schedule
from ..optim.optimizer import Optimizer
from ..scope import no_grad
from . import checkpoints, checks, measures
from .callbacks import Callback, EarlyStopping, Progress
from .history import History, Running
from .interrupt import on_interrupt
from .state import set_state, state_of
from .step import Step, mapped


class Trainer:
    """Trains a model: `fit` runs epochs, `history` holds what was measured.

    model, loss, optimizer: a Module; a function of its output and the targets that returns their mean loss, such as
        `nn.CrossEntropyLoss()`; and an Optimizer of its parameters.
    metric: a function of output and targets, as ndarrays (as a tuple of them if the model returns one), that returns
        the mean over the examples of a batch. Default: the accuracy, if the targets are integer labels.
    schedule: a learning-rate schedule, stepped after every epoch; with `schedule_per="step"` after every step.
        ReduceLROnPlateau gets the dev loss after every epoch, without dev data the training loss.
    clip: the largest norm of the gradient over all parameters; larger gradients are scaled down to it.
    compile: run the step through `tinygrad_dl.compile`.
    patience: stop early when the dev loss has not improved for so many epochs; the model then has the weights of its
        best epoch, however the run ends.
    folder: where checkpoints are written, after every epoch, every `save_every` steps, and at the end.
    callbacks: further listeners. progress: show a bar, or a line per epoch if the output is not a terminal.

    All random numbers (initial weights, order of the data, dropout) come from one generator, so
    `tinygrad_dl.seed(n)` before the model is built determines the run.
    Raises TypeError or ValueError for arguments of a wrong type, out of range, or that do not fit together.
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Any, Any], Any],
        optimizer: Optimizer,
        *,
        metric: Callable[[Any, Any], Any] | None = None,
        schedule: Schedule | None = None,
        schedule_per: str = "epoch",
        clip: float | None = None,
        compile: bool = False,
        patience: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        save_every: int | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = True,
    ) -> None:
        checks.check_parts(model, loss, optimizer, schedule, callbacks)
        checks.check_metric(metric)
        if schedule_per not in ("epoch", "step"):
            raise ValueError(f"Trainer: schedule_per: expected 'epoch' or 'step', got {schedule_per!r}")
        if save_every is not None and folder is None:
            raise ValueError("Trainer: save_every needs a folder to save in")
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.metric = metric
        self.history = History()
        self.epoch = self.step = 0  # so many are done
        self.began = self.target = 0  # the epochs at which the run began, and ends
        self.batches = 0  # in an epoch
        self.latest: dict[str, float] = {}  # what the latest batch measured
        self.ended = ""  # why the latest run ended, if not because it was complete
        self._per_step = schedule_per == "step" and not isinstance(schedule, ReduceLROnPlateau)
        self._due = False  # is the schedule to be stepped before the next batch?
        self._compile = compile
        self.clip = clip
        self._early = None if patience is None else EarlyStopping(patience)
        self._checkpoints = None if folder is None else checkpoints.Checkpoints(folder, save_every)
        listeners = [self._early, *callbacks, Progress() if progress else None, self._checkpoints]
        self.callbacks = [listener for listener in listeners if listener is not None]
        self._running = Running()
        self._stopping = ""
        self._data: Loader | None = None

    @property
    def clip(self) -> float | None:
        """The largest norm of the gradient, or None for no limit; it may be set while the trainer runs."""
        return self._clip

    @clip.setter
    def clip(self, norm: float | None) -> None:
        if norm is not None and not norm > 0:
            raise ValueError(f"Trainer: clip: expected a norm > 0, got {norm}")
        self._clip = norm
        self._step = Step(self.model, self.loss, self.optimizer, norm, self._compile)

    @property
    def rate(self) -> float:
        """The learning rate of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def fit(
        self, train: Any, dev: Any = None, epochs: int = 10, resume: bool | str | os.PathLike[str] = False
    ) -> History:
        """Train for so many epochs, and so many more if called again.

        train, dev: a `data.Loader` of inputs and targets, or a tuple of arrays (in batches of 64, shuffled; dev in
            order). The last array holds the targets, all before it are the model's arguments.
        resume: True finishes the call of `fit` that wrote the latest checkpoint in `folder`, with the same arguments;
            the weights are bit for bit those of an uninterrupted run. Without a checkpoint it starts anew. Or the
            path of a checkpoint.

        Ctrl-C ends the run after the current batch, with a checkpoint; a second one at once.
        Before the first step, raises ValueError for NaN or infinite data, dev data with other features, labels
        outside the classes, a schedule that becomes negative, a damaged or foreign checkpoint (naming the previous good
        one); FileExistsError for a folder that holds another run. During training, raises FloatingPointError at the
        first loss or gradient that is NaN or infinite, and says where it comes from; that step is not taken.
        """
        if not isinstance(epochs, int | np.integer) or isinstance(epochs, bool) or epochs < 1:
            raise ValueError(f"fit: expected epochs >= 1, got {epochs!r}")
        train = checks.loader("fit: train", train, shuffle=True)
        dev = None if dev is None else checks.loader("fit: dev", dev)
        if self._early is not None and dev is None:
            raise ValueError("fit: patience needs dev data: early stopping looks at the dev loss")
        checks.check_data(train, dev)
        checks.check_model(self.model, self.loss, train, dev)
        source = self._source(resume)
        self._data = train
        if source is None:
            self.began, self._running = self.epoch, Running()
        else:
            self.load_state_dict(checkpoints.read(source))
        self.target, self.batches = self.began + int(epochs), len(train)
        epochs_left = self.target - self.epoch
        steps_left = epochs_left * self.batches - self._running.batches
        checks.check_schedule(self.schedule, (steps_left if self._per_step else epochs_left) - 1 + self._due)
        self._run(train, dev)
        return self.history

    def stop(self, reason: str) -> None:
        """End the run after the current batch, or before the next one; it can be resumed from there."""
        self._stopping = reason

    def evaluate(self, data: Any) -> dict[str, float]:
        """`loss` and metric in evaluation mode, over a Loader or a tuple of arrays.

        They are the means of the batches' means, weighted by the number of examples; with class weights the loss
        therefore depends slightly on the batch size."""
        running = Running()
        with evaluating(self.model), no_grad():
            for *inputs, target in copy.copy(checks.loader("evaluate: data", data)):  # it may be in a loop of its own
                output = self.model(*inputs)
                loss = self.loss(output, target).item()
                running.add({"loss": loss, **self._measure(output, target)}, len(target))
        return running.means()

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the run as one HTML page that needs no other file: figures, advice, curves, the model's graph."""
        from .report import page

        inputs = [] if self._data is None else checks.first_examples(self._data, 2)[:-1]
        Path(path).write_text(page(self.history, self.model, inputs), "utf-8")

    # the loop

    def _run(self, train: Loader, dev: Loader | None) -> None:
        self._stopping = self.ended = ""
        error: BaseException | None = None
        begun: list[Callback] = []
        self.model.train()
        try:
            with on_interrupt(lambda: self.stop("interrupted by Ctrl-C"), lambda: bool(self._stopping)):
                for callback in self.callbacks:
                    begun.append(callback)
                    callback.begin(self)
                while self.epoch < self.target and not self._stopping:
                    self._epoch(train, dev)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._note_end(error)
            with ExitStack() as ends:  # all of them, whatever one raises
                for callback in begun:
                    ends.callback(callback.end, self, error)

    def _epoch(self, train: Loader, dev: Loader | None) -> None:
        self._step.prepare()
        for batch in train:
            self._batch(batch)
            for callback in self.callbacks:
                callback.batch(self)
            if self._stopping:
                return
        row = {"epoch": self.epoch + 1, "step": self.step, **self._running.row(), "lr": self.rate}
        if dev is not None:
            row |= {f"dev_{name}": value for name, value in self.evaluate(dev).items()}
            if not math.isfinite(row["dev_loss"]):
                raise FloatingPointError(f"Trainer: the dev loss is {row['dev_loss']} after epoch {self.epoch + 1}")
        self.history.epochs.append(row)
        self.epoch += 1
        self._running = Running()
        self._due = self._due or not self._per_step
        for callback in self.callbacks:
            callback.epoch(self)

    def _batch(self, batch: Sequence[Tensor]) -> None:
        began = time.perf_counter()
        if self._due:
            self._step_schedule()
        *inputs, target = batch
        first = self._running.batches == 0
        look = measures.Look(self.model, inputs) if first else None
        try:
            loss, output, norm = self._step(batch)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"Trainer: not finite in epoch {self.epoch + 1}, batch {self._running.batches + 1} of {self.batches} "
                f"(step {self.step + 1}): {error}\nThe step was not taken. Lower the learning rate, {self.rate:.3g}, "
                "clip the gradient, or look at this batch"
            ) from error.__cause__
        self.step += 1
        self._due = self._per_step
        self.latest = {"loss": loss, **self._measure(output, target), "gradient": norm}
        if look is not None:
            self._running.first = {"first_loss": loss, "examples": len(target), "layers": look.layers()}
        self._running.add(self.latest, len(target), time.perf_counter() - began)

    def _measure(self, output: Any, target: Tensor) -> dict[str, float]:
        """The metric of a batch, by name."""
        metric = self.metric or (measures.accuracy if checks.are_labels(target, output) else None)
        if metric is None:
            return {}
        name = self.history.metric = getattr(metric, "__name__", type(metric).__name__)
        return {name: float(metric(mapped(output, lambda tensor: tensor.data), target.data))}

    def _step_schedule(self) -> None:
        self._due = False
        if isinstance(self.schedule, ReduceLROnPlateau):
            row = self.history.epochs[-1]
            self.schedule.step(row.get("dev_loss", row["loss"]))
        elif self.schedule is not None:
            self.schedule.step()

    def _note_end(self, error: BaseException | None) -> None:
        """Write down why the run ended, if it was not complete."""
        kind = "not finite" if isinstance(error, FloatingPointError) else "end"
        if error is None:
            self.ended = self._stopping
        elif kind == "end":
            self.ended = f"{type(error).__name__}: {error}"
        else:
            self.ended = str(error).removeprefix("Trainer: ")
        if self.ended and self.ended not in [event["text"] for event in self.history.events[-1:]]:
            self.history.note(kind, self.ended, self.epoch + 1, self.step)

    # the state

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to continue from here, in the form that `tinygrad_dl.save` takes."""
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict()`, but not while `fit` runs. If anything does not fit, nothing changes.

        Raises KeyError, ValueError or TypeError for the state of another model, optimizer, schedule or data."""
        before = self.state_dict()
        try:
            set_state(self, state)
        except Exception:
            set_state(self, before)
            raise

    def _source(self, resume: bool | str | os.PathLike[str]) -> Path | None:
        """The checkpoint to go on from, or None."""
        if not isinstance(resume, bool):
            path = Path(resume)
            if self._checkpoints is not None and path.parent.resolve() != self._checkpoints.folder.resolve():
                self._checkpoints.source(resume=False)
            return path
        if self._checkpoints is not None:
            return self._checkpoints.source(resume)
        if resume:
            raise ValueError("fit: resume=True needs a folder; give it to the Trainer, or the path of a checkpoint")
        return None
