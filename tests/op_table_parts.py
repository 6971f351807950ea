"""Shapes, joining, parts, order and copies: operations that move elements, against plain loops and NumPy."""

from collections import Counter
from itertools import product

import numpy as np
from op_table_row import Row, boolean, frozen, positive, real, rows

from tinygrad_dl import ops
from tinygrad_dl.ops import index, join
from tinygrad_dl.ops.index import ARRAY
from tinygrad_dl.ops.sort import _bincount, _unique

ROW = np.array([2, 0, 2])
MASK = np.array([[True, False, True], [False, False, True]])
PICKS = np.array([[2, 0], [1, 1]])
CUBE = real(2, 3, 2)
MATRIX = real(2, 3)
VECTOR = real(4)
SQUARE = real(3, 3)
COUNTS = frozen([3, 0, 1, 3])


# references: one element after the other


def places(shape):
    return product(*map(range, shape))


def broadcast(x, shape):
    out = np.empty(shape)
    for i in places(shape):
        tail = i[len(shape) - x.ndim :]
        out[i] = x[tuple(0 if n == 1 else k for n, k in zip(x.shape, tail, strict=True))]
    return out


def reshaped(x, shape):
    out = np.empty(shape)
    out.flat[:] = list(x.flat)
    return out


def transposed(x, axes=None):
    axes = axes or range(x.ndim)[::-1]
    out = np.empty([x.shape[a] for a in axes])
    for i in places(x.shape):
        out[tuple(i[a] for a in axes)] = x[i]
    return out


