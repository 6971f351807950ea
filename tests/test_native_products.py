"""Matrix products of the native backend: by themselves, beside memory that they must not touch, and in programs."""

from __future__ import annotations

import ctypes
import mmap
from itertools import pairwise
from itertools import product as pairs
from typing import Any

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import ops

pytest.importorskip("llvmlite")

from written import Writer, check

from tinygrad_dl.compiler.axes import Node
from tinygrad_dl.compiler.matrix_product import contiguous
from tinygrad_dl.compiler.native import engine, packed, products
from tinygrad_dl.compiler.native.calling import Written

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
MATMUL, RESHAPE, TRANSPOSE = ops.matmul, ops.reshape, ops.transpose
GUARD = 512  # elements around memory that code may write


class Guarded:
    """Memory at the start of a line of the cache, of so many elements, between others that must stay as they are."""

    def __init__(self, size: int, dtype: Any) -> None:
        memory = np.full(size + 2 * GUARD + 64, np.nan, dtype)
        start = (-memory.ctypes.data % 64) // dtype.itemsize + GUARD
        self.before, self.after = memory[start - GUARD : start], memory[start + size :]
        self.inside = memory[start : start + size]
        self.before[:] = self.after[:] = 7

    def check(self) -> None:
        assert (self.before == 7).all()
        assert (self.after == 7).all()


