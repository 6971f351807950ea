"""`Remote`: an object in a process of its own, with its own number of threads.

Every library settles its threads when it is loaded, and some of them spin for a while after their work; so each
contestant has a process, and what is measured in one is not moved by another's modules, threads and memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")  # the last is XLA's


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Failed(Exception):
    """What went wrong in the other process."""


def _serve(pipe: Connection, factory: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call methods as they are asked for, until nobody asks any more."""
    subject = None
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            method, given = pipe.recv()
            try:
                subject = factory(*args) if subject is None else subject
                answer = True, getattr(subject, method)(*given)
            except Exception as error:
                answer = False, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            pipe.send(answer)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in COUNTS}
    os.environ.update(dict.fromkeys(COUNTS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Remote:
    """`factory(*args)` in a new process whose libraries use so many threads."""

    def __init__(self, factory: Callable[..., Any], *args: Any, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, factory, args))
        with _environment(threads):
            self._process.start()
        theirs.close()

    def begin(self, method: str, *args: Any) -> None:
        """Ask for a call whose result `end` gives."""
        self._pipe.send((method, args))

    def end(self, patience: float | None = None) -> Any:
        """The result of the call that was begun. Raises Failed where it raised, the process has ended, or there is
        none after so many seconds."""
        try:
            if not self._pipe.poll(patience):
                raise Failed(f"no result within {patience:.0f} s")
            fine, result = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise Failed("its process has ended") from None
        if not fine:
            raise Failed(result)
        return result

    def call(self, method: str, *args: Any) -> Any:
        """Of the object there."""
        self.begin(method, *args)
        return self.end()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(2)
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextmanager
def busy() -> Iterator[None]:
    """Another program keeps one core busy."""
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as other:
        try:
            time.sleep(0.1)  # until it has started
            yield
        finally:
            other.kill()
