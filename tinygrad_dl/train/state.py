"""The state of a run: all that decides how it goes on, taken and put back."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .callbacks import Callback
from .history import Running
from .step import generators, set_generators

if TYPE_CHECKING:
    from .trainer import Trainer


def state_of(run: Trainer) -> dict[str, Any]:
    """The state, as nested dicts."""
    own = {name: getattr(run, name) for name in ("epoch", "step", "began", "_due")}
    return {
        "model": run.model.state_dict(),
        "optimizer": {"kind": type(run.optimizer).__name__, **run.optimizer.state_dict()},
        "schedule": run.schedule and run.schedule.state_dict(),
        "generators": {name: g.bit_generator.state for name, g in generators(run.model).items()},
        "loader": run._data and run._data.state_dict(),
        "history": run.history.state_dict(),
        "callbacks": {name: c.state_dict() for name, c in _named(run.callbacks).items()},
        "trainer": {**own, "running": copy.deepcopy(vars(run._running))},
    }


def set_state(run: Trainer, state: Mapping[str, Any]) -> None:
    """Put a state back. Raises ValueError for that of another kind of run; part of it may then be back."""
    run.model.load_state_dict(state["model"])
    if state["optimizer"]["kind"] != type(run.optimizer).__name__:
        other, mine = state["optimizer"]["kind"], type(run.optimizer).__name__
        raise ValueError(f"Trainer: the state is that of an optimizer {other}, this Trainer has {mine}")
    if (run.schedule is None) is not (state["schedule"] is None):
        raise ValueError("Trainer: the state and this Trainer are not alike in having a schedule")
    if run.schedule is not None:
        run.schedule.load_state_dict(state["schedule"])
    run.optimizer.load_state_dict(state["optimizer"])  # after the schedule, whose rates callbacks may have changed
    set_generators(run.model, state["generators"])
    if run._data is not None and state["loader"] is not None:
        run._data.load_state_dict(state["loader"])
    run.history.load_state_dict(state["history"])
    listeners = _named(run.callbacks)
    for name, kept in state["callbacks"].items():
        if name in listeners:
            listeners[name].load_state_dict(kept)
        elif kept:
            raise ValueError(f"Trainer: the state has one of a callback {name}, this Trainer has none")
    own = dict(state["trainer"])
    run._running = Running()
    vars(run._running).update(copy.deepcopy(own.pop("running")))
    vars(run).update(own)


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Each callback under its kind, with a number if there are several of a kind."""
    kinds = [type(callback).__name__ for callback in callbacks]
    numbers = [kinds[:i].count(kind) for i, kind in enumerate(kinds)]
    return {k + (f" {n + 1}" if n else ""): c for k, n, c in zip(kinds, numbers, callbacks, strict=True)}
