"""NumPy functions that tell about arrays, against what Python tells."""

import numpy as np
from op_table_row import integer, real, rows

from tinygrad_dl.primitive import ANSWERS

A, B, N = real(2, 3), real(2, 3), integer(3)
NESTED = np.array([[1.5, -2.0]])


def equal(a, b):
    return a.tolist() == b.tolist()


ROWS = rows(
    (ANSWERS[np.shape], lambda a: (len(a), len(a[0])), A),
    (ANSWERS[np.ndim], lambda a: 2, A),
    (ANSWERS[np.size], lambda a: len(a) * len(a[0]), A),
    (ANSWERS[np.result_type], lambda a, b: np.dtype("float64"), A, N),
    (ANSWERS[np.can_cast], lambda a, to: False, np.dtype("float64"), np.int64),
    (ANSWERS[np.common_type], lambda a, b: np.float64, A, N),
    (ANSWERS[np.min_scalar_type], lambda a: np.dtype("int64"), N),
    (ANSWERS[np.iscomplexobj], lambda a: False, A),
    (ANSWERS[np.isrealobj], lambda a: True, A),
    (ANSWERS[np.may_share_memory], lambda a, b: False, A, B),
    (ANSWERS[np.shares_memory], lambda a, b: False, A, B),
    (ANSWERS[np.allclose], lambda a, b, r, t: equal(a, b), A, A, 1e-5, 1e-8),
    (ANSWERS[np.allclose], lambda a, b: equal(a, b), A, B),
    (ANSWERS[np.array_equal], equal, A, A),
    (ANSWERS[np.array_equal], equal, A, B),
    (ANSWERS[np.array_equiv], lambda a, b: all(row == b.tolist() for row in a.tolist()), np.stack([N, N]), N),
    (ANSWERS[np.array2string], lambda a: "[[ 1.5 -2. ]]", NESTED),
    (ANSWERS[np.array_repr], lambda a: "array([[ 1.5, -2. ]])", NESTED),
    (ANSWERS[np.array_str], lambda a: "[[ 1.5 -2. ]]", NESTED),
)
