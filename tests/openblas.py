"""The threads of NumPy's OpenBLAS, asked for and set from outside."""

from __future__ import annotations

import ctypes

import pytest

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import blas

there = pytest.mark.skipif(blas.routine("get_num_threads") is None, reason="NumPy has another BLAS here")


def threads() -> int:
    """How many it uses."""
    return ctypes.CFUNCTYPE(ctypes.c_int)(blas.routine("get_num_threads"))()


def use(number: int) -> None:
    """It uses so many from now on."""
    ctypes.CFUNCTYPE(None, ctypes.c_int)(blas.routine("set_num_threads"))(number)
