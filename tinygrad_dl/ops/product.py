"""Products of vectors, matrices and tensors; all end in `matmul`, or in multiplication and a sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import unbroadcast
from ..primitive import primitive
from ._arguments import ONE, Array, answers, asarray, axes_of
from .elementwise import multiply, subtract
from .index import getitem
from .reduction import sum
from .shape import moveaxis, ravel, reshape, transpose

if TYPE_CHECKING:
    from .._tensor import Tensor


def _to_first(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == 1:  # each row of a met the same vector
        return g[..., None] * b
    r = g @ b.mT if _a.ndim > 1 else (b @ g[..., None])[..., 0]
    return r if r.shape == _a.shape else unbroadcast(r, _a.shape)


def _to_second(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if _b.ndim == 1:
        r = (a.mT @ g[..., None])[..., 0] if a.ndim > 1 else g * a
    else:
        r = a.mT @ g if a.ndim > 1 else a[:, None] * g[..., None, :]
    return r if r.shape == _b.shape else unbroadcast(r, _b.shape)


matmul = primitive(np.matmul, _to_first, _to_second, numpy=(np.matmul, np.linalg.matmul))
matmul.__doc__ = "`a @ b`: products of matrices in the last two axes, broadcast over the others; 1-D arrays as vectors."


@answers()
def dot(a: Array, b: Array) -> Tensor:
    """The sum over a's last and b's last but one axis, or only one; with a number, the product."""
    a, b = asarray(a), asarray(b)
    if not a.ndim or not b.ndim:
        return multiply(a, b)
    return matmul(a, b) if b.ndim < 3 else tensordot(a, b, (-1, -2))


@answers()
def inner(a: Array, b: Array) -> Tensor:
    """The sum over the last axes of both; with a number, the product."""
    a, b = asarray(a), asarray(b)
    return tensordot(a, b, (-1, -1)) if a.ndim and b.ndim else multiply(a, b)


@answers()
def outer(a: Array, b: Array) -> Tensor:
    """Every element of a, in rows, times every element of b, in columns."""
    return multiply(reshape(a, shape=(-1, 1)), ravel(b))


@answers()
def vdot(a: Array, b: Array) -> Tensor:
    """The sum of the elementwise product of the flat arrays."""
    return matmul(ravel(a), ravel(b))


@answers("vecdot", "linalg.vecdot")
def vecdot(x1: Array, x2: Array, axis: int = -1) -> Tensor:
    """The sum of the elementwise product along an axis."""
    return sum(multiply(x1, x2), axis=axis)


@answers()
def matvec(x1: Array, x2: Array) -> Tensor:
    """Matrices in the last two axes times vectors in the last axis, broadcast over the others."""
    _expect("matvec", (x1, 2), (x2, 1))
    return getitem(matmul(x1, getitem(asarray(x2), (..., None))), (..., 0))


@answers()
def vecmat(x1: Array, x2: Array) -> Tensor:
    """Vectors in the last axis times matrices in the last two axes, broadcast over the others."""
    _expect("vecmat", (x1, 1), (x2, 2))
    return getitem(matmul(getitem(asarray(x1), (..., None, slice(None))), x2), (..., 0, slice(None)))


def _expect(who: str, *pairs: tuple[Array, int]) -> None:
    for i, (x, ndim) in enumerate(pairs):
        if np.ndim(x) < ndim:
            raise ValueError(f"{who}: expected at least {ndim} axes in argument {i}, got shape {np.shape(x)}")


@answers("tensordot", "linalg.tensordot")
def tensordot(a: Array, b: Array, axes: int | Sequence[Any] = 2) -> Tensor:
    """The sum over pairs of axes. axes: how many, a's last with b's first; or a's axes and b's axes."""
    a, b = asarray(a), asarray(b)
    pair: Sequence[Any] = (range(a.ndim - axes, a.ndim), range(axes)) if isinstance(axes, ONE) else axes
    first, second = axes_of(pair[0], a.ndim), axes_of(pair[1], b.ndim)
    summed = [a.shape[i] for i in first]
    if summed != [b.shape[i] for i in second]:
        raise ValueError(f"tensordot: shapes {a.shape} and {b.shape} differ on the axes {first} and {second}")
    rows = [i for i in range(a.ndim) if i not in first]
    columns = [i for i in range(b.ndim) if i not in second]
    shape = [a.shape[i] for i in rows], [b.shape[i] for i in columns]
    n = math.prod(summed)
    left = reshape(transpose(a, axes=(*rows, *first)), shape=(math.prod(shape[0]), n))
    right = reshape(transpose(b, axes=(*second, *columns)), shape=(n, math.prod(shape[1])))
    return reshape(matmul(left, right), shape=(*shape[0], *shape[1]))


@answers()
def kron(a: Array, b: Array) -> Tensor:
    """The Kronecker product: blocks of b, each times an element of a."""
    a, b = asarray(a), asarray(b)
    ndim = max(a.ndim, b.ndim)
    outside, inside = ((1,) * (ndim - x.ndim) + x.shape for x in (a, b))
    blocks = reshape(a, shape=tuple(k for n in outside for k in (n, 1)))
    within = reshape(b, shape=tuple(k for n in inside for k in (1, n)))
    return reshape(blocks * within, shape=tuple(m * n for m, n in zip(outside, inside, strict=True)))


@answers()
def cross(a: Array, b: Array, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """The cross product of vectors of length 3 along an axis."""
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = moveaxis(asarray(a), axisa, -1), moveaxis(asarray(b), axisb, -1)
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise ValueError(f"cross: expected vectors of length 3, got shapes {a.shape} and {b.shape}, vectors last")

    def turned(x: Any, by: int) -> Any:
        return getitem(x, (..., [by, (by + 1) % 3, (by + 2) % 3]))

    product = subtract(turned(a, 1) * turned(b, 2), turned(a, 2) * turned(b, 1))
    return moveaxis(product, -1, axisc)
