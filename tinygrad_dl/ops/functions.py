"""Functions of one variable: polynomials, interpolation, convolution, sinc."""

from __future__ import annotations

import math
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arguments import Array, answers, asarray
from .choice import clip, where
from .creation import zeros_like
from .elementwise import multiply, power, sin
from .index import getitem
from .join import pad
from .logic import greater, less
from .product import matmul
from .shape import flip, reshape
from .sort import searchsorted

if TYPE_CHECKING:
    from .._tensor import Tensor


@answers()
def sinc(x: Array) -> Tensor:
    """sin(πx) / (πx), and 1 at 0. Near 0 by its series, so that derivatives of every order are right there."""
    u = multiply(x, math.pi)
    near = less(abs(u), 0.5)
    t = where(near, u * u, 0)
    series: Any = 1
    for k in range(9, 0, -1):
        series = 1 - t * series / (2 * k * (2 * k + 1))
    away = where(near, 1, u)
    return where(near, series, sin(away) / away)


@answers()
def polyval(p: Array, x: Array) -> Tensor:
    """The polynomial with coefficients p, the highest power first, at x."""
    x = asarray(x)
    return reduce(lambda y, c: y * x + c, asarray(p), zeros_like(x))


@answers()
def vander(x: Array, N: int | None = None, increasing: bool = False) -> Tensor:
    """The powers of each element of a vector in a row: x^(N-1) to 1, or 1 to x^(N-1)."""
    x = asarray(x)
    if x.ndim != 1:
        raise ValueError(f"vander: expected a vector, got shape {x.shape}")
    if x.dtype.kind != "f":
        x = x.astype(np.promote_types(x.dtype, np.int64))
    exponents = np.arange(x.shape[0] if N is None else N, dtype=x.dtype)
    return power(reshape(x, shape=(-1, 1)), exponents if increasing else exponents[::-1])


@answers()
def interp(x: Array, xp: Array, fp: Array, left: Array = None, right: Array = None) -> Tensor:
    """The polygon through the points (xp, fp), at x; xp increases. left, right: outside, default the end values.

    At a point the gradient is that of the piece to its right."""
    x = asarray(x)
    xp, fp = (t if t.dtype.kind == "f" else t.astype(np.float64) for t in map(asarray, (xp, fp)))
    i = clip(searchsorted(xp, x, "right") - 1, 0, max(xp.shape[0] - 2, 0))
    x0, y0 = getitem(xp, i), getitem(fp, i)
    inside = y0
    if xp.shape[0] > 1:
        run, rise = getitem(xp, i + 1) - x0, getitem(fp, i + 1) - y0
        inside = y0 + (x - x0) * (rise / run)
    left = getitem(fp, 0) if left is None else left
    right = getitem(fp, -1) if right is None else right
    return where(less(x, getitem(xp, 0)), left, where(greater(x, getitem(xp, -1)), right, inside))


@answers()
def correlate(a: Array, v: Array, mode: str = "valid") -> Tensor:
    """The sums Σ a[k + n]·v[n] of two vectors, for every k where they overlap wholly ("valid"), at all ("full"), or
    so many times as the longer has elements ("same")."""
    a, v = asarray(a), asarray(v)
    if v.size > a.size:  # "same" is centred on the longer one
        return flip(correlate(v, a, mode))
    return convolve(a, flip(v), mode)


@answers()
def convolve(a: Array, v: Array, mode: str = "full") -> Tensor:
    """The sums Σ a[k - n]·v[n] of two vectors, for every k where they overlap at all ("full"), wholly ("valid"), or
    so many times as the longer has elements ("same")."""
    a, v = asarray(a), asarray(v)
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ValueError(f"convolve: expected two vectors, got shapes {a.shape} and {v.shape}")
    if mode not in ("full", "same", "valid"):
        raise ValueError(f"convolve: expected mode full, same or valid, got {mode!r}")
    if v.size > a.size:
        a, v = v, a
    n = v.size
    before, behind = {"full": (n - 1, n - 1), "same": (n // 2, (n - 1) // 2), "valid": (0, 0)}[mode]
    padded = pad(a, (before, behind))
    windows = np.arange(padded.size - n + 1)[:, None] + np.arange(n)
    return matmul(getitem(padded, windows), flip(v))
