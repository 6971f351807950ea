"""`Trial`: what an objective is called with: a point of the space, and an ear for the losses on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..train import Callback

if TYPE_CHECKING:
    from ..train import Trainer


class Trial(Callback):
    """A trial of a search: `trial["lr"]` is a parameter, `trial.params` has all, `trial.number` counts from 0.

    It is a Callback: `Trainer(..., callbacks=[trial])` reports the dev loss after every epoch, and the trial is ended
    early ("pruned") if it is worse than earlier trials were at that epoch. In your own training loop, call `report`.
    """

    def __init__(self, number: int, params: Mapping[str, Any], judge: Callable[[float, int], None]) -> None:
        self.number, self.params = number, dict(params)
        self.interrupted = False  # by Ctrl-C while a Trainer ran
        self._judge = judge

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError for a parameter that the space does not have."""
        if name not in self.params:
            raise KeyError(f"trial: unknown parameter {name!r}; the space has {', '.join(self.params)}")
        return self.params[name]

    def report(self, loss: float, step: int) -> None:
        """Report the loss after a step or epoch. Ends a bad trial by an exception that `search` catches; raises
        FloatingPointError, which also ends it, for a loss that is NaN or infinite."""
        if not math.isfinite(loss):
            raise FloatingPointError(f"trial {self.number}: the loss is {loss} after step {step}")
        self._judge(float(loss), int(step))

    def epoch(self, run: Trainer) -> None:
        row = run.history.epochs[-1]
        if "dev_loss" not in row:
            raise ValueError("trial: fit needs dev data: trials are compared by their dev loss")
        self.report(row["dev_loss"], run.epoch)

    def end(self, run: Trainer, error: BaseException | None) -> None:
        self.interrupted = self.interrupted or "Ctrl-C" in run.ended

    def __repr__(self) -> str:
        return f"<Trial {self.number}: {', '.join(f'{name}={value!r}' for name, value in self.params.items())}>"
