"""The NumPy backend: its text computes what the program means, bit for bit, in memory that is planned."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import CALLED, expression, expression_of_many_dtypes, of_row, record

import tinygrad_dl as tg
from tinygrad_dl import nn, optim
from tinygrad_dl.compiler import compile, replay
from tinygrad_dl.compiler.layout import order_of, ordered
from tinygrad_dl.compiler.memory import Lifetimes, assign
from tinygrad_dl.compiler.numpy_backend import build, source
from tinygrad_dl.compiler.numpy_places import Places, overwrites
from tinygrad_dl.compiler.passes import simplify
from tinygrad_dl.compiler.program import Instruction, Program, Value

SEEDS = st.integers(0, 2**32)


def same(got, want):
    for a, b in zip(got, want, strict=True):
        assert type(a) is np.ndarray
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def check(program, arrays):
    """Equal to the meaning, twice; nothing that comes out is memory of anything else."""
    for v, constant in program.constants.items():
        program.constants[v] = constant.copy()  # in C order: a product depends on the order in its last digits
    run = build(program)
    want = [np.array(y) for y in program.run(arrays)]
    given_arrays = [a.copy() for a in arrays]
    first = run(given_arrays)
    same(first, want)
    replaced = set(program.updates.values())
    same(
        [a for i, a in enumerate(given_arrays) if i not in replaced],
        [a for i, a in enumerate(arrays) if i not in replaced],
    )
    second = run([a.copy() for a in arrays])
    same(second, want)
    same(first, want)
    kept = [*program.constants.values(), *[a for i, a in enumerate(given_arrays) if i not in replaced]]
    for i, y in enumerate(first):
        for other in (*kept, *first[:i], *second):
            assert not np.shares_memory(y, other)


@pytest.mark.parametrize("row", CALLED, ids=lambda row: row.name)
def test_every_operation_and_its_gradients(row):
    found = of_row(row)
    if found is not None:
        program, arrays, _ = found
        check(program, arrays)
        check(simplify(program), arrays)
        assert "has no text" not in source(program), "only NumPy is needed"


@given(SEEDS, st.sampled_from([np.float32, np.float64]))
def test_random_programs(seed, dtype):
    f, arrays = expression(np.random.default_rng(seed), dtype)
    program, _ = record(f, arrays)
    with np.errstate(all="ignore"):
        check(program, arrays)
        check(simplify(program), arrays)


@given(SEEDS)
def test_random_programs_of_many_dtypes(seed):
    f, arrays = expression_of_many_dtypes(np.random.default_rng(seed))
    with np.errstate(all="ignore"):
        program, _ = record(f, arrays)
        check(program, arrays)
        check(simplify(program), arrays)


def training_step():
    """The program of a whole training step, as it was recorded and simplified, and its inputs."""
    recorded_programs = []

    def noted(program):
        recorded_programs.append(program)
        return simplify(program)

    with tg.random.scope(0):
        model = nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.2), nn.Linear(40, 5))
        optimizer = optim.Adam(model.parameters(), lr=1e-3)

        def step(x, y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(64, 12)).astype(np.float32), rng.integers(0, 5, 64)
        compiled = compile(step, backend="interpreter")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(replay, "simplify", noted)
            for _ in range(3):
                compiled(x, y)
        recorded = next(iter(compiled._programs.values()))[0]
        return recorded_programs[0], compiled.programs[0], [np.array(a) for a in recorded.arrays]


RAW, PROGRAM, ARRAYS = training_step()


@pytest.mark.parametrize("program", [RAW, PROGRAM], ids=["recorded", "simplified"])
def test_a_training_step(program):
    check(program, ARRAYS)
    assert len(program.updates) > 10


def test_parameters_are_written_in_place():
    arrays = [a.copy() for a in ARRAYS]
    outputs = build(PROGRAM)(arrays)
    weight = next(i for i, j in PROGRAM.updates.items() if arrays[j].shape == (40, 12))
    assert outputs[weight] is arrays[PROGRAM.updates[weight]]


ALONE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tinygrad_dl":
            raise ImportError("not here")
sys.meta_path.insert(0, Block())
import numpy as np
names = {}
exec(open(sys.argv[1]).read(), names)
with np.load(sys.argv[2]) as given:
    outputs = names["step"](*[given[f"arr_{i}"] for i in range(len(given.files))])
np.savez(sys.argv[3], *outputs)
assert "tinygrad_dl" not in sys.modules
"""


@pytest.mark.parametrize("program", [RAW, PROGRAM], ids=["recorded", "simplified"])
def test_the_source_runs_alone(program, tmp_path):
    file, given_file, result = tmp_path / "step.py", tmp_path / "in.npz", tmp_path / "out.npz"
    file.write_text(source(program), encoding="utf-8")
    np.savez(given_file, *ARRAYS)
    subprocess.run([sys.executable, "-I", "-c", ALONE, file, given_file, result], check=True)
    with np.load(result) as got:
        same([got[f"arr_{i}"] for i in range(len(got.files))], program.run(ARRAYS))


