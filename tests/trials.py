"""Objectives that worker processes import; as a program, a search whose worker is killed again and again."""

import ast
import os
import signal
import sys
from pathlib import Path

from runs import die_after

from tinygrad_dl import random, tune
from tinygrad_dl.tune import queue

SPACE = {"lr": tune.log_uniform(1e-4, 1.0), "momentum": tune.one_minus_log(0.9, 0.999), "units": tune.integer(50, 100)}
BLAS = "OPENBLAS_NUM_THREADS"


def bowl(trial):
    """Something to be minimised, with some of the trial's own random numbers in it."""
    return abs(trial["lr"] - 0.01) + trial["momentum"] + float(random.uniform().item())


class Deadly:
    """The bowl; a worker that comes to trial 2 for the first time kills itself. Writes down who runs what."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def __call__(self, trial):
        with open(self.folder / "log", "a") as log:
            log.write(f"{(trial.number, os.getpid(), os.environ[BLAS])}\n")
        if trial.number == 2 and self.log().count(2) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return bowl(trial)

    def log(self):
        """The numbers of the trials, as they were run."""
        return [number for number, _, _ in self.entries()]

    def entries(self):
        return [ast.literal_eval(line) for line in (self.folder / "log").read_text().splitlines()]


def faulty(trial):
    raise LookupError("no such data")


def reporting(trial):
    for step in range(3):
        trial.report(bowl(trial) + step, step)
    return bowl(trial)


def main(journal, size, kills, reach):
    """Kill a search at random moments, and let it end; print the exit codes."""
    import traceback

    import numpy as np

    queue.PATIENCE = 0.0
    tune.search(reporting, SPACE, size)  # so that all is imported
    left = die_after(10**9)
    tune.search(reporting, SPACE, size, storage=f"{journal}.whole")
    sys.setprofile(None)
    most, codes = 10**9 - left[0], []
    for calls in [*np.random.default_rng(0).integers(int(reach * most), size=kills).tolist(), 10**9]:
        pid = os.fork()
        if not pid:
            try:
                die_after(calls)
                tune.search(reporting, SPACE, size, storage=journal)
                sys.setprofile(None)
                os._exit(0)
            except BaseException:
                sys.setprofile(None)
                traceback.print_exc()
                os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(codes)


if __name__ == "__main__":
    main(*ast.literal_eval(sys.argv[1]))
