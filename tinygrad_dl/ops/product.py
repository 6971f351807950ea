"""Matrix and tensor products, and what is composed of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..autodiff import unbroadcast
from ..primitive import answer, primitive
from .index import diagonal
from .shape import ravel, reshape, sum, transpose

if TYPE_CHECKING:
    from .._tensor import Tensor


def _to_first(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == 1:  # y = a @ vector
        return g[..., None] * b
    if _a.ndim == 1:
        return unbroadcast((b @ g[..., None])[..., 0], _a.shape)
    return unbroadcast(g @ b.mT, _a.shape)


def _to_second(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        if a.ndim == 1:
            return g * a
        return unbroadcast((a.mT @ g[..., None])[..., 0], _b.shape)
    if a.ndim == 1:
        return unbroadcast(a[:, None] * g[..., None, :], _b.shape)
    return unbroadcast(a.mT @ g, _b.shape)


matmul = primitive(np.matmul, _to_first, _to_second, numpy=(np.matmul, np.linalg.matmul))


def _einsum(*operands: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, *operands, optimize=len(operands) > 2)


def _explicit(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """The operands' letters and the output's, with the ellipsis spelled out in capital letters."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, got {len(shapes)}")
    free = [c for c in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if c not in subscripts]
    widths = [len(shape) - len(term) + 3 for term, shape in zip(terms, shapes, strict=True) if "..." in term]
    spelled = "".join(free[: max(widths, default=0)][::-1])
    filled = []
    for term, shape in zip(terms, shapes, strict=True):
        extra = len(shape) - len(term) + 3
        filled.append(term.replace("...", spelled[len(spelled) - extra :] if extra else ""))
    if not arrow:
        letters = "".join(filled)
        right = spelled + "".join(sorted(c for c in set(letters) - set(spelled) if letters.count(c) == 1))
    return filled, right.replace("...", spelled)


def _to_operand(g: Any, _y: Any, *operands: Any, subscripts: str, argnum: int) -> Any:
    """The sum over everything but this operand's letters, which g and the other operands share."""
    terms, out = _explicit(subscripts, [x.shape for x in operands])
    mine, shape = terms[argnum], operands[argnum].shape
    others = [(t, x) for i, (t, x) in enumerate(zip(terms, operands, strict=True)) if i != argnum]
    letters = "".join(dict.fromkeys(mine))
    sizes = dict(zip(mine, shape, strict=True))
    stretched = {c for t, x in [(out, g), *others] for c, n in zip(t, x.shape, strict=True) if n != sizes.get(c, n)}
    known = set(out).union(*[t for t, _ in others])
    inputs, arrays = [out, *[t for t, _ in others]], [g, *[x for _, x in others]]
    for c in letters:  # a letter that only this operand has: it was summed, so its gradient is spread
        if c not in known:
            inputs.append(c)
            arrays.append(np.ones(sizes[c], g.dtype))
    result = einsum(",".join(inputs) + "->" + letters, *arrays)
    if stretched:
        result = sum(result, axis=tuple(i for i, c in enumerate(letters) if c in stretched), keepdims=True)
    for i, c in enumerate(mine):  # a repeated letter read a diagonal: write one
        if c in mine[:i]:
            first = mine.index(c)
            eye = np.eye(shape[i], dtype=g.dtype).reshape([shape[j] if j in (first, i) else 1 for j in range(i + 1)])
            result = np.expand_dims(result, i) * eye.reshape(eye.shape + (1,) * (result.ndim - i))
    return result


_contract = primitive(_einsum, _to_operand, name="einsum")


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Einstein's summation, with implicit output, repeated letters and `...`."""
    if not isinstance(subscripts, str):
        raise TypeError("einsum: write the subscripts as a string, such as 'ij,jk->ik'")
    return _contract(*operands, subscripts=subscripts)


