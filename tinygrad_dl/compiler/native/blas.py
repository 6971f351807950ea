"""NumPy's OpenBLAS: its functions, for machine code to call, and how many threads it uses."""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from . import engine

_lock = threading.Lock()
_blocks: set[object] = set()  # in which it keeps to one thread
_before = 1  # how many it used before them


def product_symbol(dtype: str) -> str | None:
    """Of the matrix product of `float32` or `float64`; its integers have 64 bits."""
    return symbol({"float32": "cblas_sgemm", "float64": "cblas_dgemm"}[dtype])


@functools.cache
def symbol(name: str) -> str | None:
    """Of a function of OpenBLAS's, which texts may call, None without it."""
    address = routine(name)
    if address is None:
        return None
    engine.add_symbol(_exported(name), address)
    return _exported(name)


@functools.cache
def routine(name: str) -> int | None:
    """The address of a function of the OpenBLAS that NumPy's wheel brings along, None without it."""
    folder = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "numpy.libs")
    for path in glob.glob(os.path.join(folder, "*openblas64*")):
        try:
            return ctypes.cast(getattr(ctypes.CDLL(path), _exported(name)), ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None


def _exported(name: str) -> str:
    return f"scipy_{name}64_" if name.startswith("cblas") else f"scipy_openblas_{name}64_"


def threads() -> int:
    """How many it uses, also while it keeps to one for a moment; 1 where NumPy has another BLAS."""
    with _lock:
        return _before if _blocks else _threads()


@contextmanager
def one_thread(seconds: float) -> Iterator[None]:
    """It keeps to one thread in the block, for so many seconds at most.

    Its own threads spin for 25 to 100 ms after a product. While a step was recorded and then compiled, they took a core
    from the compiler: a first call of the digits step took 113 ms, now 90, of softmax regression 65, now 46."""
    if threads() == 1:
        yield
        return
    block = object()
    timer = threading.Timer(seconds, _end, [block])
    timer.daemon = True
    try:
        _begin(block)
        timer.start()
        yield
    finally:
        _end(block)
        timer.cancel()


def _begin(block: object) -> None:
    global _before
    with _lock:
        if not _blocks:
            _before = _threads()
            _use(1)
        _blocks.add(block)


def _end(block: object) -> None:
    with _lock:
        if _blocks == {block} and _threads() == 1:  # else somebody has asked for another number in between
            _use(_before)
        _blocks.discard(block)


def _threads() -> int:
    getter = routine("get_num_threads")
    return ctypes.CFUNCTYPE(ctypes.c_int)(getter)() if getter is not None else 1


def _use(number: int) -> None:
    setter = routine("set_num_threads")
    if setter is not None:
        ctypes.CFUNCTYPE(None, ctypes.c_int)(setter)(number)
