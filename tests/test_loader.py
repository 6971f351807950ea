"""The loader: every example once, the same again from the same seed, a place to resume at, and clear refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import random
from tinygrad_dl.data import Loader


def rows(loader):
    """The examples of one epoch over one array, as a list."""
    return [value for batch in loader for value in batch.tolist()]


@settings(max_examples=100)
@given(
    n=st.integers(1, 50), batch_size=st.integers(1, 60), shuffle=st.booleans(), drop_last=st.booleans(),
    seed=st.none() | st.integers(0, 9),
)  # fmt: skip
def test_no_example_is_lost_or_comes_twice(n, batch_size, shuffle, drop_last, seed):
    assume(not drop_last or batch_size <= n)
    x = np.arange(n)
    loader = Loader(x, x * 10, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(a) == batch_size for a, _ in batches[:-1])
    found = [i for a, _ in batches for i in a.tolist()]
    assert [j for _, b in batches for j in b.tolist()] == [10 * i for i in found]
    assert len(set(found)) == len(found) == (n // batch_size * batch_size if drop_last else n)
    if not shuffle:
        assert found == list(range(len(found)))


def test_five_million_examples_make_five_thousand_steps():
    x = np.broadcast_to(np.float32(0), (5_000_000, 3))
    loader = Loader(x, batch_size=1000, shuffle=True)
    assert len(loader) == 5000
    assert next(iter(loader)).shape == (1000, 3)


def test_batch_and_stochastic_gradient_descent():
    x = np.arange(10)
    assert [b.tolist() for b in Loader(x, batch_size=10)] == [list(range(10))]
    assert [b.tolist() for b in Loader(x, batch_size=1)] == [[i] for i in range(10)]
    assert [len(b) for b in Loader(np.arange(130))] == [64, 64, 2]


def test_one_array_gives_tensors_more_give_tuples():
    x, y = np.zeros((4, 2)), np.zeros(4, int)
    assert all(type(b) is tg.Tensor for b in Loader(x))
    [(a, b)] = Loader(x, y)
    assert type(a) is type(b) is tg.Tensor
    assert [a.shape, b.shape] == [(4, 2), (4,)]
    assert not a.requires_grad


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool"])
def test_float64_becomes_the_default_and_other_dtypes_stay(dtype, shuffle):
    x = np.random.default_rng(0).integers(0, 2, (7, 3)).astype(dtype)
    batches = list(Loader(x, batch_size=3, shuffle=shuffle, seed=0))
    assert {b.dtype for b in batches} == {np.dtype("float32" if dtype == "float64" else dtype)}
    np.testing.assert_array_equal(
        np.sort(np.concatenate([b.numpy() for b in batches]), axis=0), np.sort(x, axis=0).astype(batches[0].dtype)
    )


def test_lists_tensors_and_views_are_arrays_too():
    x = np.arange(12.0).reshape(6, 2)
    for data in (x.tolist(), tg.tensor(x), np.asfortranarray(x), x[::-1][::-1]):
        for loader in (Loader(data, batch_size=4), Loader(data, batch_size=4, shuffle=True, seed=1)):
            batches = [b.numpy() for b in loader]
            np.testing.assert_array_equal(sorted(np.concatenate(batches).tolist()), x)
            assert all(b.flags.c_contiguous for b in batches)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_copies(shuffle):
    x = np.zeros(4, np.float32)
    [batch] = Loader(x, shuffle=shuffle)
    x += 1
    assert batch.tolist() == [0, 0, 0, 0]
    batch.assign([5.0, 5.0, 5.0, 5.0])
    assert x.tolist() == [1, 1, 1, 1]


def test_every_epoch_has_its_own_permutation_and_the_seed_gives_all_of_them_again():
    x = np.arange(100)
    loader, again, other = (Loader(x, batch_size=7, shuffle=True, seed=s) for s in (3, 3, 4))
    epochs = [rows(loader) for _ in range(5)]
    assert epochs == [rows(again) for _ in range(5)]
    assert len({tuple(e) for e in epochs}) == 5
    assert rows(other) not in epochs
    assert all(sorted(e) == list(range(100)) for e in epochs)
    assert epochs[0] != list(range(100))


def test_every_order_is_equally_likely():
    """3! orders in 6000 epochs: χ² with 5 degrees of freedom stays below 20.5 with probability 0.999."""
    loader = Loader(np.arange(3), shuffle=True, seed=0)
    _, counts = np.unique([rows(loader) for _ in range(6000)], axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 20.5


def test_an_interrupted_training_resumes():
    def build():
        return Loader(np.arange(50), batch_size=8, shuffle=True, seed=5)

    whole = build()
    epochs = [[b.tolist() for b in whole] for _ in range(3)]
    first = build()
    list(first)
    position, seen = first.epoch, [b.tolist() for _, b in zip(range(3), first, strict=False)]
    second = build()
    second.epoch = position
    assert seen + [b.tolist() for b in second][3:] == epochs[1]
    assert [b.tolist() for b in second] == epochs[2]


@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("given", [0, 1, 3, 6, 7])
def test_the_state_of_a_loader_is_its_place_in_the_epoch(given, shuffle, seed):
    """Between epochs (0), in the middle, after the last batch, and at the end of the loop (7)."""

    def build():
        return Loader(np.arange(50), batch_size=9, shuffle=shuffle, seed=seed)

    def draw():
        return random.uniform().item()

    with random.scope(1):
        whole = build()
        rest = rows(whole)
        loop = iter(whole)
        seen = [value for batch in itertools.islice(loop, given) for value in batch.tolist()]
        state, generator = whole.state_dict(), random.state()
        rest = [value for batch in loop for value in batch.tolist()] if 0 < given < 7 else rows(whole)
        after, drawn = rows(whole), draw()
    with random.scope(2):
        again = build()
        again.load_state_dict(state)
        random.state(generator)
        assert again.state_dict() == state
        assert rows(again) == rest
        assert rows(again) == after
        assert draw() == drawn
        assert again.epoch == whole.epoch
    assert sorted(seen + rest if 0 < given < 7 else rest) == list(range(50))


def test_the_state_of_another_loader_is_refused():
    state = Loader(np.arange(50), batch_size=9, shuffle=True, seed=1).state_dict()
    with pytest.raises(ValueError, match="the state has batch_size 9, this Loader has 8"):
        Loader(np.arange(50), batch_size=8, shuffle=True, seed=1).load_state_dict(state)
    with pytest.raises(ValueError, match="the state has size 50, this Loader has 51"):
        Loader(np.arange(51), batch_size=9, shuffle=True, seed=1).load_state_dict(state)
    with pytest.raises(KeyError, match="expected"):
        Loader(np.arange(50)).load_state_dict({"epoch": 3})


def test_without_a_seed_the_library_generator_is_asked():
    x = np.arange(40)
    loader = Loader(x, shuffle=True)
    with random.scope(1):
        a, b = rows(loader), rows(loader)
    with random.scope(1):
        assert [rows(loader), rows(Loader(x, shuffle=True))] == [a, b]
    with random.scope(2):
        assert rows(loader) not in (a, b)
    assert a != b
    with random.scope(1):
        before = random.state()
        rows(loader)
        after = random.state()
        random.state(before)
        rows(loader)
        assert random.state() == after != before


def test_a_seed_leaves_the_library_generator_alone():
    with random.scope(1):
        before = random.state()
        rows(Loader(np.arange(40), shuffle=True, seed=0))
        rows(Loader(np.arange(40)))
        assert random.state() == before


@pytest.mark.parametrize("shuffle", [False, True])
def test_two_loops_at_once_are_independent(shuffle):
    loader = Loader(np.arange(60), batch_size=7, shuffle=shuffle, seed=1)
    first, second = iter(loader), iter(loader)
    a, b = [], []
    for x, y in zip(first, second, strict=True):
        a += x.tolist()
        b += y.tolist()
    assert sorted(a) == sorted(b) == list(range(60))
    assert (a == b) is not shuffle
    inner = [
        (i.item(), j.item()) for i in Loader(np.arange(3), batch_size=1) for j in Loader(np.arange(3), batch_size=1)
    ]
    assert inner == [(i, j) for i in range(3) for j in range(3)]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ([], {}, ValueError, "Loader: expected at least one array, got none"),
        (
            [np.zeros(3), np.zeros(4)],
            {},
            ValueError,
            "Loader: expected arrays of the same number of examples, got 3, 4",
        ),
        ([np.zeros((0, 3))], {}, ValueError, r"Loader: expected at least one example, got shape \(0, 3\)"),
        ([3.0], {}, ValueError, "Loader: array 0: expected examples along the first axis, got one float64 value"),
        (
            [np.zeros(3), None],
            {},
            ValueError,
            "Loader: array 1: expected examples along the first axis, got one object",
        ),
        ([np.array(["a"])], {}, TypeError, "Loader: array 0: expected real numbers or booleans, got <U1"),
        ([np.ones(2), np.ones(2, complex)], {}, TypeError, "Loader: array 1: .* got complex128"),
        ([np.zeros(3)], {"batch_size": 0}, ValueError, "Loader: batch_size: expected at least 1, got 0"),
        ([np.zeros(3)], {"batch_size": -1}, ValueError, "Loader: batch_size: expected at least 1, got -1"),
        ([np.zeros(3)], {"batch_size": 2.0}, TypeError, r"Loader: batch_size: expected an integer, got 2\.0"),
        ([np.zeros(3)], {"batch_size": True}, TypeError, "Loader: batch_size: expected an integer, got True"),
        (
            [np.zeros(3)],
            {"drop_last": True},
            ValueError,
            "drop_last=True leaves no batch of 64: there are 3 examples; use",
        ),
        ([np.zeros(3)], {"seed": "x"}, TypeError, "Loader: seed: expected an integer, got 'x'"),
        ([np.zeros(3)], {"seed": -1}, ValueError, "Loader: seed: expected at least 0, got -1"),
        ([tg.tensor([1.0], requires_grad=True)], {}, RuntimeError, "requires grad"),
    ],
)
def test_bad_loaders(arguments, options, error, message):
    with pytest.raises(error, match=message):
        Loader(*arguments, **options)