def dot(a: Any, b: Any) -> Tensor:
    """The product over a's last and b's second last (or only) axis; a scaled array for numbers."""
    if not np.ndim(a) or not np.ndim(b):
        return np.multiply(a, b)
    if a.ndim <= 2 and b.ndim <= 2:
        return matmul(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """The product over pairs of axes; an integer n names a's last and b's first n."""
    if isinstance(axes, int):
        first, second = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        first, second = normalize_axis_tuple(axes[0], a.ndim), normalize_axis_tuple(axes[1], b.ndim)
    if [a.shape[i] for i in first] != [b.shape[i] for i in second]:
        raise ValueError(f"tensordot: axes {first} of {a.shape} and {second} of {b.shape} differ in length")
    rest_a = [i for i in range(a.ndim) if i not in first]
    rest_b = [i for i in range(b.ndim) if i not in second]
    shape = tuple(a.shape[i] for i in rest_a) + tuple(b.shape[i] for i in rest_b)
    n = math.prod(a.shape[i] for i in first)
    left = reshape(transpose(a, axes=(*rest_a, *first)), shape=(math.prod(a.shape[i] for i in rest_a), n))
    right = reshape(transpose(b, axes=(*second, *rest_b)), shape=(n, math.prod(b.shape[i] for i in rest_b)))
    return reshape(matmul(left, right), shape=shape)


def inner(a: Any, b: Any) -> Tensor:
    """The product over the last axes."""
    if not np.ndim(a) or not np.ndim(b):
        return np.multiply(a, b)
    return tensordot(a, b, ((-1,), (-1,)))


def outer(a: Any, b: Any) -> Tensor:
    """The products of all pairs of elements, (a.size, b.size)."""
    return ravel(a)[:, None] * ravel(b)[None, :]


def vdot(a: Any, b: Any) -> Tensor:
    """The inner product of the flat arrays."""
    return matmul(ravel(a), ravel(b))


def vecdot(x1: Any, x2: Any, axis: int = -1) -> Tensor:
    """Inner products along an axis, broadcast over the others."""
    return sum(x1 * x2, axis=axis)


def matvec(x1: Any, x2: Any) -> Tensor:
    """Matrices times vectors, broadcast: (..., m, n) and (..., n) give (..., m)."""
    return matmul(x1, x2[..., None])[..., 0]


def vecmat(x1: Any, x2: Any) -> Tensor:
    """Vectors times matrices, broadcast: (..., n) and (..., n, m) give (..., m)."""
    return matmul(x1[..., None, :], x2)[..., 0, :]


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The sum of the diagonal over two axes."""
    return sum(diagonal(a, offset, axis1, axis2), axis=-1)


def kron(a: Any, b: Any) -> Tensor:
    """The Kronecker product: a's elements, each times the whole of b."""
    ndim = max(a.ndim, b.ndim)
    a = reshape(a, shape=(1,) * (ndim - a.ndim) + a.shape)
    b = reshape(b, shape=(1,) * (ndim - b.ndim) + b.shape)
    left = reshape(a, shape=tuple(k for n in a.shape for k in (n, 1)))
    right = reshape(b, shape=tuple(k for n in b.shape for k in (1, n)))
    return reshape(left * right, shape=tuple(m * n for m, n in zip(a.shape, b.shape, strict=True)))


def cross(a: Any, b: Any, axis: int = -1) -> Tensor:
    """The vector product of vectors of length 3 along an axis."""
    a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross: expected vectors of length 3, got {a.shape[-1]} and {b.shape[-1]}")
    c = a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]
    return np.moveaxis(c, -1, axis)


for _composite in (einsum, dot, tensordot, inner, outer, vdot, vecdot, matvec, vecmat, trace, kron, cross):
    answer(_composite, getattr(np, _composite.__name__))
answer(tensordot, np.linalg.tensordot)
answer(outer, np.linalg.outer)
answer(vecdot, np.linalg.vecdot)
answer(cross, np.linalg.cross)
