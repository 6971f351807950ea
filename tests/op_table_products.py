"""Products of arrays and `linalg`, against loops over named axes, SciPy and NumPy."""

from itertools import product
from math import prod

import numpy as np
from op_table_row import Row, real, rows
from scipy import linalg as scipy_linalg

from tinygrad_dl import ops
from tinygrad_dl.ops import linalg
from tinygrad_dl.ops.einsum import _einsum

SQUARE = real(3, 3) + 2 * np.eye(3)
STACK = real(2, 2, 2) + 2 * np.eye(2)
RIGHT = real(3, 2)
VECTOR = real(3)


def summed(*operands, subscripts, optimize=True):
    """Einstein's summation, one product after the other; every letter once in an operand."""
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    length = {c: n for x, term in zip(operands, terms, strict=True) for c, n in zip(term, x.shape, strict=True)}
    out = np.zeros([length[c] for c in output])
    for values in product(*map(range, length.values())):
        at = dict(zip(length, values, strict=True))
        factors = [x[tuple(at[c] for c in term)] for x, term in zip(operands, terms, strict=True)]
        out[tuple(at[c] for c in output)] += prod(factors)
    return out


def dotted(a, b):
    """`a @ b` by multiplication and a sum."""
    left, right = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    y = (left[..., None] * right[..., None, :, :]).sum(-2)
    y = y[..., 0] if b.ndim == 1 else y
    return y if a.ndim > 1 else y[..., 0] if b.ndim == 1 else y[..., 0, :]


def stacked(f):
    """A function of a matrix, on stacks of them."""

    def whole(a):
        return np.array([whole(part) for part in a]) if a.ndim > 2 else f(a)

    return whole


def symmetric(a):
    return (a + a.mT) / 2 + 2 * np.eye(a.shape[-1], dtype=a.dtype)


PRODUCTS = rows(
    *[
        (ops.matmul, dotted, a, b)
        for a, b in (
            (real(2, 3), RIGHT),
            (VECTOR, RIGHT),
            (real(2, 3), VECTOR),
            (VECTOR, real(3)),
            (STACK, real(2, 3)),
            (real(2), STACK),
            (STACK, real(2)),
            (real(2, 1, 1, 2), STACK),
        )
    ],
    (ops.matmul, dotted, real(2, 0), real(0, 3)),
    (ops.dot, None, real(2, 3), RIGHT),
    (ops.dot, None, VECTOR, real(2, 3, 1)),
    (ops.inner, None, real(2, 3), real(1, 3)),
    (ops.inner, None, VECTOR, real()),
    (ops.outer, None, real(2), RIGHT),
    (ops.vdot, None, real(2, 3), RIGHT),
    (ops.vecdot, None, real(2, 3), VECTOR),
    (ops.vecdot, None, real(3, 2), RIGHT, {"axis": 0}),
    (ops.matvec, lambda a, b: np.array([[row @ v for row in m] for m, v in zip(a, b, strict=True)]), STACK, real(2, 2)),
    (ops.vecmat, lambda a, b: np.array([[a @ c for c in m.T] for m in b]), real(2), STACK),
    (ops.tensordot, None, real(2, 3, 1), real(3, 1, 2)),
    (ops.tensordot, None, real(2, 3), real(2, 1, 3), {"axes": ([0, 1], [0, 2])}),
    (ops.tensordot, None, real(2), real(3), {"axes": 0}),
    (ops.kron, None, real(2, 2), real(1, 3)),
    (ops.kron, None, real(2), real(1, 3)),
    (ops.cross, None, real(2, 3), VECTOR),
    (ops.cross, None, RIGHT, real(3, 2), {"axis": 0}),
    (_einsum, summed, real(2, 3), RIGHT, {"subscripts": "ij,jk->ki"}),
    (_einsum, summed, real(2, 1), real(1, 3), real(2), {"subscripts": "ij,jk,i->k"}),
    *[
        (ops.einsum, None, subscripts, *operands)
        for subscripts, *operands in (
            ("ij,jk", real(2, 3), RIGHT),
            ("ji", real(2, 3)),
            ("ij,jk", real(2, 0), real(0, 3)),
            ("...ij,...jk->...ik", STACK, real(2, 1)),
            ("ii->i", SQUARE),
            ("ii", SQUARE),
            ("ij->j", real(2, 3)),
            ("i,j->ij", real(2), VECTOR),
            ("bi,ij,bj->b", real(2, 3), SQUARE, real(2, 3)),
            ("i...->...", STACK),
            ("ij,kj->i", real(2, 1), real(2, 3)),
        )
    ],
)

LINALG = [
    Row(op, args, reference, static, half=False)
    for op, reference, static, *args in (
        (linalg.inv, scipy_linalg.inv, {}, SQUARE),
        (linalg.inv, stacked(scipy_linalg.inv), {}, STACK),
        (linalg.det, scipy_linalg.det, {}, SQUARE),
        (linalg.det, stacked(scipy_linalg.det), {}, STACK),
        (linalg._logabsdet, lambda a: np.log(abs(scipy_linalg.det(a))), {}, SQUARE),
        (linalg._sign_of_det, lambda a: np.sign(scipy_linalg.det(a)), {}, SQUARE),
        (linalg.slogdet, None, {}, STACK),
        (linalg.solve, scipy_linalg.solve, {}, SQUARE, VECTOR),
        (linalg.solve, scipy_linalg.solve, {}, SQUARE, RIGHT),
        (linalg.solve, lambda a, b: np.array([scipy_linalg.solve(part, b) for part in a]), {}, STACK, real(2, 2)),
        (linalg.matrix_power, None, {}, STACK, -2),
    )
]

NORMS = [
    *rows(
        *[
            (linalg.vector_norm, None, real(2, 3), {"axis": 1, "ord": p})
            for p in (2, 1, 3, 0.5, 0, np.inf, -np.inf, -2)
        ],
        (linalg.vector_norm, None, real(2, 3), {"keepdims": True}),
        *[(linalg.matrix_norm, None, real(2, 3), {"ord": p}) for p in ("fro", 1, -1, np.inf, -np.inf)],
        (linalg.norm, None, real(2, 3, 1)),
        (linalg.norm, None, real(3, 2), 3, 0),
        (linalg.norm, None, real(2, 3, 2), 1, (2, 0), True),
        (linalg.diagonal, None, STACK, {"offset": 1}),
        (linalg.trace, None, STACK),
        (linalg.outer, None, real(2), VECTOR),
        (linalg.cross, None, VECTOR, real(3)),
        (linalg.matrix_power, None, SQUARE, 3),
        (linalg.matrix_power, None, STACK, 0),
        (linalg.multi_dot, None, [VECTOR, SQUARE, RIGHT]),
    ),
    Row(ops.dot, (VECTOR, 2.0), keeps_dtype=False),  # float64, as NumPy's
    Row(linalg.cholesky, (SQUARE,), lambda a: scipy_linalg.cholesky(a, lower=True), before=symmetric, half=False),
]

ROWS = [*PRODUCTS, *LINALG, *NORMS]
