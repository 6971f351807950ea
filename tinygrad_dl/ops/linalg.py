"""NumPy's `linalg`: norms, inverses, determinants, equations. Matrices are in the last two axes.

What NumPy has under the same name outside `np.linalg`, with other axes, is here in linalg's form.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..autodiff import unbroadcast
from ..primitive import primitive
from . import diagonals, product
from ._arguments import Array, Axis, answers, asarray, axes_of, kept, without_gradient
from .choice import where
from .creation import ones_like, zeros_like
from .elementwise import absolute, power, root, square
from .logic import equal, not_equal
from .product import matmul as matmul
from .product import tensordot as tensordot
from .product import vecdot as vecdot
from .reduction import max, min, sum
from .shape import matrix_transpose as matrix_transpose
from .shape import moveaxis, reshape

if TYPE_CHECKING:
    from .._tensor import Tensor


def _to_right_side(g: Any, a: Any, shape: tuple[int, ...]) -> Any:
    r = np.linalg.solve(a.mT, g) if len(shape) > 1 else np.linalg.solve(a.mT, g[..., None])[..., 0]
    return r if r.shape == shape else unbroadcast(r, shape)


def _to_matrix(g: Any, y: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        g, y = g[..., None], y[..., None]
    return unbroadcast(-np.linalg.solve(a.mT, g) @ y.mT, a.shape)


def _to_gram(g: Any, y: Any) -> Any:
    """Murray, Differentiation of the Cholesky decomposition, 2016, eq. 10, symmetrised."""
    lower = np.tril(y.mT @ g)
    lower = lower - np.tril(np.triu(lower)) / 2
    half = np.linalg.solve(y.mT, np.linalg.solve(y.mT, lower.mT).mT)
    return (half + half.mT) / 2


inv = primitive(np.linalg.inv, lambda g, y, _a: -(y.mT @ g @ y.mT), name="inv", numpy=np.linalg.inv)
det = primitive(
    np.linalg.det,
    lambda g, y, a: (g * y)[..., None, None] * np.linalg.inv(a).mT,
    name="det",
    numpy=np.linalg.det,
)
_logabsdet = primitive(
    lambda a: np.linalg.slogdet(a)[1], lambda g, _y, a: g[..., None, None] * np.linalg.inv(a).mT, name="logabsdet"
)
solve = primitive(
    np.linalg.solve,
    _to_matrix,
    lambda g, _y, a, _b: _to_right_side(g, a, _b.shape),
    name="solve",
    numpy=np.linalg.solve,
)
cholesky = primitive(np.linalg.cholesky, lambda g, y, _a: _to_gram(g, y), name="cholesky", numpy=np.linalg.cholesky)
inv.__doc__ = "The inverse of matrices. Raises LinAlgError for a singular one."
det.__doc__ = "The determinant of matrices. Only an invertible one has a gradient here."
cholesky.__doc__ = "The lower triangular L with `a = L @ L.mT`, of positive definite a; the gradient is symmetric."
solve.__doc__ = "x with `a @ x = b`; a one-dimensional b is a vector. Raises LinAlgError for a singular a."


class SlogdetResult(NamedTuple):
    """The sign of a determinant and the logarithm of its magnitude."""

    sign: Any
    logabsdet: Any


@without_gradient()
def _sign_of_det(a: Array) -> Any:
    return np.linalg.slogdet(a)[0]


@answers("linalg.slogdet")
def slogdet(a: Array) -> SlogdetResult:
    """The sign of the determinant, and the logarithm of its magnitude, which has a gradient where it is finite."""
    return SlogdetResult(_sign_of_det(a), _logabsdet(a))


def _floating(x: Array) -> Tensor:
    """As NumPy has it: norms of integers are of their values as float64."""
    x = asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


@answers("linalg.vector_norm")
def vector_norm(x: Array, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """(Σ|x|^ord)^(1/ord) over axes, the largest or smallest |x| for ord = ±inf, the number of nonzeros for 0.

    At elements that are 0, and at the zero vector, the gradient is 0; ties for ±inf share it."""
    x = _floating(x)
    if ord == 2:
        return root(sum(square(x), axis=axis, keepdims=keepdims))
    size = absolute(x)
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum(not_equal(x, 0), axis=axis, keepdims=keepdims).astype(x.dtype)
    zero, limit = equal(x, 0), 0 if ord > 0 else np.inf  # what 0^ord and 0^(1/ord) are
    total = sum(where(zero, limit, power(where(zero, 1, size), ord)), axis=axis, keepdims=keepdims)
    nothing = equal(total, 0)
    return where(nothing, limit, power(where(nothing, 1, total), 1 / ord))


@answers("linalg.matrix_norm")
def matrix_norm(x: Array, *, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of matrices: "fro", or the largest (smallest: negative) sum of |x| in a column, 1, or a row, inf."""
    if ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(f"matrix_norm: expected ord 'fro', 1, -1, inf or -inf, got {ord!r}")
    sums = sum(absolute(_floating(x)), axis=-2 if ord in (1, -1) else -1, keepdims=True)
    return (max if ord in (1, np.inf) else min)(sums, axis=(-2, -1), keepdims=keepdims)


@answers("linalg.norm")
def norm(x: Array, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of a vector (one axis) or a matrix (two), or of all elements; see `vector_norm`, `matrix_norm`."""
    x = asarray(x)
    if ord is None:
        return vector_norm(x, axis=axis, keepdims=keepdims)
    axes = axes_of(axis, x.ndim)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=ord)
    if len(axes) != 2:
        raise ValueError(f"norm: ord={ord!r} needs one axis or two, got axis={axis} of shape {x.shape}")
    result = matrix_norm(moveaxis(x, axes, (-2, -1)), ord=ord)
    return reshape(result, shape=kept(x.shape, axes)) if keepdims else result


@answers("linalg.diagonal")
def diagonal(x: Array, *, offset: int = 0) -> Tensor:
    """The diagonals of matrices."""
    return diagonals.diagonal(x, offset, -2, -1)


@answers("linalg.trace")
def trace(x: Array, *, offset: int = 0) -> Tensor:
    """The sums of the diagonals of matrices."""
    return diagonals.trace(x, offset, -2, -1)


@answers("linalg.outer")
def outer(x1: Array, x2: Array) -> Tensor:
    """The outer product of two vectors."""
    if np.ndim(x1) != 1 or np.ndim(x2) != 1:
        raise ValueError(f"outer: expected two vectors, got shapes {np.shape(x1)} and {np.shape(x2)}")
    return product.outer(x1, x2)


@answers("linalg.cross")
def cross(x1: Array, x2: Array, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of length 3 along an axis."""
    return product.cross(x1, x2, axis=axis)


@answers("linalg.multi_dot")
def multi_dot(arrays: Sequence[Array]) -> Tensor:
    """The product of several matrices, from left to right; the first and the last may be vectors."""
    result: Tensor = reduce(matmul, arrays)
    return result


@answers("linalg.matrix_power")
def matrix_power(a: Array, n: int) -> Tensor:
    """The n-th power of square matrices, by squaring; a negative one of the inverse."""
    if n < 0:
        return matrix_power(inv(a), -n)
    if n < 2:
        return a if n else where(np.eye(a.shape[-1], dtype=bool), ones_like(a), zeros_like(a))
    half = matrix_power(a, n // 2)
    return matmul(matmul(half, half), a) if n % 2 else matmul(half, half)
