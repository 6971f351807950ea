"""Worker processes: started with one BLAS thread each, replaced when they are killed, gone when their parent is."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from optuna.storages import BaseStorage

from .._source import describe
from .plan import Plan
from .queue import ATTEMPTS, Queue
from .worker import Objective, new_name, work

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def check_travels(plan: Plan, objective: Objective) -> None:
    """Raises TypeError for what cannot be sent to a process."""
    if isinstance(plan.storage, BaseStorage):
        raise TypeError("search: several workers need the path of a journal file or the URL of a database as storage")
    for name, part in (("objective", objective), ("sampler", plan.sampler), ("pruner", plan.pruner)):
        try:
            pickle.dumps(part)
        except Exception as error:
            raise TypeError(
                f"search: {name}: {describe(part)} cannot be sent to worker processes ({error}); with workers > 1 the "
                "objective is a function that a module defines, not a lambda, an inner function or a notebook's"
            ) from error


def run(plan: Plan, objective: Objective, workers: int) -> Queue:
    """Let so many processes run the plan's trials; gives its Queue.

    Raises RuntimeError, with what a worker said, if one ends by an exception; all others are ended then, and their
    trials put back, as by Ctrl-C."""
    queue = plan.queue()
    queue.fill()
    context = multiprocessing.get_context("spawn")
    crew: dict[int, _Member] = {}
    starts = workers + ATTEMPTS * queue.size  # enough for every trial to be lost as often as it may
    try:
        while crew or queue.unfinished():
            while len(crew) < workers and starts and queue.unfinished():
                member = _Member(context, plan, objective)
                crew[member.process.sentinel] = member
                starts -= 1
            if not crew:
                raise RuntimeError("search: the workers are killed again and again; is there enough memory for them?")
            for sentinel in wait(list(crew)):
                member = crew.pop(sentinel)  # type: ignore[arg-type]
                member.leave(queue)
    finally:
        for member in crew.values():
            member.process.terminate()
        for member in crew.values():
            member.process.join()
            queue.put_back_of(member.name, killed=False)
    return queue


class _Member:
    """A worker process, as its parent sees it."""

    def __init__(self, context: Any, plan: Plan, objective: Objective) -> None:
        self.name = new_name()
        self.words, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_main, args=(plan, objective, self.name, sender), daemon=True)
        with _one_thread():
            self.process.start()
        sender.close()

    def leave(self, queue: Queue) -> None:
        """It has ended: put back what it was running. Raises RuntimeError if it did not end well and was not killed."""
        self.process.join()
        queue.put_back_of(self.name)
        if self.process.exitcode > 0:
            try:
                said = self.words.recv()
            except EOFError:
                said = f"exit code {self.process.exitcode}; its output is above"
            raise RuntimeError(f"search: a worker has ended: {said}")
        self.words.close()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started in the block use one BLAS thread: workers share the processor among themselves."""
    before = {name: os.environ.get(name) for name in THREADS}
    try:
        os.environ.update(dict.fromkeys(THREADS, "1"))
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _main(plan: Plan, objective: Objective, name: str, words: Connection) -> None:
    """What a worker process does. Ctrl-C is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    if plan.sampler is not None:
        plan.sampler.reseed_rng()  # Optuna's own would draw the same in each worker
    try:
        work(plan.queue(), objective, plan.space, plan.seed, name)
    except BaseException:
        words.send(traceback.format_exc()[-4000:])
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
