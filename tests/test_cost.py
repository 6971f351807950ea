"""The cost of a program, against counts in closed form."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import CALLED, expression, of_row, record

import tinygrad_dl as tg
from tinygrad_dl.compiler.kernels import Kernels
from tinygrad_dl.compiler.passes import simplify


def program_of(f, *arrays):
    program, _ = record(lambda *tensors: [f(*tensors)], list(arrays))
    return program


def row(cost, name):
    return next(tuple(rest) for first, *rest in cost.rows if first == name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_in_closed_form(dtype):
    n, i, o = 32, 20, 12
    size = np.dtype(dtype).itemsize
    x, w, b = np.ones((n, i), dtype), np.ones((i, o), dtype), np.ones(o, dtype)
    cost = program_of(lambda x, w, b: np.tanh(x @ w + b).sum(axis=0), x, w, b).cost()
    assert row(cost, "matmul") == (1, 2 * n * i * o, size * (n * i + i * o + n * o))
    assert row(cost, "add") == (1, n * o, size * (2 * n * o + o))
    assert row(cost, "tanh") == (1, n * o, size * 2 * n * o)
    assert row(cost, "sum") == (1, n * o, size * (n * o + o))
    assert cost.flops == 2 * n * i * o + 3 * n * o
    assert cost.bytes == size * (n * i + i * o + 6 * n * o + 2 * o)
    assert cost.peak == 2 * size * n * o  # what an elementwise operation reads and writes
    assert (cost.kernels, cost.products, cost.alone) == (1, 1, 0)
    assert cost.moved == size * (n * i + i * o + 2 * n * o + 2 * o)  # the product is written, and read once


def test_a_chain_is_one_kernel_that_reads_and_writes_once():
    x = np.ones((30, 50))
    cost = program_of(lambda x: np.exp(x) * 2 + np.sqrt(x), x).cost()
    assert (cost.kernels, cost.products, cost.alone) == (1, 0, 0)
    assert cost.moved == 2 * x.nbytes
    assert cost.bytes == 9 * x.nbytes
    assert cost.flops == 4 * x.size
    assert cost.peak == 3 * x.nbytes - x.nbytes  # the sum itself is an output


def test_views_and_moves_compute_nothing():
    x, rows = np.ones((10, 4)), np.array([1, 1, 2])
    cost = program_of(lambda x, i: (x.T.reshape(4, 5, 2), x[i], x[2:])[1] * 1.5, x, rows).cost()
    assert row(cost, "transpose") == row(cost, "reshape") == (1, 0, 0)
    assert cost.flops == 3 * 4
    picked = 3 * 4 * 8
    assert sorted(r[1:] for r in cost.rows if r[0] == "getitem") == [(2, 0, 2 * picked + rows.nbytes)]


def test_products_of_batches_and_of_vectors():
    a, b = np.ones((5, 2, 3)), np.ones((3, 4))
    assert program_of(lambda a, b: a @ b, a, b).cost().flops == 2 * 5 * 2 * 3 * 4
    assert program_of(lambda a, b: a @ b, np.ones(7), np.ones(7)).cost().flops == 2 * 7


def test_an_operation_of_the_users_counts_its_largest_array():
    median = tg.primitive(lambda x: np.median(x, axis=0), None, name="median")
    cost = program_of(lambda x: median(x), np.ones((9, 6))).cost()
    assert row(cost, "median") == (1, 54, 8 * (54 + 6))
    assert (cost.kernels, cost.products, cost.alone) == (0, 0, 1)


def test_the_table():
    x, w = np.zeros((1000, 300), np.float32), np.zeros((300, 2), np.float32)
    lines = str(program_of(lambda x, w: np.exp(x @ w), x, w).cost()).split("\n")
    assert [line.split() for line in lines] == [
        ["operation", "number", "FLOPs", "bytes"],
        ["matmul", "1", "1,200,000", f"{4 * (300_000 + 600 + 2000):,}"],
        ["exp", "1", "2,000", "16,000"],
        ["in", "all", "2", "1,202,000", f"{4 * (300_000 + 600 + 2000) + 16_000:,}"],
        ["in", "all,", "fused", f"{4 * (300_000 + 600 + 2000) + 16_000:,}"],
        ["intermediate", "arrays", "at", "the", "peak,", "not", "fused", "8,000"],
        ["kernels:", "1,", "matrix", "products:", "1,", "copies:", "0,", "run", "as", "NumPy:", "0"],
    ]
    assert {len(line) for line in lines[:-1]} == {len(lines[0])}


def check(program):
    """What holds for every program."""
    cost, kernels = program.cost(), Kernels(program)
    members = [step for kernel in kernels.members() for step in kernel]
    assert len(set(map(id, members))) == len(members)
    assert {id(step) for step in members} <= {id(step) for step in program.body}
    made = [v for step in program.body for v in step.outputs]
    assert 0 <= cost.peak <= sum(v.nbytes for v in made)
    assert sum(n for _, n, _, _ in cost.rows) == len(program.body)
    assert len(list(kernels.ir())) == cost.kernels == len(kernels.members())


@pytest.mark.parametrize("row", CALLED[::7], ids=lambda row: row.name)
def test_operations(row):
    found = of_row(row)
    if found is not None:
        check(simplify(found[0]))


@given(st.integers(0, 2**32))
def test_random_programs(seed):
    f, arrays = expression(np.random.default_rng(seed), np.float32)
    check(simplify(record(f, arrays)[0]))


def test_the_peak_is_that_of_the_arrays_alive():
    """Against an account of its own: an array is alive from its instruction to the last that reads it."""
    f, arrays = expression(np.random.default_rng(3), steps=25)
    program = record(f, arrays)[0]
    program.outputs = program.outputs[-1:]
    views = {"transpose", "reshape"}
    base = {}
    for step in program.body:
        y = step.outputs[0]
        is_view = step.op.name in views or (step.op.name == "getitem" and len(step.args) == 1)
        base[y] = base.get(step.inputs[0], step.inputs[0]) if is_view else y
    alive = []
    for i in range(len(program.body)):
        made = {base[v] for step in program.body[: i + 1] for v in step.outputs}
        read = {base.get(v, v) for step in program.body[i:] for v in (*step.inputs, *step.outputs)}
        kept = {*program.inputs, *program.constants, *(base.get(v, v) for v in program.outputs)}
        alive.append(sum(v.nbytes for v in (made & read) - kept))
    assert program.cost().peak == max(alive)


WITHOUT = """
import sys
sys.modules["llvmlite"] = None
import numpy as np
import tinygrad_dl as tg
from tinygrad_dl.compiler.kernels import Kernels
f = tg.compile(lambda x: np.exp(x).sum(axis=0), backend="numpy")
f(np.ones((4, 5)))
assert f.programs[0].cost().kernels == 1
assert "define void @NAME" in "".join(Kernels(f.programs[0]).ir())
assert "kernel 0" in tg.draw(f).source
"""


def test_llvmlite_need_not_be_there():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)


def test_what_copies_or_looks_up_is_no_work_and_not_numpys():
    rows = np.array([0, 2, 2])
    cost = program_of(
        lambda x, i: np.concatenate([np.pad(x[i], 1), np.flip(x[:1, :])], axis=None), np.ones((4, 3)), rows
    ).cost()
    assert (cost.flops, cost.kernels, cost.products, cost.alone) == (0, 0, 0, 0)
    assert cost.copies == 5  # rows, padding, a slice, the same turned around, the join
