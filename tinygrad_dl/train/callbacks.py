"""`Callback`, the base class for code that a run calls, and two of general use: early stopping and a progress
display."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .history import summary

if TYPE_CHECKING:
    from .trainer import Trainer


class Callback:
    """Base class of callbacks, which a Trainer calls during a run: override the methods that you need.

    `run` is the Trainer, with `model`, `optimizer`, `history`, the numbers of completed epochs and steps as `epoch`
    and `step`, and `stop(reason)`, which ends the run at the next point from which it can be resumed. A callback whose
    state must survive a resume returns it from `state_dict`, as plain data.
    """

    def begin(self, run: Trainer) -> None:
        """Training begins, or is resumed."""

    def batch(self, run: Trainer) -> None:
        """A step was taken; `run.latest` holds its `loss`, `gradient` and metric."""

    def epoch(self, run: Trainer) -> None:
        """An epoch has ended; `run.history.epochs[-1]` is its row."""

    def end(self, run: Trainer, error: BaseException | None) -> None:
        """Training has ended, normally or not; `run.ended` says why. Callbacks are called in reverse order."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class EarlyStopping(Callback):
    """Ends the run when the dev loss has not improved for `patience` epochs, and puts the best epoch's weights and
    buffers back into the model, whatever ended it."""

    def __init__(self, patience: int) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ValueError(f"Trainer: patience: expected a number of epochs >= 1, got {patience!r}")
        self.patience = patience
        self.best, self.at = math.inf, 0  # the lowest dev loss, and after which epoch
        self.weights: dict[str, Any] | None = None

    def begin(self, run: Trainer) -> None:
        self._judge(run)

    def epoch(self, run: Trainer) -> None:
        loss = run.history.epochs[-1]["dev_loss"]
        if loss < self.best:
            self.best, self.at, self.weights = loss, run.epoch, run.model.state_dict()
        self._judge(run)

    def _judge(self, run: Trainer) -> None:
        if self.weights is not None and run.epoch - max(self.at, run.began) >= self.patience:
            run.stop(f"early stopping: dev loss was lowest, {self.best:.4g}, after epoch {self.at}")

    def end(self, run: Trainer, error: BaseException | None) -> None:
        if self.weights is not None:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "at": self.at, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.at, self.weights = state["best"], state["at"], state["weights"]


class Progress(Callback):
    """A bar with loss, metric, learning rate and time left; where the error stream is no terminal, or without tqdm, a
    line for each epoch instead."""

    def begin(self, run: Trainer) -> None:
        self.began = time.monotonic()  # the current epoch
        self.bar = _bar(total=run.target * run.batches, initial=run.step) if sys.stderr.isatty() else None

    def batch(self, run: Trainer) -> None:
        if self.bar is not None:
            self.bar.update()
            shown = {name: f"{value:.4g}" for name, value in run.latest.items() if name != "gradient"}
            self.bar.set_postfix({**shown, "lr": f"{run.rate:.3g}"}, refresh=False)

    def epoch(self, run: Trainer) -> None:
        row = run.history.epochs[-1]
        line = f"epoch {run.epoch}/{run.target}  {summary(row, run.history.metric)}"
        if self.bar is not None:
            self.bar.write(line)
            return
        now = time.monotonic()
        seconds, self.began = now - self.began, now
        print(f"{line}  {seconds:.2g} s  {_time(seconds * (run.target - run.epoch))} left", flush=True)

    def end(self, run: Trainer, error: BaseException | None) -> None:
        if self.bar is not None:
            self.bar.close()
        if error is None and run.ended:
            print(f"{run.ended} (after epoch {run.epoch}, step {run.step})", flush=True)


def _bar(**options: Any) -> Any:
    try:
        from tqdm import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return None
    return tqdm(unit="step", dynamic_ncols=True, leave=False, **options)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