def test_the_source_shows_the_users_lines_and_layers():
    text = source(PROGRAM)
    assert "test_numpy_backend.py:" in text
    assert "loss = nn.functional.cross_entropy(model(x), y)" in text
    assert "# layer Sequential.4" in text
    assert "# replaces exp_avg" in text
    assert text.count("np.empty") < sum("out=" in line for line in text.splitlines()) / 2


TABLE = np.random.default_rng(0).normal(size=100)


@pytest.mark.parametrize(
    "table", [TABLE, TABLE[:5], np.zeros(100), np.arange(100)], ids=["many", "few", "equal", "even"]
)
def test_static_arrays_are_written_out(table):
    scaled = tg.primitive(lambda x, table: x[: table.size] * table, None, name="scaled")
    step = compile(lambda x: scaled(x, table=table) + scaled(x, table=table), backend="numpy")
    for _ in range(3):
        np.testing.assert_array_equal(step(TABLE).numpy(), 2 * TABLE[: table.size] * table)
    assert step.source.count("b64decode") == (table is TABLE)  # before the step, not in it


def test_a_permutation_is_a_static_array():
    order = np.argsort(TABLE)
    step = compile(lambda a, v: np.searchsorted(a, v, sorter=order), backend="numpy")
    for _ in range(3):
        found = step(TABLE, TABLE[:9])
    np.testing.assert_array_equal(found.numpy(), np.argsort(order)[:9])


def test_an_error_names_the_operation_and_the_line():
    arrays = [a.copy() for a in ARRAYS]
    labels = next(i for i, a in enumerate(arrays) if a.shape == (64,) and a.dtype == np.int64)
    arrays[labels][3] = 7
    before = [a.copy() for a in arrays]
    with pytest.raises(ValueError, match="label 7 at row 3") as caught:
        build(PROGRAM)(arrays)
    with pytest.raises(ValueError, match="label 7 at row 3") as meant:
        PROGRAM.run(arrays)
    assert str(caught.value) == str(meant.value)
    assert "cross_entropy(model(x), y)" in str(caught.value)
    same(arrays, before)  # nothing was replaced


def test_inputs_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected"):
        build(PROGRAM)([a[..., None] for a in ARRAYS])


def needed(program):
    """Where values lie, and from which instruction to which each is needed, by an account of its own."""
    places = Places(program, set())
    numbers = {v: i for i, step in enumerate(program.body) for v in step.outputs}
    shown = {v: {v} for v in (*program.inputs, *program.constants)}
    end = dict.fromkeys(shown, -1) | dict(numbers)
    for i, step in enumerate(program.body):
        for v in step.inputs:
            for owner in shown[v]:
                end[owner] = i
        sharing = places.forms[step.outputs[0]] in ("view", "call")
        for y in step.outputs:
            shown[y] = {y}.union(*[shown[v] for v in step.inputs]) if sharing else {y}
    for v in program.outputs:
        for owner in shown[v]:
            end[owner] = len(program.body)
    return places, numbers, end


@given(SEEDS)
def test_no_two_values_share_a_buffer_while_both_are_needed(seed):
    rng = np.random.default_rng(seed)
    f, arrays = expression(rng, steps=30)
    program, _ = record(f, arrays)
    program.outputs = program.outputs[-2:]
    places, start, end = needed(program)
    stored = places.plan.places
    for a in stored:
        assert places.plan.sizes[stored[a]] >= a.nbytes
        for b in stored:
            if stored[a] == stored[b] and start[a] < start[b]:
                assert end[a] < start[b] or (end[a] == start[b] and a in overwrites(program.body[start[b]]))
    assert not set(stored).intersection(program.outputs)


def test_the_plan_is_small():
    plan = Places(PROGRAM, set()).plan
    assert plan.peak < plan.total / 3


def test_a_view_keeps_its_memory():
    x, y, view, z = (Value((8,), np.dtype(np.float32)) for _ in range(4))
    exp, reshape = tg.ops.exp, tg.ops.reshape
    body = [
        Instruction(exp, (x,), {}, (y,)),
        Instruction(reshape, (y,), {"shape": (8,)}, (view,)),
        Instruction(exp, (x,), {}, (z,)),
        Instruction(exp, (view,), {}, (Value((8,), np.dtype(np.float32)),)),
    ]
    program = Program([x], {}, body, [z])
    lifetimes = Lifetimes(program, lambda step: step.inputs if step.op is reshape else ())
    assert lifetimes.last[y] == 3
    plan = assign(program, lifetimes, {y: 0, z: 0}, lambda step: ())
    assert plan.places[y] != plan.places[z]


def test_orders_in_memory():
    array = ordered((2, 3, 4), np.float32, (2, 0, 1))
    assert array.shape == (2, 3, 4)
    assert order_of(array) == (2, 0, 1)
