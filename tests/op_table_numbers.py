"""Reductions, statistics, running sums and functions of one variable, against loops, SciPy and NumPy."""

import math

import numpy as np
from op_table_row import frozen, positive, real, rows
from scipy import special, stats

from tinygrad_dl import ops
from tinygrad_dl.ops import scan

MATRIX = real(2, 3)
CUBE = real(2, 3, 2)
VECTOR = real(4)
ZEROS = frozen([[0.0, 1.2, -0.7], [0.0, 0.0, 1.5]])
HOLES = frozen([[1.2, np.nan, -0.7], [0.4, 1.5, 0.9]])
SORTED = frozen([-1.5, -0.4, 0.3, 1.1])


def over(f):
    """A function of a list, over axes."""

    def reduced(x, axis=None, keepdims=False):
        axes = range(x.ndim) if axis is None else [a % x.ndim for a in np.atleast_1d(axis)]
        rest = [a for a in range(x.ndim) if a not in axes]
        flat = x.transpose(*rest, *axes).reshape(*[x.shape[a] for a in rest], -1)
        out = np.apply_along_axis(lambda v: f(v.tolist()), -1, flat)
        return out.reshape([1 if a in axes else n for a, n in enumerate(x.shape)]) if keepdims else out

    return reduced


def along(f):
    """A function from a list to a list as long, along an axis."""
    return lambda x, axis: np.apply_along_axis(lambda v: f(v.tolist()), axis, x)


def running(values, start, step):
    out = []
    for v in values:
        out.append(start := step(start, v))
    return out


def recurrence(b, c, axis):
    b, c = np.moveaxis(b, axis, 0), np.moveaxis(c, axis, 0)
    out = [b[0]]
    for bk, ck in zip(b[1:], c[1:], strict=True):
        out.append(bk + ck * out[-1])
    return np.moveaxis(np.array(out), 0, axis)


def sums(values):
    return running(values, 0, lambda a, v: a + v)


def products(values):
    return running(values, 1, lambda a, v: a * v)


REDUCTIONS = rows(
    *[
        (op, over(f), x, {"axis": axis, "keepdims": keepdims})
        for op, f in ((ops.sum, math.fsum), (ops.prod, math.prod), (ops.max, max), (ops.min, min))
        for x, axis, keepdims in ((CUBE, None, False), (CUBE, (0, -1), True), (MATRIX, 1, False))
    ],
    (ops.mean, over(lambda v: math.fsum(v) / len(v)), CUBE),
    (ops.mean, over(lambda v: math.fsum(v) / len(v)), CUBE, (0, 2)),
    (ops.prod, over(math.prod), ZEROS, 1),
    (ops.logsumexp, special.logsumexp, CUBE),
    (ops.logsumexp, special.logsumexp, CUBE, {"axis": (0, 1), "keepdims": True}),
    (ops.ptp, over(lambda v: max(v) - min(v)), CUBE, 1),
    (ops.var, lambda x, axis, ddof: over(lambda v: stats.describe(v).variance)(x, axis), CUBE, (0, 1), {"ddof": 1}),
    (ops.std, None, CUBE, 1, {"keepdims": True}),
    (ops.average, None, MATRIX),
    (ops.average, None, MATRIX, 1, positive(3)),
    (ops.average, None, MATRIX, None, positive(2, 3)),
    (ops.median, None, MATRIX, 1),
    (ops.median, None, CUBE, (0, 2), {"keepdims": True}),
    (ops.quantile, None, MATRIX, [0.2, 0.9], 1),
    (ops.quantile, None, CUBE, 0.35, {"keepdims": True}),
    (ops.percentile, None, CUBE, 30.0, (0, 1)),
    (ops.cov, None, MATRIX),
    (ops.cov, None, real(4, 2), {"rowvar": False, "ddof": 0}),
    (ops.cov, None, VECTOR, real(4)),
    (ops.corrcoef, None, real(2, 4)),
    *[
        (op, None, HOLES, 0)
        for op in (ops.nansum, ops.nanprod, ops.nancumsum, ops.nancumprod, ops.nanmean, ops.nanmax, ops.nanmin)
    ],
    (ops.nanvar, None, HOLES, 1, {"ddof": 1}),
    (ops.nanstd, None, HOLES),
)

ALONG = rows(
    (scan._recurrence, recurrence, MATRIX, real(2, 3), {"axis": 1}),
    (scan._cumsum, along(sums), MATRIX, {"axis": 0}),
    (scan._cumprod, along(products), ZEROS, {"axis": 1}),
    (ops.cumsum, None, MATRIX),
    (ops.cumsum, None, CUBE, 1),
    (ops.cumprod, None, MATRIX),
    (ops.cumprod, None, ZEROS, 1),
    (ops.cumulative_sum, lambda x, axis: along(sums)(x, axis), MATRIX, {"axis": 1}),
    (ops.cumulative_sum, lambda x, include_initial: np.array([0, *sums(x)]), VECTOR, {"include_initial": True}),
    (ops.cumulative_prod, lambda x, include_initial: np.array([1, *products(x)]), VECTOR, {"include_initial": True}),
    (ops.diff, None, CUBE, 2, 1),
    (ops.diff, None, MATRIX, 1, -1, real(2, 1), real()),
    (ops.ediff1d, None, MATRIX, real(2), real()),
    (ops.trapezoid, None, CUBE, {"axis": 1}),
    (ops.trapezoid, None, CUBE, real(3), {"axis": 1}),
    (ops.trapezoid, None, MATRIX, real(2, 3)),
)

FUNCTIONS = rows(
    (ops.polyval, lambda p, x: sum(c * x ** (len(p) - 1 - k) for k, c in enumerate(p)), real(3), MATRIX),
    (ops.vander, None, VECTOR, 3),
    (ops.vander, None, real(3), {"increasing": True}),
    (ops.interp, None, frozen([-2.0, -0.9, 0.1, 0.8, 2.0]), SORTED, VECTOR),
    (ops.interp, None, frozen([-2.0, 0.1, 2.0]), SORTED, VECTOR, real(), 0.5),
    *[(ops.convolve, None, VECTOR, real(3), mode) for mode in ("full", "same", "valid")],
    (ops.convolve, None, real(2), VECTOR),
    *[(ops.correlate, None, VECTOR, real(3), mode) for mode in ("full", "same", "valid")],
    (ops.correlate, None, real(2), VECTOR, "same"),
)

EMPTY = rows(
    (ops.sum, lambda x, axis: np.zeros(3), real(0, 3), 0),
    (ops.prod, lambda x, axis: np.ones(3), real(0, 3), 0),
    (ops.max, lambda x, axis: np.zeros(0), real(0, 3), 1),
    (ops.logsumexp, lambda x, axis: np.zeros(0), real(0, 3), {"axis": 1}),
    (ops.var, None, real(0, 3), 1),
    (ops.cumsum, None, real(0, 3), 0),
    (ops.cumsum, None, real(), -1),
    (ops.cumprod, None, real(0, 3), 0),
    (ops.sort, None, real(2, 0)),
    (ops.diff, None, real(2, 0)),
)

ROWS = [*REDUCTIONS, *ALONG, *FUNCTIONS, *EMPTY]
