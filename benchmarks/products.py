"""Matrix products of our own beside OpenBLAS's: one thread, and the shapes of layers, small to wide."""

from __future__ import annotations

import ctypes
import importlib
import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np

from .tables import Table, short, spread
from .timing import alternate, ratio

RNG = np.random.default_rng(0)
LEAST = 2e6  # multiplications of a measurement
# Rows, inner size and columns; is the first factor transposed, is the second?
SHAPES = [
    (64, 64, 128, False, True),  # a layer forward: x wᵀ
    (64, 128, 64, True, False),  # its weights' gradient: gᵀ x
    (64, 128, 64, False, False),  # its inputs': g w
    (64, 64, 10, False, True),  # a classifier's last layer
    (10, 64, 64, True, False),
    (256, 784, 10, False, True),
    (10, 256, 784, True, False),
    (1, 64, 128, False, True),  # one example
    (128, 784, 512, False, True),
    (512, 128, 784, True, False),
    (128, 256, 512, False, False),
    (512, 784, 2048, False, True),  # a wide network
    (512, 2048, 2048, False, False),
    (2048, 512, 2048, True, False),
]


def _ours(a: np.ndarray, b: np.ndarray, y: np.ndarray, transposed: tuple[bool, bool]) -> Callable[[], object]:
    """y = a b as a call of machine code."""
    from tinygrad_dl.compiler.axes import Node
    from tinygrad_dl.compiler.matrix_product import contiguous
    from tinygrad_dl.compiler.native import engine, products

    factors = tuple(Node("input", "", (), array.dtype) for array in (a, b))
    node = Node("gemm", "matmul", factors, a.dtype)
    inner = a.shape[0] if transposed[0] else a.shape[1]
    node.product = contiguous((y.shape[0], inner, y.shape[1]), transposed)
    written = products.write_product(node)
    with engine.Compilation() as compilation:
        for text in written.calls:
            compilation.add(text)
        (address,) = compilation.addresses([compilation.add(written.text, written.declares)])
    scratch = [_aligned(size) for size in written.scratch]
    pointers = np.array([array.ctypes.data for array in (a, b, y, *scratch)])
    places = pointers.ctypes.data + 8 * np.arange(len(pointers))
    call = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    start, kept = places.ctypes.data, (pointers, places, scratch)
    return lambda: call(start, 0, written.units) or kept  # which lives as long as the function


def _aligned(size: int) -> np.ndarray:
    """Bytes at the start of a line of the cache, as a program's memory is."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def _row(m: int, k: int, n: int, first: bool, second: bool) -> list[str]:
    a = RNG.normal(size=(k, m) if first else (m, k)).astype(np.float32)
    b = RNG.normal(size=(n, k) if second else (k, n)).astype(np.float32)
    x, w = a.T if first else a, b.T if second else b
    mine, theirs = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
    ours = _ours(a, b, mine, (first, second))
    calls: dict[str, Callable[[], object]] = {"ours": ours, "OpenBLAS": lambda: np.matmul(x, w, out=theirs)}
    times = alternate(calls, rounds=25, number=math.ceil(LEAST / (m * k * n)))
    assert np.linalg.norm(mine - theirs) <= 1e-5 * np.linalg.norm(theirs)
    name = f"{m} × {k} × {n}{', first transposed' if first else ''}{', second transposed' if second else ''}"
    share = ratio(times["ours"], times["OpenBLAS"])
    least = min(times["ours"]) / min(times["OpenBLAS"])
    rate = 2 * m * k * n / min(times["ours"]) / 1e9
    medians = [short(statistics.median(values)) for values in times.values()]
    return [name, *medians, f"{share:.2f}", f"{least:.2f}", spread(*times.values()), f"{rate:.0f}"]


def tables() -> Iterator[Table]:
    """Both on one thread."""
    with importlib.import_module("threadpoolctl").threadpool_limits(1, user_api="blas"):
        rows = [_row(*shape) for shape in SHAPES]
    header = ["rows × inner size × columns", "ours", "OpenBLAS", "ratio", "of minima", "quartiles", "GFLOP/s, best"]
    about = "Both include Python calls: about 0.3 µs in ours, 1 µs in np.matmul with out=."
    yield Table("Matrix products in float32 (µs)", header, rows, [about])
