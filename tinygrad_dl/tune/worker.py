"""A worker: takes trials from a queue and runs them, until all are finished."""

from __future__ import annotations

import math
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from ..scope import within
from .plan import Plan
from .queue import Queue
from .scales import Space
from .trial import Trial

BEAT = 5.0  # seconds between two signs of life
POLL = 0.5  # seconds between two looks for a trial that has come back

Objective = Callable[[Trial], Any]


def new_name() -> str:
    """A name for a worker that no other has, anywhere."""
    return f"{socket.gethostname()} {uuid.uuid4().hex[:12]}"


def alone(plan: Plan, objective: Objective) -> Queue:
    """Run the plan's trials in this process; gives its Queue."""
    queue = plan.queue()
    queue.fill()
    work(queue, objective, plan.space, plan.seed, new_name())
    return queue


def work(queue: Queue, objective: Objective, space: Space, seed: int, name: str) -> None:
    """Run trials under the worker's name. What an objective raises, a loss that is not finite excepted, ends the
    worker; the trial then waits again."""
    while True:
        if (taken := queue.take(name)) is not None:
            with _signs_of_life(queue, taken.number, name):
                _run(queue, taken, objective, space, seed)
        elif queue.unfinished():
            time.sleep(POLL)
            queue.put_back_silent()
        else:
            return


def _run(queue: Queue, taken: optuna.Trial, objective: Objective, space: Space, seed: int) -> None:
    number = taken.number
    params: dict[str, Any] = {}
    reported: list[float] = []

    def judge(loss: float, step: int) -> None:
        reported.append(loss)
        if queue.report(number, step, loss):
            raise optuna.TrialPruned(f"pruned after step {step}: worse than others were then")

    try:
        params.update({name: scale.suggest(taken, name) for name, scale in space.items()})
        trial = Trial(number, params, judge)
        with within(generator=np.random.default_rng([seed, number])):
            value = _answer(objective, trial)
    except (optuna.TrialPruned, FloatingPointError) as ended:
        queue.note(number, str(ended))
        queue.finish(number, TrialState.PRUNED, reported[-1] if reported else None)
    except BaseException as error:
        queue.put_back(lambda running: running.number == number, killed=False)
        error.add_note(f"in trial {number} of the search, with {params}; it will be run again")
        raise
    else:
        queue.finish(number, TrialState.COMPLETE, value)


def _answer(objective: Objective, trial: Trial) -> float:
    """What the objective gives, as a float.

    Raises TypeError for another kind, FloatingPointError if it is not finite, and KeyboardInterrupt if Ctrl-C has ended
    a training in it, whatever it made of the half of a history."""
    try:
        value = objective(trial)
    finally:
        if trial.interrupted:
            raise KeyboardInterrupt
    try:
        loss = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"search: expected the objective to return a number to minimise, got {value!r}") from None
    if not math.isfinite(loss):
        raise FloatingPointError(f"trial {trial.number}: the objective gave {loss}")
    return loss


@contextmanager
def _signs_of_life(queue: Queue, number: int, worker: str) -> Iterator[None]:
    """In the block, say every few seconds that the worker lives."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(BEAT):
            count += 1
            queue.sign(number, worker, count)

    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
