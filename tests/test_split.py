"""Splitting data: no example is lost, classes are shared, every example is equally likely everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_dl as tg
from tinygrad_dl import random
from tinygrad_dl.data import split


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
