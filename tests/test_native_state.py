"""The native backend writes new states over the old ones, and copies small inputs to a place of their own."""

from __future__ import annotations

import numpy as np
import pytest

from tinygrad_dl import ops

pytest.importorskip("llvmlite")

from written import Writer, replay

from tinygrad_dl.compiler.native.backend import build
from tinygrad_dl.compiler.straight import Straight

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
SUM, MAX, MATMUL = ops.sum, ops.max, ops.matmul


def test_updates_are_written_over_the_state() -> None:
    w = Writer()
    p, g = w.input(np.ones((8, 70), F32)), w.input(np.full((8, 70), 0.5, F32))
    program = w.program(w(np.subtract, p, w(np.multiply, g, 0.1)), updates={0: 0})
    state = w.arrays[0].copy()
    out = build(program)([state, w.arrays[1]])[0]
    assert out is state
    replay(program, w.arrays)


def test_readers_of_the_old_value_come_first() -> None:
    rng = np.random.default_rng(0)
    w = Writer()
    p, x = (w.input(rng.normal(size=(65, 65)).astype(F32)) for _ in range(2))
    new = w(np.subtract, p, w(np.multiply, w(MATMUL, x, p), 0.01))
    late = w(MATMUL, p, x)
    total = w(SUM, w(np.subtract, p, w(SUM, p, axis=0)), axis=1)
    replay(w.program(late, new, total, w(np.tanh, w(SUM, p)), new, updates={1: 0}), w.arrays)


def test_a_state_is_read_in_a_later_stage_than_its_new_value_is_known() -> None:
    w = Writer()
    p = w.input(np.random.default_rng(0).normal(size=(20, 65)).astype(F32))
    new = w(np.multiply, p, 0.5)
    rest = w(np.subtract, p, w(SUM, new, axis=0))
    replay(w.program(new, rest, w(SUM, rest, axis=0), updates={0: 0}), w.arrays)


def test_states_that_are_exchanged_rotated_or_read_by_each_other() -> None:
    rng = np.random.default_rng(0)
    for shape in ((), (3,), (70, 5)):
        w = Writer()
        a, b, c, d = (w.input(rng.normal(size=shape).astype(F32)) for _ in range(4))
        replay(w.program(b, a, updates={0: 0, 1: 1}), w.arrays)
        replay(w.program(w(np.add, b, 1), w(np.add, a, 1), d, c, updates={0: 0, 1: 1, 2: 2, 3: 3}), w.arrays)
        x, y = w(np.tanh, b), w(np.tanh, a)
        replay(w.program(x, y, x, updates={0: 0, 1: 1, 2: 2}), w.arrays)
        replay(w.program(w(MAX, a), x, w(np.add, x, a), updates={1: 0, 2: 1}), w.arrays)


def test_states_that_cannot_be_written() -> None:
    w = Writer()
    p = w.input(np.ones(5, F32))
    native = build(w.program(w(np.add, p, 1), updates={0: 0}))
    frozen = np.ones(5, F32)
    frozen.flags.writeable = False
    assert native([frozen])[0].tolist() == [2] * 5
    assert native([np.ones(10, F32)[::2]])[0].tolist() == [2] * 5
    assert frozen.tolist() == [1] * 5


def again(native, moving):
    """What a replay calls: for a list in which only these places may hold other arrays than before."""
    text = Straight()
    with text.block(f"if {native.usual(text, moving)}:"):
        text.lines.append("kept = False")
        native.write(text, ())
    text.lines.append(f"else: outputs = {text.name(native)}.anew(arrays)")
    return text.function("arrays", "outputs")


def test_small_inputs_that_are_others_each_time_are_copied() -> None:
    w, rng = Writer(), np.random.default_rng(0)
    x, state = w.input(rng.random((3, 4), F32)), w.input(rng.random((3, 4), F32))
    native = build(w.program(w(np.add, x, state), w(np.multiply, x, 2), x, updates={0: 1}))
    given = [w.arrays[0], w.arrays[1].copy()]
    native(given)
    run = again(native, [0])
    for _ in range(3):
        before, other = given[1].copy(), rng.random((4, 3), F32).T
        given[0] = other
        _, double, same = run(given)
        np.testing.assert_array_equal(given[1], other + before)
        np.testing.assert_array_equal(double, other * 2)
        np.testing.assert_array_equal(same, other)
        assert not np.shares_memory(same, other)
    assert native.brought
    np.testing.assert_array_equal(native([w.arrays[0], w.arrays[1]])[1], w.arrays[0] * 2)
    with pytest.raises(ValueError, match="expected"):
        native([w.arrays[0][:1], w.arrays[1]])
    with pytest.raises(ValueError, match="expected"):
        native([w.arrays[0].astype(F64), w.arrays[1]])
    with pytest.raises(ValueError, match="expected 2 inputs"):
        native(w.arrays[:1])


def test_small_inputs_that_are_gone_by_the_next_call_are_copied_too() -> None:
    w = Writer()
    x = w.input(np.zeros((3, 4), F32))
    native = build(w.program(w(np.multiply, x, 2)))
    arrays = [np.ones((3, 4), F32)]
    native(arrays)
    run = again(native, [0])
    for i in range(3):
        arrays[0] = np.full((3, 4), i, F32)  # the one before is let go
        np.testing.assert_array_equal(run(arrays)[0], np.full((3, 4), 2 * i))
    assert native.brought


@pytest.mark.parametrize("turned", [False, True])
def test_a_small_input_that_comes_again_is_read_where_it_lies(turned) -> None:
    """Whatever has been written into it meanwhile, and whichever comes next."""
    w, rng = Writer(), np.random.default_rng(0)
    x = w.input(np.zeros((3, 4), F32))
    native = build(w.program(w(np.multiply, x, 2)))
    given = [np.zeros((4, 3), F32).T if turned else np.zeros((3, 4), F32) for _ in range(3)]
    arrays = [given[0]]
    native(arrays)
    run = again(native, [0])
    for i in (0, 0, 0, 1, 0, 1, 1, 1, 2, 2, 0, 0, 2, 1, 1):
        arrays[0] = given[i]
        arrays[0][...] = rng.random((3, 4))
        np.testing.assert_array_equal(run(arrays)[0], arrays[0] * 2)
    assert (native.direct[0] is given[1]) is not turned
    arrays[0] = rng.random((3, 4)).astype(F32)
    np.testing.assert_array_equal(native(arrays)[0], arrays[0] * 2)
