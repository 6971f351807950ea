"""The native backend computes what `Program.run` computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn, ops, optim
from tinygrad_dl.compiler.program import Program, Value
from tinygrad_dl.primitive import Primitive
from tinygrad_dl.random import bits

pytest.importorskip("llvmlite")

from written import Writer, check, close, replay

from tinygrad_dl.compiler.native.backend import build

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
WHERE, ASTYPE, MATMUL = ops.choice._where, ops.astype, ops.matmul
SUM, MAX, MIN, PROD = ops.sum, ops.max, ops.min, ops.prod
RESHAPE, TRANSPOSE, BROADCAST = ops.reshape, ops.transpose, ops.broadcast_to
CUMSUM = Primitive(lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype), (), "cumsum", False)  # stays NumPy


def special(dtype: Any, n: int = 130) -> Any:
    """Ordinary values with zeros, infinities and NaN among them."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=n) * 3
    x[: min(n, 8)] = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5][: min(n, 8)]
    rng.shuffle(x)
    return x.astype(dtype)


UNARY = "negative absolute sqrt square exp expm1 log log1p log2 log10 exp2 tanh sign floor ceil trunc rint reciprocal "
UNARY += "isnan isfinite isinf logical_not"
BINARY = "add subtract multiply divide maximum minimum fmax fmin less less_equal greater greater_equal equal not_equal "
BINARY += "logical_and logical_or logical_xor copysign logaddexp"


@pytest.mark.parametrize("dtype", [F32, F64])
def test_unary_ufuncs(dtype: Any) -> None:
    w = Writer()
    x = w.input(special(dtype))
    check(w.program(*[w(getattr(np, name), x) for name in UNARY.split()]), w.arrays)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_binary_ufuncs_with_every_pair_of_special_values(dtype: Any) -> None:
    w = Writer()
    x, y = w.input(special(dtype, 70)[:, None]), w.input(special(dtype, 67))
    check(w.program(*[w(getattr(np, name), x, y) for name in BINARY.split()]), w.arrays)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_sign_of_zero(dtype: Any) -> None:
    w = Writer()
    x = w.input(np.array([0.0, -0.0, 1.0, -1.0], dtype))
    names = "negative absolute sqrt expm1 log1p tanh sign floor ceil trunc rint reciprocal"
    results = [w(getattr(np, name), x) for name in names.split()]
    results += [w(np.multiply, x, 0.0), w(np.add, x, 0.0), w(np.copysign, 1.0, x), w(SUM, x, axis=0)]
    native = build(w.program(*results))
    with np.errstate(all="ignore"):
        want = w.program(*results).run(w.arrays)
    for got, expected in zip(native(w.arrays), want, strict=True):
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def test_numbers_among_the_arguments() -> None:
    w = Writer()
    x, n = w.input(special(F32)), w.input(np.arange(-65, 65))
    literals = [w(np.maximum, x, 0), w(np.minimum, 0.5, x), w(np.maximum, 0, x), w(np.fmax, x, 0.25)]
    literals += [w(np.less, n, 7), w(np.add, n, 1), w(np.multiply, n, 0.5), w(np.divide, 1, x)]
    literals += [w(np.subtract, True, x), w(np.add, n, True), w(np.divide, n, 3)]
    check(w.program(*literals), w.arrays)


INTEGERS = [np.dtype(f"{sign}int{bits}") for bits in (8, 16, 32, 64) for sign in ("", "u")]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers(dtype: Any) -> None:
    w, rng, range_ = Writer(), np.random.default_rng(0), np.iinfo(dtype)
    a, b = (w.input(rng.integers(range_.min, range_.max, (5, 67), dtype, endpoint=True)) for _ in range(2))
    names = "add subtract multiply maximum minimum less greater_equal equal bitwise_and bitwise_or bitwise_xor"
    found = [w(getattr(np, name), a, b) for name in names.split()]
    found += [w(f, a) for f in (np.invert, np.absolute, np.sign, np.square)]
    found += [w(np.less, a, range_.max - 50), w(np.less, a, 7), w(np.multiply, w(np.less, a, b), b)]
    found += [w(op, a, axis=axis) for op in (SUM, MAX, MIN) for axis in (0, 1, None)]
    check(w.program(*found), w.arrays)


