"""Backends: what turns a Program into a function of arrays, by name.

"native" needs the extra of that name (llvmlite); "numpy" needs nothing; "interpreter" is the meaning itself. "auto" is
native where it is installed and TINYGRAD_DL_NATIVE is not 0, else numpy.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from ..graph import Array
from .program import Program

Run = Callable[[list[Array]], list[Array]]
QUIET = 0.03  # seconds of a recording in which NumPy's BLAS keeps to one thread: a small step takes 5 ms
NAMES = ("auto", "native", "numpy", "interpreter")


def native_wanted() -> bool:
    """Is llvmlite installed, and not switched off by TINYGRAD_DL_NATIVE=0?"""
    return importlib.util.find_spec("llvmlite") is not None and os.environ.get("TINYGRAD_DL_NATIVE") != "0"


def builder(name: str) -> Callable[[Program], Run]:
    """What builds programs of which one runs at a time.

    Raises ValueError for another name, ImportError where the package for it is missing."""
    if name not in NAMES:
        raise ValueError(f"compile: expected backend to be one of {', '.join(map(repr, NAMES))}, got {name!r}")
    name = _meant(name)
    if name == "native":
        if importlib.util.find_spec("llvmlite") is None:
            raise ImportError('compile: the native backend needs llvmlite; pip install "tinygrad-dl[native]"')
        from .native.backend import build  # an import of 0.05 s that only this needs
        from .native.memory import Arena

        return partial(build, arena=Arena())
    if name == "numpy":
        from .numpy_backend import build as build_numpy

        return build_numpy
    return interpret


def recording(name: str) -> AbstractContextManager[None]:
    """While a step is recorded for a backend. Machine code is made right after, on all cores."""
    if _meant(name) != "native":
        return nullcontext()
    from .native.blas import one_thread

    return one_thread(QUIET)


def _meant(name: str) -> str:
    return name if name != "auto" else "native" if native_wanted() else "numpy"


def interpret(program: Program) -> Run:
    """A program as a function by its meaning; what comes out owns its memory."""

    def run(arrays: list[Array]) -> list[Array]:
        taken = {id(a) for a in (*arrays, *program.constants.values())}
        outputs = []
        for y in program.run(arrays):
            outputs.append(y if y.base is None and id(y) not in taken else y.copy())
            taken.add(id(outputs[-1]))
        return outputs

    return run
