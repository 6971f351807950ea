"""`Results`: what a search has found, in the units of its space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .scales import Space

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    state: "complete", "pruned" (ended early because it was worse than others, or not finite) or "failed" (its worker
        was killed too often). value: the objective's result; for a pruned trial the last loss that it reported, or
        None.
    losses: the reported losses, by step. note: why it was ended, or "".
    """

    number: int
    params: dict[str, Any]
    state: str
    value: float | None
    losses: dict[int, float] = field(default_factory=dict)
    note: str = ""


class Results:
    """The finished trials of a search; `study` is the Optuna study, with all its features."""

    def __init__(self, study: Study, space: Space, size: int) -> None:
        from optuna.trial import TrialState

        self.study, self.space = study, dict(space)
        states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        self.trials = [
            Outcome(
                trial.number,
                {name: scale.outer(trial.params[scale.key(name)])
                 for name, scale in space.items() if scale.key(name) in trial.params},
                states[trial.state], trial.value, dict(trial.intermediate_values), trial.user_attrs.get("note", ""),
            )
            for trial in study.get_trials() if trial.state in states and trial.number < size
        ]  # fmt: skip

    @property
    def best(self) -> Outcome:
        """The complete trial with the lowest value. Raises ValueError if none was completed."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        if not complete:
            notes = "; ".join(dict.fromkeys(trial.note for trial in self.trials if trial.note))
            raise ValueError(f"Results: none of {len(self.trials)} trials was completed{notes and ': '}{notes}")
        return min(complete, key=lambda trial: (trial.value, trial.number))

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        states = [trial.state for trial in self.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        best = f"; best {self.best.value:.4g} with {self.best.params}" if "complete" in states else ""
        return f"<Results: {counts or 'no trial'}{best}>"
