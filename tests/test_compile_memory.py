"""Compiled functions and memory: whose an array is, who sees it change, and that state is read anew at each call."""

import tracemalloc
import weakref

import numpy as np
import pytest
from programs import ones, values

import tinygrad_dl as tg
from tinygrad_dl import nn


def test_results_are_not_reused():
    f = tg.compile(lambda x: x * 2)
    first = f(ones())
    second = f(ones() * 5)
    assert values(first) == [2, 2, 2]
    assert values(second) == [10, 10, 10]


def test_results_own_their_memory():
    x, w = ones(), nn.Parameter(ones())
    f = tg.compile(lambda x: (x, x.reshape(1, 3), w.detach(), tg.tensor([1.0, 2.0])))
    for _ in range(2):
        for t in f(x)[:3]:
            assert not np.shares_memory(t.data, x)
            assert not np.shares_memory(t.data, w.data)
    a, b = f(x)[3], f(x)[3]
    assert not np.shares_memory(a.data, b.data)


def test_the_same_array_as_two_arguments():
    f = tg.compile(lambda a, b: a + 2 * b)
    x = ones()
    assert values(f(x, x)) == [3, 3, 3]
    assert values(f(ones(), ones() * 2)) == [5, 5, 5]
    assert values(f(x, x)) == [3, 3, 3]


@pytest.mark.parametrize("size", [3, 1000])  # small ones are copies each time
@pytest.mark.parametrize("backend", ["interpreter", "numpy", "native"])
def test_gradients_that_are_kept_keep_their_value(backend, size):
    weight = nn.Parameter(np.ones(size))

    @tg.compile(backend=backend)
    def step(x):
        weight.grad = None
        (weight * x).sum().backward()

    def gradient(k):
        step(np.ones(size) * k)
        return weight.grad

    for k in (1, 2, 3):
        gradient(k)
    kept, array = gradient(4), gradient(5).numpy()
    another = nn.Parameter(np.ones(size))
    another.grad = gradient(6)
    asks = gradient(7)
    asks.requires_grad = True
    del asks
    assert not gradient(8).requires_grad
    assert values(weight.grad) == [8] * size
    assert values(kept) == [4] * size
    assert array.tolist() == [5] * size
    assert values(another.grad) == [6] * size


OFF_THE_GRAPH = [
    lambda layer: layer.weight.detach(),
    lambda layer: layer.state_dict()["weight"],
    lambda layer: layer.weight.data,
    lambda layer: tg.tensor(layer.weight),
    lambda layer: tg.tensor(layer.weight, dtype=np.float64),
    lambda layer: tg.Tensor([layer.weight, layer.weight])[1],
]


@pytest.mark.parametrize("of", OFF_THE_GRAPH)
def test_state_that_is_only_read_off_the_graph_is_read_anew(of):
    layer = nn.Linear(2, 1, bias=False)
    after = tg.compile(lambda x: x + of(layer))
    for k in range(4):
        layer.weight.assign(np.full((1, 2), k))
        assert values(after(ones(2))) == [[k + 1, k + 1]]
    assert len(after.programs) == 1


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_programs_that_share_state_do_not_copy_it(backend):
    weight = nn.Parameter(ones(8))

    @tg.compile(backend=backend)
    def bump(x):
        with tg.no_grad():
            weight.assign(weight + x)

    @tg.compile(backend=backend)
    def halve():
        with tg.no_grad():
            weight.assign(weight / 2)

    @tg.compile(backend=backend)
    def read():
        return weight.detach() * 2

    def turn(programs):
        for program in programs:
            result = program()
        with tg.no_grad():
            weight.assign(weight + 1)
        return result

    programs = [halve, read]
    del halve, read
    for _ in range(3):
        bump(ones(8))
        turn(programs)
    before, array = values(weight.detach())[0], weakref.ref(weight.data)
    for _ in range(3):
        before = (before + 1) / 2
        bump(ones(8))
        assert values(turn(programs)) == [2 * before] * 8
        before += 1
    assert backend == "numpy" or array() is weight.data
    seen = weight.detach().numpy()
    now = seen.copy()
    bump(ones(8))
    turn(programs)
    assert seen.tolist() == now.tolist()
    before = values(weight.detach())[0]
    programs.clear()  # who had it as well
    bump(ones(8))
    assert values(weight.detach())[0] == before + 1