def test_booleans() -> None:
    w, rng = Writer(), np.random.default_rng(0)
    p, q = (w.input(rng.random((5, 67)) < 0.5) for _ in range(2))
    i, u = w.input(rng.integers(-9, 9, (5, 67))), w.input(rng.integers(0, 9, (5, 67), np.uint32))
    found = [w(getattr(np, name), p, q) for name in ("logical_and", "bitwise_xor", "add", "maximum", "less", "equal")]
    found += [w(np.invert, p), w(np.multiply, p, i), w(np.logical_or, i, u)]
    check(w.program(*found), w.arrays)


def test_casts() -> None:
    w = Writer()
    rng = np.random.default_rng(0)
    kinds = (np.float32, np.float64, np.bool_, *INTEGERS)
    given = [w.input((rng.random((3, 65)) * 9 * (-1 if np.dtype(k).kind == "i" else 1)).astype(k)) for k in kinds]
    given += [w.input(np.array([np.iinfo(k).min, np.iinfo(k).max], k)) for k in INTEGERS]
    check(w.program(*[w(ASTYPE, x, dtype=np.dtype(k)) for x in given for k in kinds]), w.arrays)


def test_mixed_dtypes_are_promoted_as_numpy_does() -> None:
    w = Writer()
    x, y, s = w.input(special(F32)), w.input(special(F64)), w.input(np.array(0.3))
    check(
        w.program(w(np.add, x, y), w(np.multiply, x, s), w(np.less, x, y), w(WHERE, w(np.less, x, 0), x, s)), w.arrays
    )


@pytest.mark.parametrize("columns", [1, 3, 63, 64, 65, 130, 200])
@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_reductions_along_each_axis(dtype: Any, rows: int, columns: int) -> None:
    for op in (SUM, MAX, MIN, PROD):
        for axis in (0, 1, None, (0, 1), -1):
            for keepdims in (False, True):
                w = Writer()
                x = w.input(np.random.default_rng(rows).normal(size=(rows, columns)).astype(dtype))
                y = w(op, w(np.add, x, 1.0), axis=axis, keepdims=keepdims)
                check(w.program(y), w.arrays, parts=None)


def test_reductions_of_special_values() -> None:
    w = Writer()
    x = w.input(special(F32, 130).reshape(2, 65))
    check(w.program(*[w(op, x, axis=a) for op in (SUM, MAX, MIN) for a in (0, 1, None)]), w.arrays)


@pytest.mark.parametrize("columns", [1, 10, 128, 130, 300])
def test_softmax_and_its_column_sums(columns: int) -> None:
    w = Writer()
    x = w.input(np.random.default_rng(0).normal(size=(9, columns)).astype(F32))
    e = w(np.exp, w(np.subtract, x, w(MAX, x, axis=1, keepdims=True)))
    y = w(np.divide, e, w(SUM, e, axis=1, keepdims=True))
    native = check(w.program(y, w(SUM, y, axis=0), w(SUM, w(np.log, y))), w.arrays)
    assert native.kernels == (1 if columns <= 128 else 2)


@pytest.mark.parametrize("columns", [1, 64, 65, 200])
def test_normalization_of_columns(columns: int) -> None:
    w = Writer()
    x, g = (w.input(np.random.default_rng(i).normal(size=(33, columns)).astype(F32)) for i in range(2))
    mean = w(np.multiply, w(SUM, x, axis=0), 1 / 33)
    centred = w(np.subtract, x, mean)
    deviation = w(np.sqrt, w(np.add, w(np.multiply, w(SUM, w(np.square, centred), axis=0), 1 / 33), 1e-5))
    y = w(np.divide, centred, deviation)
    total = w(SUM, w(np.multiply, y, g), axis=0, keepdims=True)
    native = check(w.program(y, mean, w(np.subtract, w(np.maximum, g, 0), w(np.multiply, y, total))), w.arrays)
    assert native.kernels == 1


def test_broadcasting_costs_no_memory() -> None:
    w = Writer()
    rng = np.random.default_rng(0)
    x, row, column, one = (w.input(rng.normal(size=s).astype(F32)) for s in ((5, 70), (70,), (5, 1), (1, 1)))
    wide = w(BROADCAST, row, shape=(5, 70))
    y = w(np.multiply, w(np.add, w(np.subtract, x, wide), column), one)
    z = w(SUM, w(np.exp, w(BROADCAST, column, shape=(5, 70))), axis=1)
    check(
        w.program(y, z, w(SUM, wide, axis=0), w(np.multiply, row, column), w(MAX, wide, axis=0)), w.arrays, parts=None
    )


