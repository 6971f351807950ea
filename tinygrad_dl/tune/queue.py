"""`Queue`: trials that workers take from a storage, and that come back to it when a worker is lost.

A trial is one record with its number from the beginning: it waits, runs, and is finished. A lost worker's trial
waits again, under its number, with its point; so nothing is lost, and whoever finishes it, it counts once.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

PATIENCE = 30.0  # seconds without a sign of life after which a running trial's worker counts as lost
ATTEMPTS = 3  # a trial that has been lost so often is not run again: it may be what kills the workers


class Queue:
    """The trials 0 to size - 1 of a study. The worker of a running trial stands in its attribute `worker`, with a
    number that changes as long as it lives."""

    def __init__(self, study: optuna.Study, storage: BaseStorage, size: int) -> None:
        self.study, self.storage, self.size = study, storage, size
        self.patience = PATIENCE
        self._id: int = storage.get_study_id_from_name(study.study_name)
        self._signs: dict[int, tuple[Any, float]] = {}  # of running trials: the latest sign of life, and since when

    def fill(self) -> None:
        """See that there are `size` trials. If several do this at once there may be more, which nobody takes."""
        for _ in range(len(self.trials()), self.size):
            self.study.enqueue_trial({})

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Asked of the study: before a database Optuna puts a cache, which must have seen a trial that is to be run."""
        found = self.study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in found if trial.number < self.size]

    def take(self, worker: str) -> optuna.Trial | None:
        """A trial that was waiting, now running; None if none is left. Ends those that were lost too often."""
        for trial in self.trials(TrialState.WAITING):
            lost = trial.user_attrs.get("lost", 0)
            key = self._key(trial.number)
            try:
                if not self.storage.set_trial_state_values(key, TrialState.RUNNING):
                    continue
            except UpdateFinishedTrialError:
                continue
            if lost < ATTEMPTS:
                self.storage.set_trial_user_attr(key, "worker", [worker, 0])
                return optuna.Trial(self.study, key)
            self.note(trial.number, f"{lost} workers were killed while they ran this trial")
            self.finish(trial.number, TrialState.FAIL)
        return None

    def sign(self, number: int, worker: str, count: int) -> None:
        """Give a sign of life."""
        self._unless_finished(self.storage.set_trial_user_attr, number, "worker", [worker, count])

    def report(self, number: int, step: int, loss: float) -> bool:
        """Write down a loss. Is the trial to be pruned? What an earlier attempt has reported is replaced."""
        self._unless_finished(self.storage.set_trial_intermediate_value, number, step, loss)
        trial = copy.copy(self.storage.get_trial(self._key(number)))
        trial.intermediate_values = {s: v for s, v in trial.intermediate_values.items() if s <= step}
        return bool(self.study.pruner.prune(self.study, trial))

    def note(self, number: int, text: str) -> None:
        self._unless_finished(self.storage.set_trial_user_attr, number, "note", text)

    def finish(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Finish a trial; one that somebody else has finished stays as it is."""
        values = None if value is None else [value]
        self.study.sampler.after_trial(self.study, self.storage.get_trial(self._key(number)), state, values)
        self._unless_finished(self.storage.set_trial_state_values, number, state, values)

    def put_back(self, lost: Callable[[FrozenTrial], bool], killed: bool = True) -> None:
        """Let the running trials whose worker is lost wait again; a trial counts how many were killed."""
        for trial in self.trials(TrialState.RUNNING):
            if lost(trial):
                if killed:
                    count = trial.user_attrs.get("lost", 0) + 1
                    self._unless_finished(self.storage.set_trial_user_attr, trial.number, "lost", count)
                self._unless_finished(self.storage.set_trial_state_values, trial.number, TrialState.WAITING)

    def put_back_of(self, worker: str, killed: bool = True) -> None:
        """Those of a worker that is known to be lost."""
        self.put_back(lambda trial: trial.user_attrs.get("worker", [""])[0] == worker, killed)

    def put_back_silent(self) -> None:
        """Those that have given no sign of life for so long, by the clock of this process: clocks may differ."""
        now = time.monotonic()
        running = {trial.number: trial.user_attrs.get("worker") for trial in self.trials(TrialState.RUNNING)}
        before = self._signs
        self._signs = {
            number: before[number] if number in before and before[number][0] == sign else (sign, now)
            for number, sign in running.items()
        }
        self.put_back(lambda t: t.number in self._signs and now - self._signs[t.number][1] >= self.patience)

    def unfinished(self) -> bool:
        return bool(self.trials(TrialState.WAITING, TrialState.RUNNING))

    def _key(self, number: int) -> int:
        return int(self.storage.get_trial_id_from_study_id_trial_number(self._id, number))

    def _unless_finished(self, write: Callable[..., Any], number: int, *values: Any) -> None:
        try:
            write(self._key(number), *values)
        except UpdateFinishedTrialError:
            return  # by a worker that had the trial before, and was only slow
