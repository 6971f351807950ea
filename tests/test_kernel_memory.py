"""Kernels that walk through much memory fetch ahead, which changes no result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_dl import ops

pytest.importorskip("llvmlite")

from llvmlite import binding
from written import Writer, check

from tinygrad_dl.compiler.native import kernel_memory

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
SUM, WHERE = ops.sum, ops.choice._where


def test_the_maker_of_the_processor_is_the_one_that_llvm_knows() -> None:
    assert kernel_memory.is_amd() == binding.get_host_cpu_name().startswith(("znver", "bdver", "btver", "amdfam"))


@pytest.fixture(params=[False, True], ids=["Intel", "AMD"])
def amd(request: Any) -> bool:
    return bool(request.param)


@pytest.fixture
def fetched(monkeypatch: Any, amd: bool) -> list[Any]:
    """Whatever is fetched ahead, as if everything were too large for the caches."""
    monkeypatch.setattr(kernel_memory, "FLAT", 0)
    monkeypatch.setattr(kernel_memory, "DOWN", 0)
    monkeypatch.setattr(kernel_memory, "is_amd", lambda: amd)
    found: list[Any] = []
    fetch = kernel_memory.KernelMemory.fetch
    monkeypatch.setattr(kernel_memory.KernelMemory, "fetch", lambda *a: found.append(a) or fetch(*a))
    return found


@pytest.mark.parametrize("size", [2, 31, 64, 1000])
def test_fetching_ahead_changes_nothing(fetched: list[Any], amd: bool, size: int) -> None:
    w, rng = Writer(), np.random.default_rng(size)
    x, m = w.input(rng.normal(size=size).astype(F32)), w.input(rng.random(size, F32))
    check(w.program(w(np.divide, w(np.multiply, x, m), w(np.sqrt, m))), w.arrays)
    assert bool(fetched) is not amd  # which look ahead in flat memory themselves


@pytest.mark.parametrize("shape", [(1, 5), (7, 32), (40, 70)])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_fetching_ahead_down_the_columns_changes_nothing(fetched: list[Any], amd: bool, shape: Any, dtype: Any) -> None:
    w, rng = Writer(), np.random.default_rng(0)
    x, keep = w.input(rng.normal(size=shape).astype(dtype)), w.input(rng.random(shape) < 0.5)
    mean = w(np.multiply, w(SUM, x, axis=0), 1 / shape[0])
    centred = w(np.subtract, x, mean)
    scale = w(np.sqrt, w(np.add, w(SUM, w(np.square, centred), axis=0), 1e-5))
    check(w.program(w(WHERE, keep, w(np.divide, centred, scale), 0.0), scale), w.arrays)
    assert bool(fetched) is not (amd and shape[0] == 1)  # a single row is flat
