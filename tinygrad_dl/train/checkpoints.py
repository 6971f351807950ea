"""Checkpoints: a run's whole state in a file, written while it trains, checked when it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._tensor import Tensor
from ..files import load, save, unfinished
from .callbacks import Callback

if TYPE_CHECKING:
    from .trainer import Trainer

KIND, VERSION = "tinygrad_dl.training", "1"  # in the file's metadata
PATTERN = "step-*.safetensors"


class Checkpoints(Callback):
    """Writes a run's state to a folder after every epoch and every `every` steps; keeps the latest two files.

    A file is complete or not there at all (`tg.save` puts it in place in one operation), so a run may be killed at any
    moment. Files of later steps, which a run that was put back to an earlier one leaves, go with the next save."""

    def __init__(self, folder: str | os.PathLike[str], every: int | None) -> None:
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ValueError(f"Trainer: save_every: expected a number of steps >= 1, got {every!r}")
        self.folder, self.every = Path(folder), every
        self.saved: int | None = None  # the step of the latest file

    def begin(self, run: Trainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in unfinished(self.folder):  # of a run that was killed
            file.unlink(missing_ok=True)

    def batch(self, run: Trainer) -> None:
        if self.every is not None and run.step % self.every == 0:
            self.save(run)

    def epoch(self, run: Trainer) -> None:
        self.save(run)

    def end(self, run: Trainer, error: BaseException | None) -> None:
        """What an error leaves behind in the middle of a step is not saved."""
        if error is None and run.step != self.saved:
            self.save(run)

    def save(self, run: Trainer) -> None:
        write(self.folder / f"step-{run.step:08}.safetensors", run.state_dict())
        self.saved = run.step
        files = self.files()
        later = [f for f in files if _step(f) > run.step]
        for old in [*later, *[f for f in files if f not in later][:-2]]:
            old.unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """The checkpoints in the folder, the earliest first."""
        return sorted(self.folder.glob(PATTERN), key=_step)

    def source(self, resume: bool) -> Path | None:
        """The checkpoint to go on from, None to begin anew. Raises FileExistsError if that would mix two runs."""
        files = self.files()
        if files and not resume and self.saved is None:
            raise FileExistsError(
                f"fit: {self.folder} holds the checkpoints of a run; fit(..., resume=True) goes on with it, another "
                "folder begins anew"
            )
        return files[-1] if files and resume else None


def _step(path: Path) -> int:
    digits = path.stem.removeprefix("step-")
    return int(digits) if digits.isdigit() else -1


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Save a run's state. Raises FloatingPointError for weights that are not finite: nobody would go back to them."""
    for name, value in state["model"].items():
        if value.dtype.kind == "f" and not np.isfinite(value.data).all():
            raise FloatingPointError(
                f"Trainer: {name} is not finite, so no checkpoint was written; the latest one stays. Lower the "
                "learning rate, or clip the gradient"
            )
    save(path, state, {KIND: VERSION})


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A run's state from a file. Raises ValueError for a damaged or foreign one, naming the latest good one before it,
    and FileNotFoundError if there is none."""
    target = Path(path)
    try:
        state = load(target)
        if state.metadata.get(KIND) != VERSION:
            found = state.metadata.get(KIND)
            raise ValueError(
                f"{target} is no checkpoint of a Trainer" if found is None else f"{target} has version {found} of the "
                f"checkpoint's form, this library reads {VERSION}"
            )  # fmt: skip
    except ValueError as error:
        raise ValueError(f"Trainer: the checkpoint is refused: {error}; {_good_before(target)}") from None
    for part in ("generators", "loader"):
        state[part] = _arrays(state[part])
    return dict(state)


def _good_before(refused: Path) -> str:
    files = sorted(refused.parent.glob(PATTERN), key=_step, reverse=True)
    for file in files:
        if _step(file) < _step(refused) or _step(refused) < 0:
            try:
                if load(file).metadata.get(KIND) == VERSION:
                    return f"the previous good one is {file}: fit(..., resume={str(file)!r}) continues from there"
            except ValueError:
                continue
    return "there is no good one before it; start anew in another folder"


def _arrays(tree: Any) -> Any:
    """A generator's state with arrays for the Tensors that `load` gives."""
    if isinstance(tree, dict):
        return {key: _arrays(value) for key, value in tree.items()}
    return tree.data if isinstance(tree, Tensor) else tree
