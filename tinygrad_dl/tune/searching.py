"""`search`: many trainings of a space, by one worker in this process or by many, the best taken."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._source import describe
from ._optuna import needed
from .results import Results
from .scales import Space, check_point, check_space
from .trial import Trial

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage


def search(
    objective: Callable[[Trial], Any],
    space: Space,
    trials: int | Sequence[Mapping[str, Any]],
    sampler: BaseSampler | None = None,
    workers: int = 1,
    storage: str | os.PathLike[str] | BaseStorage | None = None,
    seed: int = 0,
    *,
    pruner: BasePruner | None = None,
    name: str = "search",
) -> Results:
    """Run the objective at points of the space, until so many trials are finished; lower values are better.

    objective: a function of a `Trial` that returns a number, usually the lowest dev loss. With several workers it must
        be a module-level function, and the program's main part must be under `if __name__ == "__main__"`, since
        processes import it.
    space: scales by name. trials: how many, or the points themselves, such as `grid(space, 5)`.
    sampler: an Optuna sampler, or CoarseToFine. Default: random points, where each value is a pure function of the
        seed, the trial number and the parameter's name.
    workers: the number of processes, with one BLAS thread each; 1 runs in this process.
    storage: the path of a journal file, the URL of any Optuna storage, `postgresql+psycopg://…`, or, with one worker,
        an Optuna storage object. All calls of `search` with the same storage work on the same trials, also from other
        machines; an interrupted search continues, and one with more `trials` adds to it. Default: nothing is saved.
    seed: of the points, and of all randomness in a trial: initial weights, shuffling, dropout.
    pruner: ends bad trials early, based on the losses that they report. Default: Optuna's MedianPruner, which compares
        with the median at the same epoch, once five trials are complete.
    name: of the study in the storage.

    A trial whose worker was killed is run again. One whose loss is NaN or infinite, or whose training raises
    FloatingPointError, counts as pruned. Any other exception ends the search; the next search runs that trial again.
    Before any trial runs, raises TypeError or ValueError for arguments of the wrong type or out of range, KeyError for
    points whose parameters are not those of the space, and ImportError without Optuna.
    """
    _check(objective, trials, workers, seed, name)
    check_space(space)
    points, size = (None, trials) if isinstance(trials, int) else (list(trials), len(trials))
    for i, point in enumerate(points or ()):
        check_point(space, point, f"search: trials: point {i}")
    if points is not None and sampler is not None:
        raise ValueError("search: trials gives the points, so nothing is sampled: leave out the sampler")
    needed()
    from .plan import Plan, in_memory
    from .worker import alone

    plan = Plan(dict(space), size, points, sampler, pruner, storage, seed, name)
    if workers == 1:
        return Results(alone(plan, objective).study, space, size)
    from .processes import check_travels, run

    check_travels(plan, objective)
    if storage is not None:
        return Results(run(plan, objective, workers).study, space, size)
    with tempfile.TemporaryDirectory(prefix="search-") as folder:
        queue = run(dataclasses.replace(plan, storage=Path(folder, "journal")), objective, workers)
        return Results(in_memory(queue).study, space, size)


def _check(objective: Any, trials: Any, workers: Any, seed: Any, name: Any) -> None:
    if not callable(objective):
        raise TypeError(f"search: objective: expected a function of a Trial, got {describe(objective)}")
    if not isinstance(trials, int | Sequence) or isinstance(trials, bool | str):
        raise TypeError(f"search: trials: expected how many, or a list of points, got {describe(trials)}")
    if (trials if isinstance(trials, int) else len(trials)) < 1:
        raise ValueError(f"search: trials: expected at least one, got {trials}")
    for what, value, least in (("workers", workers, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"search: {what}: expected an integer >= {least}, got {value!r}")
    if not isinstance(name, str) or not name:
        raise ValueError(f"search: name: expected a name for the study, got {name!r}")