def test_higher_ranks_collapse() -> None:
    w = Writer()
    x = w.input(np.random.default_rng(0).normal(size=(2, 3, 4, 70)).astype(F32))
    b = w.input(np.random.default_rng(1).normal(size=70).astype(F32))
    c = w.input(np.random.default_rng(2).normal(size=(3, 1, 1)).astype(F32))
    y = w(np.add, x, b)
    z = w(np.divide, y, w(SUM, w(np.square, y), axis=-1, keepdims=True))
    outputs = [z, w(SUM, x, axis=(0, 2, 3)), w(np.multiply, x, c), w(SUM, x, axis=(0, 1)), w(np.add, y, w(np.exp, c))]
    check(w.program(*outputs), w.arrays, parts=None)


@pytest.mark.parametrize("shape", [(), (1,), (64,), (65,), (5, 7), (6, 64), (3, 130)])
def test_bits(shape: tuple[int, ...]) -> None:
    w = Writer()
    key = w.input(np.array(0x9E3779B97F4A7C15, np.uint64))
    x = w.input(np.ones(shape, F32))
    words = w(bits, key, shape=shape)
    mask = w(ASTYPE, w(np.less, words, 3435973837), dtype=F32)
    check(w.program(words, w(np.multiply, x, mask)), w.arrays)


def test_what_is_not_lowered_runs_as_numpy() -> None:
    w = Writer()
    x = w.input(np.random.default_rng(0).normal(size=(6, 7)).astype(F32))
    y = w(CUMSUM, w(np.multiply, x, 2), axis=0)
    t = w(TRANSPOSE, x)
    square = w(MATMUL, x, t)
    z = w(np.add, w(np.add, square, w(TRANSPOSE, square)), 1)
    flat = w(RESHAPE, w(np.exp, y), shape=(3, 14))
    mixed = w(np.add, w(SUM, flat, axis=0), 1)
    outputs = [y, z, mixed, w(np.sin, t), w(RESHAPE, y, shape=(42,)), w(np.floor_divide, x, 2), t]
    check(w.program(*outputs), w.arrays, parts=None)


def test_outputs_that_are_inputs_constants_views_or_given_twice() -> None:
    w = Writer()
    x, c = w.input(np.arange(6.0)), Value((3,), F64)
    y = w(np.multiply, x, 2)
    program = w.program(x, y, y, w(RESHAPE, y, shape=(2, 3)), c, w(RESHAPE, x, shape=(3, 2)))
    program.constants[c] = np.arange(3.0)
    native = check(program, w.arrays)
    first, second = native(w.arrays), native(w.arrays)
    for i, a in enumerate(first):
        assert all(not np.shares_memory(a, b) for b in (*first[:i], *second, *w.arrays, *program.constants.values()))


def test_no_element_or_no_instruction() -> None:
    w = Writer()
    x = w.input(np.empty((0, 3), F32))
    for program in (w.program(w(np.exp, x), w(SUM, x, axis=0)), Program(w.inputs, {}, [], [x])):
        for got, want in zip(build(program)(w.arrays), program.run(w.arrays), strict=True):
            close(got, want, None)
    y = w.input(np.ones(3, F32))
    check(Program([y], {}, [], [y]), [w.arrays[1]], parts=0)


def test_a_users_operation_may_have_the_name_of_one_of_the_librarys() -> None:
    w = Writer()
    x = w.input(np.arange(6, dtype=F32).reshape(2, 3))
    largest = Primitive(lambda x, axis: x.max(axis=axis), (), "sum", False)
    check(w.program(w(largest, x, axis=0)), w.arrays, parts=None)


def test_wrong_inputs_are_refused() -> None:
    w = Writer()
    x = w.input(np.zeros(3, F32))
    native = build(w.program(w(np.exp, x)))
    for wrong in ([], [np.zeros(4, F32)], [np.zeros(3)]):
        with pytest.raises(ValueError, match="program: expected"):
            native(wrong)
    close(native([np.arange(6, dtype=F32)[::2]])[0], np.exp(np.arange(0, 6, 2, dtype=F32)))


