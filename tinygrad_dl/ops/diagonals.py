"""Diagonals and triangles of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ._arguments import Array, answers, asarray, without_gradient
from .choice import where
from .index import ARRAY, getitem, scatter_add
from .reduction import sum
from .shape import moveaxis, ravel

if TYPE_CHECKING:
    from .._tensor import Tensor


@answers()
def diagonal(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal over two axes, as the last axis; with an offset, one above or (negative) below it."""
    i, j = normalize_axis_index(axis1, a.ndim), normalize_axis_index(axis2, a.ndim)
    if i == j:
        raise ValueError(f"diagonal: expected two axes, got {axis1} and {axis2}")
    row, column = max(-offset, 0), max(offset, 0)
    n = np.arange(max(min(a.shape[i] - row, a.shape[j] - column), 0))
    return getitem(moveaxis(a, (i, j), (-2, -1)), (..., n + row, n + column))


@answers()
def trace(a: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """The sum of the diagonal over two axes."""
    return sum(diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype)


@answers()
def diag(v: Array, k: int = 0) -> Tensor:
    """The k-th diagonal of a 2-D array, or the 2-D array with this k-th diagonal and zeros."""
    v = asarray(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag: expected 1 or 2 axes, got shape {v.shape}")
    n, row = np.arange(v.size), max(-k, 0)
    return scatter_add(v, n + row, n + row + k, index=(ARRAY, ARRAY), shape=(v.size + abs(k),) * 2)


@answers()
def diagflat(v: Array, k: int = 0) -> Tensor:
    """The 2-D array with the flat input as its k-th diagonal and zeros."""
    return diag(ravel(v), k)


def _below(shape: tuple[int, ...], k: int) -> Any:
    """Where the column is at most k more than the row; an array with one axis is every row."""
    return np.tri(shape[-min(2, len(shape))], shape[-1], k, bool)


@answers()
def tril(m: Array, k: int = 0) -> Tensor:
    """The lower triangle of the last two axes; zero above the k-th diagonal."""
    return where(_below(m.shape, k), m, False)  # the zero that widens no dtype


@answers()
def triu(m: Array, k: int = 0) -> Tensor:
    """The upper triangle of the last two axes; zero below the k-th diagonal."""
    return where(_below(m.shape, k - 1), False, m)


@without_gradient()
def diag_indices_from(arr: Array) -> Any:
    """The indices of a square array's main diagonal, an array per axis."""
    return np.diag_indices_from(arr)


@without_gradient()
def tril_indices_from(arr: Array, k: int = 0) -> Any:
    """The indices of a 2-D array's lower triangle, an array per axis."""
    return np.tril_indices_from(arr, k)


@without_gradient()
def triu_indices_from(arr: Array, k: int = 0) -> Any:
    """The indices of a 2-D array's upper triangle, an array per axis."""
    return np.triu_indices_from(arr, k)
