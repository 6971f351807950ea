"""`Panda`: one training that is watched and steered while it runs, and put back when a change has hurt."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..train import Callback, checkpoints

if TYPE_CHECKING:
    from ..train import Trainer

COMMANDS = {
    "lr": "lr 0.003: the learning rate of the first group; other groups and the schedule keep their ratio to it",
    "momentum": "momentum 0.95: momentum, or Adam's beta 1",
    "clip": "clip 1: the maximum gradient norm; clip off",
    "back": "back 3: at the end of the current epoch, restore everything to its state after epoch 3",
    "stop": "stop: end the run after the current batch",
}


class Panda(Callback):
    """A callback that executes commands while a Trainer runs; each change is an event of kind "change" in the history.

    folder: for this run only. Its text file `commands` takes commands: append one per line, from another terminal.
        `watch.html` shows the run so far and reloads itself in a browser; writing it takes at most about a tenth of
        the time. `epoch-00003.safetensors` and so on are checkpoints to go back to, one for each epoch.
    view: write `watch.html` (needs matplotlib, extra `train`).

    The commands: `lr 0.003`, `momentum 0.95`, `clip 1`, `clip off`, `back 3`, `stop`. A line that is not a command, or
    cannot be executed, changes nothing; the reason is printed. In a notebook, run `fit` in a thread and call
    `tell("lr 0.003")`.
    Raises ImportError for a view without matplotlib.
    """

    def __init__(self, folder: str | os.PathLike[str], view: bool = True) -> None:
        if view and importlib.util.find_spec("matplotlib") is None:
            raise ImportError('Panda: the view needs matplotlib: pip install "tinygrad-dl[train]"; or view=False')
        self.folder, self.view = Path(folder), view
        self.clip: float | str | None = None  # as a command has set it; None: none has
        self._own: list[float | None] = []  # the Trainer's clip, once it has begun
        self._told: deque[tuple[str, str]] = deque()
        self._back: int | None = None  # the epoch to go back to
        self._read = 0  # bytes of the file of commands
        self._drawn, self._cost = -math.inf, 0.0  # when the view was last written, and how long that took

    def tell(self, command: str) -> None:
        """Give a command, from any thread; it is executed after the current batch. Raises ValueError for an unknown
        command or an invalid value."""
        self._told.append(parse(command))

    # as a callback

    def begin(self, run: Trainer) -> None:
        """Raises FileExistsError for the folder of another run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if run.step == 0:
            if next(self.folder.glob("epoch-*.safetensors"), None) is not None:
                raise FileExistsError(f"Panda: {self.folder} holds another run's checkpoints; give this one its own")
            checkpoints.write(self._file(0), run.state_dict())
        if not self._commands.exists():
            self._commands.write_text("".join(f"# {line}\n" for line in COMMANDS.values()), "utf-8")
        self._read = self._commands.stat().st_size
        self._own = self._own or [run.clip]
        self._apply_clip(run)
        self._obey(run)

    def batch(self, run: Trainer) -> None:
        self._obey(run)

    def epoch(self, run: Trainer) -> None:
        checkpoints.write(self._file(run.epoch), run.state_dict())
        self._obey(run)
        while self._back is not None:
            self._go_back(run, self._back)
            self._obey(run)
        if time.perf_counter() - self._drawn > 10 * self._cost:
            self._draw(run)

    def end(self, run: Trainer, error: BaseException | None) -> None:
        self._draw(run)

    def state_dict(self) -> dict[str, Any]:
        return {"clip": self.clip}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.clip = state["clip"]

    # commands

    def _obey(self, run: Trainer) -> None:
        """In order: what comes after a `back` waits for it."""
        self._read_commands()
        while self._told and self._back is None:
            command, value = self._told.popleft()
            try:
                self._do(run, command, value)
            except ValueError as error:
                print(error, flush=True)

    def _read_commands(self) -> None:
        if not self._commands.exists() or self._commands.stat().st_size <= self._read:
            return
        with open(self._commands, "rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]  # a line may be half written
        self._read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if line.strip() and not line.startswith("#"):
                try:
                    self.tell(line)
                except ValueError as error:
                    print(error, flush=True)

    def _do(self, run: Trainer, command: str, value: str) -> None:
        if command == "stop":
            run.stop("stopped by a command")
        elif command == "back":
            self._check_back(int(value))
        elif command == "clip":
            before, self.clip = self.clip, value if value == "off" else float(value)
            self._apply_clip(run)
            self._note(run, f"clip {'' if before is None else f'{before} -> '}{self.clip}")
        elif command == "lr":
            before = run.rate
            _set_rate(run, float(value))
            self._note(run, f"learning rate {before:g} -> {run.rate:g}")
        else:
            before = _set_momentum(run, float(value))
            self._note(run, f"momentum {before:g} -> {float(value):g}")

    def _apply_clip(self, run: Trainer) -> None:
        clip = self._own[0] if self.clip is None else None if self.clip == "off" else float(self.clip)
        if clip != run.clip:
            run.clip = clip

    def _check_back(self, epoch: int) -> None:
        if not self._file(epoch).exists():
            there = ", ".join(str(int(f.stem.removeprefix("epoch-"))) for f in sorted(self.folder.glob("epoch-*")))
            raise ValueError(f"Panda: back {epoch}: there is no checkpoint of epoch {epoch}, only of {there}")
        self._back = epoch

    def _go_back(self, run: Trainer, epoch: int) -> None:
        """At the end of an epoch, when nothing of the loop is under way. What has happened stays in the history."""
        left, events, self._back = run.epoch, run.history.events, None
        run.load_state_dict(checkpoints.read(self._file(epoch)))
        run.history.events = events
        self._apply_clip(run)
        self._note(run, f"back from epoch {left} to epoch {epoch}")
        for later in range(epoch + 1, left + 1):
            self._file(later).unlink(missing_ok=True)

    def _note(self, run: Trainer, text: str) -> None:
        run.history.note("change", text, run.epoch + 1, run.step)

    # files

    @property
    def _commands(self) -> Path:
        return self.folder / "commands"

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05}.safetensors"

    def _draw(self, run: Trainer) -> None:
        """Write the run's report as a page that loads itself anew."""
        if not self.view or not len(run.history):
            return
        from ..train.report import page

        began = time.perf_counter()
        text = page(run.history, run.model, []).replace("<head>", '<head>\n<meta http-equiv="refresh" content="2">', 1)
        new = self.folder / "watch.html.new"
        new.write_text(text, "utf-8")
        new.replace(self.folder / "watch.html")
        self._drawn = time.perf_counter()
        self._cost = self._drawn - began