def fits(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(a, b)) <= 2
    except ValueError:
        return False


SHAPES: list[tuple[int, ...]] = [(), (1,), (67,), (5, 1), (1, 67), (5, 67)]


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(seed: int) -> None:
    """Thirty random instructions, some states of which are updated."""
    rng = np.random.default_rng(seed)
    dtype = F32 if seed % 2 else F64
    w = Writer()
    values = [w.input(rng.uniform(0.5, 1.5, s).astype(dtype)) for s in SHAPES]
    values += [w.input(rng.uniform(0.5, 1.5, (5, 67)).astype(dtype))]
    binary = [np.add, np.subtract, np.multiply, np.maximum, np.minimum]
    for _ in range(30):
        x = values[int(rng.integers(0, len(values)))]
        y = values[int(rng.integers(0, len(values)))]
        if not fits(x.shape, y.shape):
            y = x
        kind = int(rng.integers(0, 9))
        if kind < 3:
            new = w(binary[int(rng.integers(0, 5))], x, y)
        elif kind == 3:
            new = w((np.tanh, np.negative, np.absolute)[int(rng.integers(0, 3))], x)
        elif kind < 6 and x.ndim:
            axis = int(rng.integers(0, x.ndim))
            new = w((SUM, MAX, MIN)[int(rng.integers(0, 3))], x, axis=axis, keepdims=bool(rng.integers(0, 2)))
            new = w(np.multiply, new, 0.1)
        elif kind == 6:
            new = w(WHERE, w(np.less, x, y), y, 0.5)
        elif kind == 7 and x.shape == (5, 67):
            new = w(RESHAPE, x, shape=(67, 5)) if rng.random() < 0.2 else w(TRANSPOSE, w(TRANSPOSE, x))
        elif kind == 8 and x.shape == y.shape == (5, 67):
            new = w(np.multiply, w(MATMUL, x, w(TRANSPOSE, y)), 0.05)
        else:
            new = w(np.tanh, x)
        if new.size <= 5 * 67 * 5 and new.ndim <= 2 and (new.ndim < 2 or new.shape in SHAPES):
            values.append(w(np.tanh, new))
    chosen = rng.choice(len(values) - 7, min(6, len(values) - 7), replace=False) + 7
    outputs = [values[i] for i in chosen]
    updates: dict[int, int] = {}
    for i, v in enumerate(outputs):
        free = [j for j, x in enumerate(w.inputs) if x.shape == v.shape and j not in updates.values()]
        if free and rng.random() < 0.7:
            updates[i] = free[0]
    program = w.program(*outputs, updates=updates)
    replay(program, w.arrays)


@pytest.mark.parametrize("batch", [16, 33])
def test_a_recorded_training_step(batch: int) -> None:
    from tinygrad_dl.compiler.passes import simplify

    tg.seed(0)
    model = nn.Sequential(
        nn.Linear(20, 65, bias=False), nn.BatchNorm1d(65), nn.ReLU(), nn.Dropout(0.2), nn.Linear(65, 10)
    )
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    def step(x: Any, y: Any) -> Any:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    compiled = tg.compiler.compile(step)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(batch, 20)).astype(F32), rng.integers(0, 10, batch)
    compiled(x, y)
    recorded = next(iter(compiled._programs.values()))[0]
    native = build(simplify(recorded.program))
    assert native.kernels <= 10
    run, pairs = recorded.program.run, []

    def both(arrays: list[Any]) -> list[Any]:
        want = run([a.copy() for a in arrays])
        got = native(arrays)
        pairs.append((got, [w.copy() for w in want]))
        for a, b in zip(got, want, strict=True):
            close(a, b, 1e-4)
        return got

    recorded.run = both
    for _ in range(5):
        compiled(x, y)
    assert len(pairs) == 5


def test_numpy_takes_what_lies_otherwise_than_its_kernel_has_it() -> None:
    w = Writer()
    x = w.input(np.arange(4, dtype=F64).reshape(2, 1, 2))
    y = w(np.divide, w(BROADCAST, x, shape=(2, 3, 2)), 2)
    check(w.program(w(CUMSUM, y, axis=0)), w.arrays, parts=None)