def test_state_in_another_order_of_memory():
    weight = nn.Parameter(np.zeros((3, 2), np.float32))

    @tg.compile
    def bump(x):
        with tg.no_grad():
            weight.assign(weight + x)

    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    for k in range(1, 7):
        if k % 2:
            weight.data = np.asfortranarray(weight.data)
        bump(rows)
        assert values(weight.detach()) == (rows * k).tolist()


def test_a_view_of_a_parameter_as_argument_keeps_the_old_value():
    w = nn.Parameter(ones())

    @tg.compile
    def f(x):
        with tg.no_grad():
            w.assign(w + 1)
        return x + 0

    for k in (1, 2, 3):
        assert values(f(w.detach())) == [k, k, k]


def test_state_that_swaps():
    a, b = nn.Buffer(ones()), nn.Buffer(ones() * 2)

    @tg.compile
    def swap():
        old = a + 0
        a.assign(b)
        b.assign(old)

    for expected in ((2, 1), (1, 2), (2, 1)):
        swap()
        assert (values(a)[0], values(b)[0]) == expected


def test_views_taken_before_keep_their_value():
    w = nn.Parameter(ones())

    @tg.compile
    def bump():
        with tg.no_grad():
            w.assign(w + 1)

    bump()
    view, state = w.detach().numpy(), nn.Linear(1, 1)
    state.w = w
    kept = state.state_dict()["w"]
    bump()
    assert view.tolist() == [2, 2, 2]
    assert values(kept) == [2, 2, 2]
    assert values(w.detach()) == [3, 3, 3]


def test_a_program_that_others_run_in_between_sees_its_own_arrays_again():
    w, x = tg.tensor(np.arange(6.0).reshape(3, 2)), np.ones((4, 3))
    f = tg.compile(lambda x: x @ w, backend="native")
    expected = values(f(x))
    assert values(f(x)) == values(f(x)) == expected
    others = [np.full_like(a, 7.0) for a in f._latest.arrays]
    f._latest.run(others)
    assert values(f(x)) == expected
    np.testing.assert_array_equal(values(f(2 * x)), 2 * np.array(expected))


def test_an_array_that_is_not_contiguous_is_read_anew_at_each_call():
    w = tg.tensor(np.arange(12.0).reshape(3, 4)).T
    assert not w.data.flags.c_contiguous
    f = tg.compile(lambda x: x + w, backend="native")
    x = np.zeros((4, 3))
    for n in range(4):
        w.data[0, 0] = n
        assert values(f(x))[0][0] == n


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_recording_takes_about_as_much_memory_as_the_step(traced):
    model = nn.Sequential(*(nn.Sequential(nn.Linear(256, 256), nn.Tanh()) for _ in range(8)))
    optimizer = tg.optim.Adam(model.parameters())
    x = np.ones((64, 256), np.float32)

    def step(x):
        optimizer.zero_grad()
        loss = np.square(model(x)).mean()
        loss.backward()
        optimizer.step()
        return loss

    def peak(f):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        f(x)
        return tracemalloc.get_traced_memory()[1] - before

    tg.compile(step, backend="interpreter")(x)  # the optimizer's state, and all that the first time brings
    weights = sum(p.data.nbytes for p in model.parameters())
    assert peak(tg.compile(step, backend="interpreter")) < peak(step) + weights


def test_arrays_that_get_the_identity_of_earlier_ones():
    places = set()

    @tg.compile
    def f(x):
        for k in range(20):
            new = np.full(3, k, np.float32)
            places.add(id(new))
            x = x + new
            del new
        return x

    assert values(f(ones())) == values(f(ones())) == [191, 191, 191]
    assert len(places) < 20


def test_the_block_lives_as_long_as_a_program_that_only_computes_in_passing_there(monkeypatch):
    memory = pytest.importorskip("tinygrad_dl.compiler.native.memory")
    pytest.importorskip("llvmlite")
    blocks, take = [], memory.Arena.take

    def noted(arena, size):
        found = take(arena, size)
        blocks.append((weakref.ref(arena._block), size))
        return found

    monkeypatch.setattr(memory.Arena, "take", noted)
    f = tg.compile(lambda x: nn.functional.softmax(x, axis=0), backend="native")
    arrays = [np.full(shape, 0.5, np.float32) for shape in ((64, 64), (500, 400), (900, 700))]
    for x in arrays:
        f(x)
    assert len(blocks) == len(arrays)
    assert all(size and block() is not None for block, size in blocks)
    for x in arrays:
        assert np.allclose(f(x), 1 / len(x))
