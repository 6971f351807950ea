"""Loader, Normalizer and split: every example once, the same again from the same seed, and clear refusals."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import random
from tinygrad_dl.data import Loader, Normalizer, split
from tinygrad_dl.files import load, save


def rows(loader):
    """The examples of one epoch over one array, as a list."""
    return [value for batch in loader for value in batch.tolist()]


# Loader


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


# Normalizer


@pytest.mark.parametrize("shape", [(100, 5), (100,), (40, 3, 4)])
def test_normalised_features_have_mean_0_and_deviation_1(shape):
    x = np.random.default_rng(0).normal(3, 7, shape)
    z = Normalizer().fit(x).transform(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-14)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-13)


def test_statistics_are_those_of_the_training_data():
    train, test = np.array([[0.0, 1.0], [4.0, 3.0]]), np.array([[6.0, 2.0]])
    normalizer = Normalizer().fit(train)
    assert normalizer.mean.tolist() == [2, 2]
    assert normalizer.std.tolist() == [2, 1]
    assert normalizer.transform(test).tolist() == [[2, 0]]


def test_normalizer_agrees_with_scikit_learn():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(0)
    train, test = rng.gamma(2.0, 3.0, (50, 6)), rng.gamma(2.0, 3.0, (20, 6))
    theirs = preprocessing.StandardScaler().fit(train).transform(test)
    np.testing.assert_allclose(Normalizer().fit(train).transform(test), theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e5 / 3, 1e-7])
@pytest.mark.parametrize("n", [1, 3, 1000])
def test_a_constant_feature_becomes_zero(dtype, value, n):
    x = np.stack([np.full(n, max(value, -1e4)), np.arange(n)], axis=1).astype(dtype)
    z = Normalizer().fit(x).transform(x)
    assert not z[:, 0].any()
    assert np.isfinite(z).all()


def test_a_value_off_the_constant_keeps_its_distance():
    assert Normalizer().fit(np.full((5, 1), 3.0)).transform([[4.5]]).tolist() == [[1.5]]


def test_mean_of_many_large_float32_values_is_exact():
    x = np.random.default_rng(0).normal(1e4, 1, (100_000, 2)).astype(np.float32)
    normalizer = Normalizer().fit(x)
    np.testing.assert_allclose(normalizer.mean, x.astype(float).mean(0), rtol=1e-14)
    np.testing.assert_allclose(normalizer.std, x.astype(float).std(0), rtol=1e-12)


def test_dtypes_and_kinds_of_arrays():
    x = np.arange(6).reshape(3, 2)
    normalizer = Normalizer().fit(x)
    expected = (x - x.mean(0)) / x.std(0)
    for dtype, out in [
        ("float16", "float16"), ("float32", "float32"), ("float64", "float64"), ("uint8", "float32"),
        ("int64", "float32"),
    ]:  # fmt: skip
        array, tensor = (normalizer.transform(data) for data in (x.astype(dtype), tg.tensor(x.astype(dtype))))
        assert type(array) is np.ndarray
        assert type(tensor) is tg.Tensor
        assert array.dtype == tensor.dtype == out
        np.testing.assert_allclose(array, expected, rtol=1e-3)
        np.testing.assert_array_equal(array, tensor.numpy())
    assert type(normalizer.transform(x.tolist())) is np.ndarray


def test_gradients_flow_through_the_normalizer():
    x = tg.tensor([[1.0, 2.0], [3.0, 8.0]], requires_grad=True)
    Normalizer().fit(x).transform(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [[1, 1 / 3], [1, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_statistics_can_be_saved(tmp_path, suffix):
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    normalizer = Normalizer().fit(x)
    save(tmp_path / f"n.{suffix}", {"mean": normalizer.mean, "std": normalizer.std})
    restored = Normalizer(**load(tmp_path / f"n.{suffix}"))
    np.testing.assert_array_equal(restored.transform(x), normalizer.transform(x))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_located(bad):
    x = np.ones((4, 3))
    normalizer = Normalizer().fit(x)
    x[2, 1] = x[3, 0] = bad
    for method in ("fit", "transform"):
        message = rf"Normalizer\.{method}: expected finite values, got {bad} at \[2, 1\], the first of 2 such; remove"
        with pytest.raises(ValueError, match=message):
            getattr(normalizer, method)(x)
    assert normalizer.mean.tolist() == [1, 1, 1]


def test_bad_uses_of_the_normalizer():
    normalizer = Normalizer()
    with pytest.raises(RuntimeError, match=r"Normalizer\.transform: no statistics yet; call fit\(x_train\) first"):
        normalizer.transform(np.ones((2, 3)))
    normalizer.fit(np.ones((2, 3)))
    for shape in [(2, 4), (3,), (2, 3, 1)]:
        with pytest.raises(ValueError, match=r"transform: expected examples of shape \(3,\), as in fit, got"):
            normalizer.transform(np.ones(shape))
    for method in ("fit", "transform"):
        with pytest.raises(
            ValueError, match=rf"Normalizer\.{method}: expected at least one example, got shape \(0, 3\)"
        ):
            getattr(normalizer, method)(np.ones((0, 3)))
        with pytest.raises(TypeError, match=rf"Normalizer\.{method}: expected real numbers, got <U1"):
            getattr(normalizer, method)(np.array([["a", "b", "c"]]))
    for mean, std, message in [
        ([0.0], None, "both mean and std"),
        ([0.0], [1.0, 1.0], r"equal shapes, got mean \(1,\) and std \(2,\)"),
        ([0.0], [0.0], r"std > 0, got 0\.0"),
        ([0.0], [np.nan], "std > 0, got nan"),
    ]:
        with pytest.raises(ValueError, match=message):
            Normalizer(mean, std)


# split


@st.composite
def tasks(draw):
    """The number of examples, sizes as fractions or counts, labels or None."""
    n = draw(st.integers(1, 60))
    cuts = sorted(draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=min(n - 1, 4))))
    counts = np.diff([0, *cuts, n]).tolist()
    labels = draw(st.none() | st.lists(st.integers(0, draw(st.integers(0, 6))), min_size=n, max_size=n))
    return n, [c / n for c in counts] if draw(st.booleans()) else counts, counts, labels


@settings(max_examples=200)
@given(tasks(), st.integers(0, 5))
def test_no_example_is_lost_and_classes_are_shared(task, seed):
    n, sizes, counts, labels = task
    x = np.arange(n)
    parts = split(x, x * 10, sizes=sizes, stratify=labels, seed=seed)
    assert [len(a) for a, _ in parts] == counts
    assert sorted(i for a, _ in parts for i in a) == list(range(n))
    assert all((b == a * 10).all() for a, b in parts)
    if labels is not None:
        labels = np.array(labels)
        for label in set(labels.tolist()):
            for (part, _), count in zip(parts, counts, strict=True):
                share = (labels == label).sum() * count  # times n
                assert (labels[part] == label).sum() in (share // n, -(-share // n))
    again = split(x, sizes=sizes, stratify=labels, seed=seed)
    assert [a.tolist() for a in again] == [a.tolist() for a, _ in parts]


@pytest.mark.parametrize(
    ("classes", "sizes"),
    [
        ([3, 1, 3, 1, 1], [3, 1, 1, 1, 3]),  # a part with too many hands one on through another part
        ([2, 2, 4, 4, 4], [3, 6, 4, 3]),
        (np.arange(40) % 7 + 1, [64, 31, 30, 30]),
    ],
)
def test_parts_exchange_places_until_their_sizes_are_exact(classes, sizes):
    labels = np.repeat(np.arange(len(classes)), classes)
    parts = split(labels, sizes=sizes, stratify=labels)
    assert [len(part) for part in parts] == sizes
    for part, size in zip(parts, sizes, strict=True):
        exact = np.multiply(classes, size) / len(labels)
        assert (abs(np.bincount(part, minlength=len(classes)) - exact) < 1).all()


def test_train_and_test():
    x, y = np.random.default_rng(0).normal(size=(100, 3)), np.repeat([0, 1], [80, 20])
    (x_train, y_train), (x_test, y_test) = split(x, y, sizes=(0.8, 0.2), stratify=y, seed=0)
    assert [a.shape for a in (x_train, y_train, x_test, y_test)] == [(80, 3), (80,), (20, 3), (20,)]
    assert np.bincount(y_train).tolist() == [64, 16]
    assert np.bincount(y_test).tolist() == [16, 4]
    assert len(np.unique(np.concatenate([x_train, x_test]), axis=0)) == 100
    assert {a.dtype for a in (x_train, x_test)} == {np.dtype(float)}


def test_train_dev_and_test():
    train, dev, test = split(np.arange(1797), sizes=(0.6, 0.2, 0.2))
    assert [len(part) for part in (train, dev, test)] == [1078, 360, 359]  # 1078.2, 359.4, 359.4


@pytest.mark.parametrize(
    ("sizes", "n", "counts"), [((0.57, 0.43), 100, [57, 43]), ((0.1,) * 10, 30, [3] * 10), ((1.0,), 5, [5])]
)
def test_fractions_that_are_no_exact_floats(sizes, n, counts):
    assert [len(part) for part in split(np.arange(n), sizes=sizes)] == counts


def test_examples_are_shuffled_and_seeds_differ():
    x = np.arange(1000)
    y = np.repeat([0, 1], 500)
    orders = [split(x, sizes=(0.5, 0.5), stratify=labels, seed=s)[0].tolist() for s in (0, 1) for labels in (None, y)]
    assert len({tuple(o) for o in orders}) == 4
    for order in orders:  # ranks uncorrelated with places: a random order is within 4 σ = 4 / √n
        assert abs(np.corrcoef(order, np.arange(500))[0, 1]) < 4 / np.sqrt(500)


def test_every_example_is_equally_likely_in_every_part():
    counts = sum(np.bincount(split(np.arange(10), sizes=(3, 7), seed=s)[0], minlength=10) for s in range(2000))
    assert (abs(counts - 600) < 4 * np.sqrt(2000 * 0.3 * 0.7)).all()


def test_split_without_a_seed_asks_the_library_generator():
    with random.scope(0):
        a, b = split(np.arange(50), seed=None), split(np.arange(50), seed=None)
    with random.scope(0):
        c = split(np.arange(50), seed=None)
    assert a[0].tolist() == c[0].tolist() != b[0].tolist()


def test_kinds_of_arrays_and_labels():
    names = np.array(["a", "b", "a", "b"])
    t = tg.tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    (t0, n0, l0), (t1, n1, l1) = split(t, names, [1, 2, 3, 4], sizes=(2, 2), stratify=names)
    assert type(t0) is type(t1) is tg.Tensor
    assert type(n0) is type(l1) is np.ndarray
    assert sorted(n0) == sorted(n1) == ["a", "b"]
    assert sorted([*l0, *l1]) == [1, 2, 3, 4]
    (t0.sum() + 2 * t1.sum()).backward()
    assert sorted(t.grad.numpy()[:, 0]) == [1, 1, 2, 2]
    by_tensor = split(np.arange(4), sizes=(2, 2), stratify=tg.tensor([0, 1, 0, 1]))
    assert [part.tolist() for part in by_tensor] == [
        part.tolist() for part in split(np.arange(4), sizes=(2, 2), stratify=names)
    ]


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ([], {}, ValueError, "split: expected at least one array"),
        ([np.zeros(3), np.zeros(4)], {}, ValueError, "split: expected arrays of the same number of examples, got 3, 4"),
        ([np.zeros(0)], {}, ValueError, r"split: expected at least one example, got shape \(0,\)"),
        (
            [np.zeros(9)],
            {"sizes": (0.5, 0.4)},
            ValueError,
            r"fractions \(floats\) of sum 1, got \(0\.5, 0\.4\), of sum 0\.9",
        ),
        (
            [np.zeros(9)],
            {"sizes": (5, 5)},
            ValueError,
            r"counts \(integers\) of sum 9, all examples, got \(5, 5\), of sum 10",
        ),
        ([np.zeros(9)], {"sizes": (1.5, -0.5)}, ValueError, r"of 9 examples leave a part empty: \[1\d, -\d\]"),
        ([np.zeros(9)], {"sizes": (np.nan, 0.5)}, ValueError, "of sum nan"),
        (
            [np.zeros(3)],
            {"sizes": (0.9, 0.1)},
            ValueError,
            r"\(0\.9, 0\.1\) of 3 examples leave a part empty: \[3, 0\]",
        ),
        ([np.zeros(3)], {"sizes": (3, 0)}, ValueError, r"leave a part empty: \[3, 0\]"),
        ([np.zeros(3)], {"sizes": ()}, ValueError, r"of sum 1, got \(\), of sum 0"),
        (
            [np.zeros(3)],
            {"sizes": 0.2},
            TypeError,
            r"expected fractions \(floats\) or counts \(integers\), one per part, got 0\.2",
        ),
        ([np.zeros(3)], {"sizes": "ab"}, TypeError, "one per part, got 'ab'"),
        ([np.zeros(3)], {"sizes": (True, False)}, TypeError, "one per part"),
        (
            [np.zeros(3)],
            {"stratify": [0, 1]},
            ValueError,
            r"expected one label for each of 3 examples, got shape \(2,\)",
        ),
        (
            [np.zeros(3)],
            {"stratify": np.eye(3)},
            ValueError,
            r"got shape \(3, 3\); for one-hot rows give y\.argmax\(1\)",
        ),
        ([np.zeros(3)], {"seed": "x"}, TypeError, "expected a seed"),
    ],
)
def test_bad_splits(arrays, options, error, message):
    with pytest.raises(error, match=message):
        split(*arrays, **options)


def test_many_classes_of_one_example_are_dealt_at_once(monkeypatch):
    passes = []
    ours = np.flatnonzero
    monkeypatch.setattr(np, "flatnonzero", lambda a: passes.append(1) or ours(a))
    parts = split(np.arange(2000), sizes=(0.7, 0.15, 0.15), stratify=np.arange(2000))
    assert [len(p) for p in parts] == [1400, 300, 300]
    assert len(passes) < 50
