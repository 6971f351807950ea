"""Linear algebra: norms, inverse, determinant, solving, powers. Matrices are the last two axes.

Norms have gradient 0 at the zero vector, as PyTorch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import answer, primitive
from .index import diagonal
from .product import matmul, trace
from .reduction import max, min
from .shape import ravel, sum
from .statistics import safe_sqrt

if TYPE_CHECKING:
    from .._tensor import Tensor

Axis = int | Sequence[int] | None


def vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """(Σ|x|ᵖ)^(1/p) over axes (all by default); ord may be inf, -inf or 0."""
    size = np.abs(x)
    if ord == np.inf:
        return max(size, axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum(np.not_equal(x, 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axis, keepdims=keepdims)
    if ord == 2:
        return safe_sqrt(sum(x * x, axis=axis, keepdims=keepdims))
    total = sum(size**ord, axis=axis, keepdims=keepdims)
    zero = np.equal(total, 0)
    return np.where(zero, 0, np.where(zero, 1, total) ** (1 / ord))


def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of matrices: "fro", or 1, -1, inf, -inf (largest or smallest absolute row or column sum)."""
    return norm(x, ord, (-2, -1), keepdims)


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Tensor:
    """NumPy's `linalg.norm`: of the flat array by default, of vectors along an axis, of matrices over two.

    Of matrices "fro", 1, -1, inf and -inf; those by singular values have no rule here."""
    if axis is None and ord is None:
        result = vector_norm(ravel(x))
        return np.reshape(result, (1,) * x.ndim) if keepdims else result
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError(f"norm: expected one or two axes, got {axes}")
    if ord in (None, "fro"):
        return vector_norm(x, axis=axes, keepdims=keepdims)
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError(f"norm: of matrices expected 'fro', 1, -1, inf or -inf, got {ord!r}")
    rows, columns = axes if abs(ord) == 1 else axes[::-1]
    sums = sum(np.abs(x), axis=rows, keepdims=True)
    result = (max if ord > 0 else min)(sums, axis=columns, keepdims=True)
    return result if keepdims else np.squeeze(result, axes)


inv = primitive(np.linalg.inv, lambda g, y, _a: -(y.mT @ g @ y.mT), name="inv", numpy=np.linalg.inv)


def solve(a: Any, b: Any) -> Tensor:
    """x with a @ x = b; b holds vectors if it has one axis, else matrices."""
    if b.ndim == 1:
        return _solve(a, b[..., None])[..., 0]
    return _solve(a, b)


def _to_matrix(g: Any, y: Any, a: Any, _b: Any) -> Any:
    from ..autodiff import unbroadcast

    return unbroadcast(-(_solve(a.mT, g) @ y.mT), a.shape)


def _to_right_side(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    from ..autodiff import unbroadcast

    return unbroadcast(_solve(a.mT, g), _b.shape)


_solve = primitive(np.linalg.solve, _to_matrix, _to_right_side, name="solve")
det = primitive(np.linalg.det, lambda g, y, a: (g * y)[..., None, None] * inv(a).mT, name="det", numpy=np.linalg.det)
_logabsdet = primitive(
    lambda a: np.linalg.slogdet(a)[1], lambda g, _y, a: g[..., None, None] * inv(a).mT, name="logabsdet"
)


def slogdet(a: Any) -> tuple[Any, Tensor]:
    """Sign and logarithm of the absolute value of the determinant; the sign has no gradient."""
    plain = a.detach() if hasattr(a, "detach") else a
    return np.sign(det(plain)), _logabsdet(a)


cholesky = primitive(
    np.linalg.cholesky, lambda g, y, _a: _through_cholesky(g, y), name="cholesky", numpy=np.linalg.cholesky
)


def _through_cholesky(g: Any, y: Any) -> Any:
    """Murray (2016), Differentiation of the Cholesky decomposition, eq. 10, symmetrised."""
    half = np.tril(y.mT @ g)
    half = half - np.eye(y.shape[-1], dtype=y.dtype) * half / 2
    middle = _solve(y.mT, _solve(y.mT, half.mT).mT)
    return (middle + middle.mT) / 2


def matrix_power(a: Any, n: int) -> Tensor:
    """A matrix times itself n times; negative n for the inverse."""
    base = inv(a) if n < 0 else a
    result: Any = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape) + 0 * a if n == 0 else base
    for _ in range(abs(n) - 1):
        result = matmul(result, base)
    return result


def multi_dot(arrays: Sequence[Any]) -> Tensor:
    """The product of several matrices, from left to right."""
    result = arrays[0]
    for array in arrays[1:]:
        result = matmul(result, array)
    return result


for _composite in (norm, vector_norm, matrix_norm, solve, slogdet, matrix_power, multi_dot):
    answer(_composite, getattr(np.linalg, _composite.__name__))
answer(lambda x, *, offset=0: diagonal(x, offset, -2, -1), np.linalg.diagonal)
answer(lambda x, *, offset=0: trace(x, offset, -2, -1), np.linalg.trace)