def before_a_wall(array: Any) -> Any:
    """A copy that ends where memory ends which may be read."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None)
    size = -(-array.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    address = copy.ctypes.data + array.nbytes
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), 0):
        pytest.skip("this system protects no memory")
    return copy


def node(shape: tuple[int, int, int], transposed: tuple[bool, bool], dtype: Any, adds: bool = False) -> Node:
    arguments = tuple(Node("input", "", (), dtype) for _ in range(3 if adds else 2))
    found = Node("gemm", "matmul", arguments, dtype)
    found.product = contiguous(shape, transposed)
    return found


def check_product(written: Written, node: Node, cuts: int = 1) -> None:
    """The code computes the product, whatever ranges it is called for, and touches nothing else."""
    product, dtype = node.product, node.dtype
    m, k, n = product.shape
    rng = np.random.default_rng(m * k + n)
    x, w = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    factors = zip((x, w), product.transposed, strict=True)
    a, b = (before_a_wall(np.ascontiguousarray(f.T if t else f, dtype)) for f, t in factors)
    y = Guarded(m * n, dtype)
    if node.shows is not None:
        y.inside[:] = 1
    scratch = [Guarded(size // dtype.itemsize, dtype) for size in written.scratch]
    arrays = [a, b, y.inside, *(s.inside for s in scratch)]
    pointers = np.array([array.ctypes.data for array in arrays])
    places = pointers.ctypes.data + 8 * np.arange(len(pointers))
    with engine.Compilation() as compilation:
        for text in written.calls:
            compilation.add(text)
        (address,) = compilation.addresses([compilation.add(written.text, written.declares)])
    call = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)
    ends = [written.units * i // cuts for i in range(cuts + 1)]
    for start, end in reversed([*pairwise(ends)]):
        call(places.ctypes.data, start, end)
    for guarded in (y, *scratch):
        guarded.check()
    want = a.astype(F64) if not product.transposed[0] else a.astype(F64).T
    want = want @ (b.T if product.transposed[1] else b).astype(F64) + (node.shows is not None)
    error = np.linalg.norm(y.inside.reshape(m, n) - want) / np.linalg.norm(want)
    assert error <= (1e-6 if dtype == F32 else 1e-14)


SIZES = [
    (1, 1, 1),
    (28, 16, 16),
    (29, 17, 17),
    (3, 5, 7),
    (100, 50, 30),
    (30, 5 * packed.DEPTH // 2, 40),  # pieces of the inner size
    (513, 33, 20),
    (20, 33, 513),
    (600, 1500, 25),  # blocks of rows, shared out by rows
    (600, 1500, 610),  # and by columns, strips of which are done together
]


LAYOUTS = [*pairs((False, True), repeat=2)]  # is the first factor transposed, is the second?


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_packed_products(shape: tuple[int, int, int], registers: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(packed, "PANELS", 2**20)
    for i, transposed in enumerate(LAYOUTS):
        product = node(shape, transposed, F64 if i == sum(shape) % 4 else F32, adds=i % 2 == 0)
        written = packed.Packed(product).write()
        check_product(written, product, cuts=min(3, written.units))


@pytest.mark.parametrize("k", [65, 193, 449, 961])
def test_pieces_that_nothing_whole_is_left_of(k: int, registers: None, monkeypatch: Any) -> None:
    """Of 64 each, less would be left in the last piece than a register holds."""
    monkeypatch.setattr(packed, "DEPTH", 64)
    for transposed in LAYOUTS:
        product = node((30, k, 40), transposed, F32)
        check_product(packed.Packed(product).write(), product)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_products_of_every_size(dtype: Any, registers: None) -> None:
    """In the form that suits their shape."""
    shapes = [*SIZES[:5], (64, 128, 64), (64, 64, 10), (10, 64, 64), (256, 784, 10), (1, 64, 128), (37, 41, 300)]
    for number, shape in enumerate(shapes):
        for i, transposed in enumerate(LAYOUTS):
            product = node(shape, transposed, dtype, adds=(number + i) % 2 == 0)
            written = products.write_product(product)
            check_product(written, product, cuts=min(2, written.units))


def test_an_infinity_reaches_its_row_and_column_only() -> None:
    """Whatever is copied, and in whatever order it is summed up."""
    x, w = np.ones((700, 300), F32), np.ones((300, 400), F32)
    x[5, 7], w[250, 9] = np.inf, np.nan
    function = tg.compile(lambda x, w: x @ w, backend="native")
    for _ in range(2):
        y = function(x, w).numpy()
    found = np.isfinite(y)
    assert not found[5].any()
    assert not found[:, 9].any()
    found[5], found[:, 9] = True, True
    assert found.all()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_products_in_every_orientation(dtype: Any, registers: None) -> None:
    rng = np.random.default_rng(0)
    for m, k, n in ((5, 7, 11), (1, 7, 11), (5, 1, 11), (5, 7, 1), (64, 32, 70)):
        w = Writer()
        a, b = w.input(rng.normal(size=(m, k)).astype(dtype)), w.input(rng.normal(size=(k, n)).astype(dtype))
        at, bt = w.input(w.found[a].T.copy()), w.input(w.found[b].T.copy())
        pairs = [(x, y) for x in (a, w(TRANSPOSE, at)) for y in (b, w(TRANSPOSE, bt, axes=(1, 0)))]
        found = [w(np.add, w(MATMUL, x, y), 1) for x, y in pairs]
        found += [w(np.exp, w(TRANSPOSE, w(MATMUL, x, y))) for x, y in pairs]
        check(w.program(*found), w.arrays)


def test_a_product_behind_a_transpose_that_changes_nothing(registers: None) -> None:
    w = Writer()
    a, b = w.input(np.ones((2, 4), F32)), w.input(np.ones((4, 3), F32))
    y = w(MATMUL, a, b)
    check(w.program(w(TRANSPOSE, y, axes=(0, 1)), w(TRANSPOSE, y, axes=(-1, 0))), w.arrays, parts=None)


@pytest.mark.parametrize("shape", [(3, 5, 4), (40, 24, 33), (70, 90, 7), (600, 500, 300)])
@pytest.mark.parametrize("number", [2, 3])
def test_products_are_added_to_each_other(shape: tuple[int, int, int], number: int, registers: None) -> None:
    m, k, n = shape
    w, rng = Writer(), np.random.default_rng(0)
    products = []
    for i in range(number):
        a, b = w.input(rng.normal(size=(m, k) if i % 2 else (k, m))), w.input(rng.normal(size=(k, n)))
        products.append(w(MATMUL, a if i % 2 else w(TRANSPOSE, a, axes=(1, 0)), b))
    total = products[0]
    for y in products[1:]:
        total = w(np.add, y, total)
    native = check(w.program(total, w(np.exp, w(np.multiply, total, 1e-3))), w.arrays, tolerance=1e-12)
    assert native.kernels == 1


def test_products_that_something_else_reads_are_not_overwritten(registers: None) -> None:
    w = Writer()
    a, b = w.input(np.arange(12.0).reshape(3, 4)), w.input(np.arange(8.0).reshape(4, 2))
    x, y = w(MATMUL, a, b), w(MATMUL, w(np.add, a, 1), b)
    check(w.program(w(np.add, x, y), x), w.arrays, tolerance=1e-12)
    z = w(MATMUL, w(np.add, a, 2), b)
    check(w.program(w(np.add, z, z), w(np.add, w(RESHAPE, x, shape=(2, 3)), 1)), w.arrays, tolerance=1e-12)


# ---- sums of products


def added(program: Any, arrays: list[Any], tolerance: float | None = None) -> int:
    """How many products of a program are added to the memory of others."""
    plan = check(program, arrays, tolerance).plan
    found = [step for step in plan.order if isinstance(step, Node) and step.shows is not None]
    assert not any(product in plan.lives for product in found)
    return len(found)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("shape", [(5, 3, 7), (64, 32, 128), (200, 300, 250), (1, 9, 4)], ids=str)
def test_sums_of_products_need_no_other_memory(shape: tuple[int, int, int], dtype: Any, registers: None) -> None:
    """In whatever order, and whichever way their factors lie, if their results lie the same way."""
    rng, (m, k, n) = np.random.default_rng(0), shape
    w = Writer()
    a, c = (w.input(rng.normal(size=(m, k)).astype(dtype)) for _ in range(2))
    b, d = (w.input(rng.normal(size=(k, n)).astype(dtype)) for _ in range(2))
    first, second, third = w(MATMUL, a, b), w(MATMUL, c, d), w(MATMUL, a, d)
    one = w(np.add, third, w(np.add, first, second))
    turned = [w(TRANSPOSE, x, axes=(1, 0)) for x in (a, b, c, d)]
    other = w(np.add, w(MATMUL, turned[1], turned[0]), w(MATMUL, turned[3], turned[2]))
    assert added(w.program(one, w(np.tanh, other)), w.arrays, 2e-5 if dtype == F32 else None) == 3


def test_products_that_are_read_otherwise_are_added_up_beside() -> None:
    rng, w = np.random.default_rng(0), Writer()
    a, b, c, d = (w.input(rng.normal(size=s)) for s in ((6, 5), (5, 6), (6, 5), (5, 6)))
    square, other = w(MATMUL, a, b), w(MATMUL, c, d)
    twice = w(np.add, square, square)  # one product, not two
    assert added(w.program(twice), w.arrays) == 0
    assert added(w.program(w(np.add, square, other), square), w.arrays) == 0
    both = w(np.add, w(MATMUL, a, b), w(MATMUL, c, d))
    assert added(w.program(both, w(np.add, both, w(MATMUL, a, d))), w.arrays) == 1
    early, between, late = w(MATMUL, a, b), w(MATMUL, c, b), w(MATMUL, c, d)
    check(w.program(w(np.add, w(np.add, early, late), between)), w.arrays)  # which is made before the sum is
    row = w.input(rng.normal(size=(1, 5)))
    check(w.program(w(np.add, w(MATMUL, row, b), w(MATMUL, c, d))), w.arrays)
    third = w(TRANSPOSE, w(MATMUL, c, b), axes=(1, 0))
    mixed = w(np.add, w(np.add, w(MATMUL, a, d), w(np.exp, w(MATMUL, c, d))), third)
    check(w.program(mixed, w(np.add, w(MATMUL, a, b), 1.0)), w.arrays)


@pytest.mark.parametrize("dtypes", [(F32, F64), (F64, F32)], ids=str)
def test_products_of_two_dtypes_share_no_memory(dtypes: tuple[Any, Any]) -> None:
    rng, w = np.random.default_rng(0), Writer()
    products = [
        w(MATMUL, *(w.input(rng.normal(size=shape).astype(dtype)) for shape in ((6, 5), (5, 6)))) for dtype in dtypes
    ]
    assert added(w.program(w(np.add, *products)), w.arrays) == 0


def test_a_weight_that_is_used_again_gathers_its_gradient_in_place() -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(6, 6)) / 3, rng.normal(size=(8, 6))

    def slope(x: Any) -> Any:
        w = tg.tensor(weight, requires_grad=True)
        h = x
        for _ in range(4):
            h = np.tanh(h @ w)
        return tg.gradients([h.sum()], [w])[0]

    compiled = tg.compile(slope, backend="native")
    for _ in range(3):
        np.testing.assert_allclose(compiled(x).numpy(), slope(tg.tensor(x)).numpy(), rtol=1e-12)
    assert sum(getattr(step, "shows", None) is not None for step in compiled._latest.run.plan.order) == 3