def parse(line: str) -> tuple[str, str]:
    """A command and its value. Raises ValueError, with what there is, for anything else."""
    command, *values = line.split()[:3] or [""]
    if command not in COMMANDS:
        raise ValueError(f"Panda: unknown command {line.strip()!r}; there are {', '.join(COMMANDS)}")
    value = values[0] if values else ""
    if len(values) != (command != "stop") or not _fits(command, value):
        raise ValueError(f"Panda: {line.strip()!r}: expected {COMMANDS[command]}")
    return command, value


def _fits(command: str, value: str) -> bool:
    if command == "stop" or (command, value) == ("clip", "off"):
        return True
    if command == "back":
        return value.isdecimal()
    try:
        number = float(value)
    except ValueError:
        return False
    return 0 <= number < 1 if command == "momentum" else 0 < number < math.inf


def _set_rate(run: Trainer, rate: float) -> None:
    """Multiply all rates, of groups and schedule, so that the first becomes `rate`."""
    before = run.rate
    if before == 0:
        raise ValueError("Panda: lr: the schedule has set it to 0; wait until it is above 0")
    factor = rate / before
    if run.schedule is not None:
        run.schedule.scale(factor)
        return
    for group in run.optimizer.param_groups:
        group["lr"] *= factor


def _set_momentum(run: Trainer, value: float) -> float:
    """Set it in all groups; gives the first's before. Raises ValueError for an optimizer that has none."""
    groups = run.optimizer.param_groups
    if "momentum" in groups[0]:
        before = float(groups[0]["momentum"])
        if before == 0 < value:
            raise ValueError(f"Panda: momentum: {type(run.optimizer).__name__} was made without it")
        for group in groups:
            group["momentum"] = value
    elif "betas" in groups[0]:
        before = float(groups[0]["betas"][0])
        for group in groups:
            group["betas"] = (value, group["betas"][1])
    else:
        raise ValueError(f"Panda: momentum: {type(run.optimizer).__name__} has none")
    return before
