"""`TensorBoard`: a run's rows as event files that TensorBoard shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer


class TensorBoard(Callback):
    """A callback: after every epoch each number of its row becomes a scalar of that name, at the run's step; what was
    measured of layer '0' is `gradient/0` and so on. View them with `tensorboard --logdir folder`.

    Raises ImportError without tensorboardX (extra `train`)."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError('TensorBoard needs tensorboardX: pip install "tinygrad-dl[train]"') from error
        self._open, self.folder = SummaryWriter, os.fspath(folder)
        self._writer: Any = None

    def begin(self, run: Trainer) -> None:
        """A resumed run continues from its step; TensorBoard does not show what was written beyond that step
        before."""
        self._writer = self._open(self.folder, purge_step=run.step + 1 if run.step else None)

    def epoch(self, run: Trainer) -> None:
        row = run.history.epochs[-1]
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, run.step)
        for layer, measures in row["layers"].items():
            for name, value in measures.items():
                if name != "kind":
                    self._writer.add_scalar(f"{name}/{layer}", value, run.step)
        self._writer.flush()

    def end(self, run: Trainer, error: BaseException | None) -> None:
        self._writer.close()
