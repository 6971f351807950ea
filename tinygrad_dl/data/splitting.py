"""Train, development and test parts, with the same share of every class if asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import random
from .._tensor import Tensor
from ._examples import examples


def split(
    *arrays: Any, sizes: Sequence[float] = (0.8, 0.2), stratify: Any = None, seed: random.Source = 0
) -> list[Any]:
    """Split the examples at random into parts: `(x_train, y_train), (x_test, y_test) = split(x, y)`.

    arrays: ndarrays, Tensors or sequences whose first axis counts the examples.
    sizes: one number per part: fractions with sum 1, or counts with sum N. Fractions are rounded to counts with sum N,
        those with the largest remainders up.
    stratify: labels, (N,). Each part gets its share of each class, rounded down or up; the sizes stay exact.
    seed: equal seeds give equal parts; None draws from the generator of `tinygrad_dl.random`.

    Returns a list with one tuple of arrays per part, or the array itself if there is only one; Tensors for Tensors,
    ndarrays for anything else, with the examples in random order. Every example is in exactly one part.
    Raises ValueError for differing numbers of examples, for sizes that do not add up and for an empty part.
    """
    found, n = examples("split", arrays)
    counts = _counts(sizes, n)
    classes = _classes(stratify, n)
    rng = random.generator(seed)
    order = rng.permutation(n)
    order = order[np.argsort(classes[order], kind="stable")]  # class after class
    shares = _shares(np.bincount(classes), counts)
    blocks = np.split(order, np.cumsum(shares)[:-1])
    parts = [rng.permutation(np.concatenate(blocks[p :: len(counts)])) for p in range(len(counts))]
    return [found[0][rows] if len(found) == 1 else tuple(a[rows] for a in found) for rows in parts]


def _counts(sizes: Sequence[float], n: int) -> Any:
    """The sizes of the parts as integers of sum n."""
    if np.ndim(sizes) != 1 or np.asarray(sizes).dtype.kind not in "iuf":
        raise TypeError(f"split: sizes: expected fractions (floats) or counts (integers), one per part, got {sizes!r}")
    numbers = np.asarray(sizes)
    fractions = numbers.dtype.kind == "f"
    if not (math.isclose(numbers.sum(), 1.0, abs_tol=1e-9) if fractions else numbers.sum() == n):
        expected = "fractions (floats) of sum 1" if fractions else f"counts (integers) of sum {n}, all examples"
        raise ValueError(f"split: sizes: expected {expected}, got {sizes!r}, of sum {numbers.sum()}")
    quotas = numbers * n if fractions else numbers
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: n - counts.sum()]] += 1
    if counts.min() < 1:
        raise ValueError(f"split: sizes: {sizes!r} of {n} examples leave a part empty: {counts.tolist()}")
    return counts


def _classes(labels: Any, n: int) -> Any:
    """The class of every example as an integer from 0; one class for all without labels."""
    if labels is None:
        return np.zeros(n, np.int64)
    labels = labels.data if isinstance(labels, Tensor) else np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(
            f"split: stratify: expected one label for each of {n} examples, got shape {labels.shape}"
            + ("; for one-hot rows give y.argmax(1)" if labels.ndim == 2 else "")
        )
    return np.unique(labels, return_inverse=True)[1]


def _shares(classes: Any, parts: Any) -> Any:
    """How many of each class go to each part, (classes, parts): the exact share rounded down or up, all sums exact.

    Such a rounding always exists (Bacharach 1966, Matrix rounding problems). The largest remainders of each class
    are rounded up; then, while a part has too many, it hands one on to a part that has too few, if need be
    through others (a shortest augmenting path).
    """
    shares, remainders = np.divmod(np.outer(classes, parts), sum(parts))
    rank = np.argsort(np.argsort(-remainders, axis=1, kind="stable"), axis=1)
    up = rank < (classes - shares.sum(1))[:, None]
    while (excess := (shares + up).sum(0) - parts).any():
        start = int(excess.argmax())
        came: dict[int, tuple[int, Any]] = {}  # to a part: from which part, by which classes
        reached = [start]
        for p in reached:
            able = up[:, [p]] & ~up & (remainders > 0)
            for q in np.flatnonzero(able.any(0)).tolist():
                if q not in reached:
                    came[q] = p, np.flatnonzero(able[:, q])
                    reached.append(q)
        q = next(q for q in reached if excess[q] < 0)
        path = [q]
        while path[-1] != start:
            path.append(came[path[-1]][0])
        number = min(excess[start], -excess[q], *(len(came[to][1]) for to in path[:-1]))
        for to in path[:-1]:
            p, able = came[to]
            up[able[:number], p], up[able[:number], to] = False, True
    return shares + up