def flipped(x, axis=None):
    axes = range(x.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    out = np.empty(x.shape)
    for i in places(x.shape):
        out[tuple(n - 1 - k if a in axes else k for a, (k, n) in enumerate(zip(i, x.shape, strict=True)))] = x[i]
    return out


def subscript(x, index):
    return x[index]


def written(x, index, value):
    out = x.copy()
    out[index] = value
    return out


def filled(template, indices):
    rest = iter(indices)
    return tuple(next(rest) if i is ARRAY else i for i in template)


def added(g, *indices, index, shape):
    """Element by element: where does each of them come from?"""
    out = np.zeros(shape)
    origin = np.arange(out.size).reshape(shape)[filled(index, indices)]
    for k, v in zip(np.broadcast_to(origin, g.shape).flat, g.flat, strict=True):
        out.flat[k] += v
    return out


def joined(*arrays, axis=0):
    return np.moveaxis(np.array([row for a in arrays for row in np.moveaxis(a, axis, 0)]), 0, axis)


def unstacked(x, axis=0):
    return tuple(x.take(k, axis) for k in range(x.shape[axis]))


def ranked(values):
    return sorted(range(len(values)), key=lambda k: values[k])


def by_row(f):
    return lambda x, *_, **__: np.array([f(row.tolist()) for row in x])


def distinct(x, **_):
    values = sorted(set(x.ravel().tolist()))
    flat = x.ravel().tolist()
    where, counts = [flat.index(v) for v in values], Counter(flat)
    inverse = np.array([values.index(v) for v in flat]).reshape(x.shape)
    return np.array(values), np.array(where), inverse, np.array([counts[v] for v in values])


def nonzeros(x):
    return tuple(np.array([i for i in places(x.shape) if x[i]]).reshape(-1, x.ndim).T)


SHAPES = rows(
    (ops.broadcast_to, broadcast, real(3, 1), (2, 3, 2)),
    (ops.broadcast_to, broadcast, real(2), (3, 2)),
    (ops.reshape, reshaped, MATRIX, (3, 2)),
    (ops.transpose, transposed, CUBE),
    (ops.transpose, transposed, CUBE, (1, 2, 0)),
    (ops.flip, flipped, MATRIX),
    (ops.flip, flipped, CUBE, (0, 2)),
    (ops.ravel, None, CUBE),
    (ops.swapaxes, None, CUBE, 0, -1),
    (ops.matrix_transpose, None, CUBE),
    (ops.moveaxis, None, CUBE, 0, -1),
    (ops.moveaxis, None, CUBE, (0, 1), (2, 0)),
    (ops.rollaxis, None, CUBE, 2, 1),
    (ops.rollaxis, None, CUBE, 0, 3),
    (ops.expand_dims, None, MATRIX, (0, -1)),
    (ops.squeeze, None, real(1, 3, 1)),
    (ops.squeeze, None, real(1, 3, 1), -1),
    (ops.atleast_1d, None, real(), VECTOR),
    (ops.atleast_2d, None, real(), VECTOR, CUBE),
    (ops.atleast_3d, None, real(), VECTOR, MATRIX),
    (ops.broadcast_arrays, None, real(2, 1), real(3)),
    (ops.meshgrid, None, real(2), real(3)),
    (ops.meshgrid, None, real(2), real(2), real(1), {"indexing": "ij"}),
    (ops.meshgrid, None, real(2), real(3), {"sparse": True}),
    (ops.rot90, None, MATRIX),
    (ops.rot90, None, CUBE, 2, (1, 2)),
    (ops.rot90, None, CUBE, -1, (2, 0)),
    (ops.fliplr, None, MATRIX),
    (ops.flipud, None, MATRIX),
)

JOINS = rows(
    (join._join, joined, MATRIX, real(1, 3)),
    (join._join, joined, MATRIX, real(2, 1), MATRIX, {"axis": -1}),
    (ops.concatenate, None, [MATRIX, real(1, 3)]),
    (ops.concatenate, None, [MATRIX, VECTOR], None),
    (ops.concatenate, None, [MATRIX, real(0, 3)]),
    (ops.stack, None, [MATRIX, real(2, 3)], 1),
    (ops.vstack, None, [real(3), MATRIX]),
    (ops.hstack, None, [MATRIX, real(2, 1)]),
    (ops.hstack, None, [VECTOR, real(2)]),
    (ops.dstack, None, [MATRIX, real(2, 3)]),
    (ops.column_stack, None, [real(2), MATRIX]),
    (ops.append, None, VECTOR, MATRIX),
    (ops.append, None, MATRIX, real(1, 3), 0),
    (ops.block, None, [[MATRIX, real(2, 1)], [real(1, 3), real(1, 1)]]),
    (ops.array_split, None, VECTOR, 3),
    (ops.split, None, CUBE, [1, 2], 1),
    (ops.hsplit, None, real(2, 4), 2),
    (ops.vsplit, None, CUBE, 2),
    (ops.dsplit, None, CUBE, 2),
    (ops.unstack, unstacked, CUBE, {"axis": 1}),
    (join._pad_zeros, lambda x, pad_width: np.pad(x, pad_width), MATRIX, {"pad_width": ((1, 0), (0, 2))}),
    (ops.pad, None, MATRIX, (1, 2)),
    (ops.pad, None, real(0), 2),
    (ops.pad, None, VECTOR, 2, {"constant_values": (0.5, -1)}),
    *[(ops.pad, None, MATRIX, ((0, 1), (1, 2)), mode) for mode in ("edge", "reflect", "symmetric", "wrap")],
    (ops.tile, None, MATRIX, (2, 1, 2)),
    (ops.repeat, None, MATRIX, 2),
    (ops.repeat, None, MATRIX, [2, 0, 1], 1),
    (ops.roll, None, MATRIX, 2),
    (ops.roll, None, real(0, 2), 1, 0),
    (ops.roll, None, MATRIX, (1, -1), (0, 1)),
    (ops.resize, None, VECTOR, (2, 3)),
)

PARTS = rows(
    (index._getitem, lambda x, r, index: x.take(r, 1), MATRIX, ROW, {"index": (slice(None), ARRAY)}),
    (ops.getitem, subscript, CUBE, (0, slice(None, None, -2), None)),
    (ops.getitem, subscript, CUBE, (..., 1)),
    (ops.getitem, subscript, MATRIX, MASK),
    (ops.getitem, subscript, MATRIX, np.array([], int)),
    (ops.getitem, subscript, real(2, 0), (1, slice(None))),
    (ops.getitem, subscript, SQUARE, (ROW, slice(1, 3))),
    (ops.getitem, subscript, CUBE, (slice(None), ROW, 1)),
    (ops.getitem, subscript, CUBE, (0, slice(None), np.array([1, 1]))),
    (ops.getitem, subscript, SQUARE, (ROW, np.array([[0], [1]]))),
    (index._setitem, lambda x, v, r, index: written(x, r, v), SQUARE, real(), np.array([1]), {"index": (ARRAY,)}),
    (ops.setitem, written, MATRIX, (slice(None), 1), real(2)),
    (ops.setitem, written, MATRIX, MASK, real(3)),
    (ops.setitem, written, MATRIX, np.array([1, 0]), real(1, 1)),
    (ops.setitem, written, VECTOR, slice(1, 3), real(1, 2)),
    (ops.scatter_add, added, real(3), ROW, {"index": (ARRAY,), "shape": (4,)}),
    (ops.scatter_add, added, real(2, 3), ROW, {"index": (slice(0, 2), ARRAY), "shape": (3, 3)}),
    (ops.scatter_add, added, real(3), MASK, {"index": (ARRAY,), "shape": (2, 3)}),
    (ops.take, None, MATRIX, PICKS),
    (ops.take, None, MATRIX, PICKS, 1),
    (ops.take_along_axis, None, MATRIX, PICKS, 1),
    (ops.take_along_axis, None, MATRIX, ROW, None),
    (ops.compress, None, np.array([True, False, True]), MATRIX, 1),
    (ops.extract, None, MASK, MATRIX),
    (ops.delete, None, MATRIX, [0, 2], 1),
    (ops.delete, None, MATRIX, slice(1, 3)),
    (ops.nonzero, nonzeros, MASK),
    (index._nonzero, nonzeros, MASK),
    (ops.where, nonzeros, MASK),
    (ops.flatnonzero, lambda x: np.array([k for k, v in enumerate(x.flat) if v]), MASK),
    (ops.argwhere, lambda x: np.stack(nonzeros(x), -1), MASK),
    (ops.unravel_index, lambda k, shape: tuple(np.array([divmod(int(i), 3) for i in k]).T), ROW, (2, 3)),
    (index._unravel_index, lambda k, shape: tuple(np.array([divmod(int(i), 3) for i in k]).T), ROW, {"shape": (2, 3)}),
    (ops.select, None, [MASK, ~MASK[:, ::-1]], [MATRIX, real(2, 3)], real()),
    (ops.choose, None, np.array([[0, 1, 1], [1, 0, 0]]), [MATRIX, real(3)]),
    (ops.diagonal, None, CUBE, 1, 0, 1),
    (ops.diagonal, None, CUBE, -1, 2, 1),
    (ops.trace, None, CUBE, 0, 0, 2),
    (ops.diag, None, SQUARE, -1),
    (ops.diag, None, real(3), 1),
    (ops.diagflat, None, real(2, 1), -1),
    (ops.tril, None, CUBE, -1),
    (ops.tril, None, real(3)),
    (ops.triu, None, SQUARE),
    (ops.diag_indices_from, lambda x: tuple(np.array([(k, k) for k in range(len(x))]).T), SQUARE),
    (
        ops.tril_indices_from,
        lambda x, k: nonzeros(np.tri(*x.shape, k)),
        MATRIX,
        1,
    ),
    (
        ops.triu_indices_from,
        lambda x, k: nonzeros(1 - np.tri(*x.shape, k - 1)),
        MATRIX,
        1,
    ),
)

ORDER = [
    *rows(
        (ops.argsort, by_row(ranked), MATRIX),
        (ops.argsort, lambda x, axis: np.array(ranked(x.ravel().tolist())), COUNTS, None),
        (ops.argpartition, by_row(ranked), MATRIX, 1),
        (ops.argmax, by_row(lambda row: row.index(max(row))), MATRIX, 1),
        (ops.argmax, lambda x: x.ravel().tolist().index(x.max()), MATRIX),
        (ops.argmin, by_row(lambda row: row.index(min(row))), MATRIX, 1),
        (ops.nanargmax, by_row(lambda row: row.index(max(v for v in row if v == v))), frozen([[1.0, np.nan, 2.0]]), 1),
        (ops.nanargmin, by_row(lambda row: row.index(min(v for v in row if v == v))), frozen([[np.nan, 3.0, 2.0]]), 1),
        (ops.searchsorted, lambda a, v: np.array([sum(x < w for x in a) for w in v]), frozen([-1.0, 0.0, 1.0]), VECTOR),
        (
            ops.digitize,
            lambda x, bins: np.array([sum(b <= v for b in bins) for v in x]),
            VECTOR,
            frozen([-1.0, 0.0, 1.0]),
        ),
        (_bincount, lambda x, minlength: np.array([(x == k).sum() for k in range(6)]), COUNTS, {"minlength": 6}),
        (ops.bincount, None, COUNTS),
        (ops.sort, None, CUBE, 1),
        (ops.sort, None, MATRIX, None),
        (ops.partition, by_row(sorted), MATRIX, 1),
        (ops.partition, lambda x, *_: np.sort(x, None), real(3, 1), 1, None),
        (_unique, lambda x: distinct(x)[1:], COUNTS),
        (ops.unique, distinct, MATRIX, {"return_index": True, "return_inverse": True, "return_counts": True}),
        (ops.unique, lambda x: distinct(x)[0], CUBE),
        (ops.unique_values, lambda x: distinct(x)[0], MATRIX),
        (ops.isin, lambda x, those: np.array([v in those.tolist() for v in x.tolist()]), COUNTS, np.array([1, 3])),
    ),
    Row(ops.bincount, (COUNTS, VECTOR, 6), keeps_dtype=False),  # float64, as NumPy's
]

COPIES = [
    *rows(
        (ops.copy, lambda a: np.array([*map(list, a)]), MATRIX),
        (ops.full_like, lambda a, v: np.array([[float(v)] * 3] * 2), MATRIX, real()),
        (ops.full_like, lambda a, v: np.array([v.tolist()] * 2), MATRIX, real(3)),
        (ops.zeros_like, lambda a: 0 * a, MATRIX),
        (ops.ones_like, lambda a: 0 * a + 1, MATRIX),
        (ops.empty_like, lambda a, shape: a[:0], MATRIX, {"shape": (0, 3)}),
        (ops.linspace, None, MATRIX, real(3), 3),
        (ops.linspace, None, real(), real(), 4, False),
    ),
    Row(ops.astype, (MATRIX, np.float64), lambda x, dtype: x + 0, keeps_dtype=False),
    Row(ops.astype, (positive(3), np.int64), lambda x, dtype: np.array([int(v) for v in x]), keeps_dtype=False),
]

TRUTH = rows(
    (ops.any, lambda x, axis: np.array([any(row) for row in x.T]), boolean(2, 3), 0),
    (ops.all, lambda x: all(x.ravel()), boolean(2, 3)),
    (ops.count_nonzero, lambda x, axis: np.array([sum(map(bool, row)) for row in x]), boolean(2, 3), 1),
)

ROWS = [*SHAPES, *JOINS, *PARTS, *ORDER, *COPIES, *TRUTH]
