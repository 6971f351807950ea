"""NumPy functions that are a line or three of the operations before them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..primitive import answer
from .elementwise import (
    equal,
    floor_divide,
    greater,
    isinf,
    isnan,
    less,
    logical_and,
    positive,
    remainder,
    rint,
    signbit,
    sin,
    trunc,
    where,
)
from .index import getitem, take
from .reduction import cumprod, cumsum
from .shape import broadcast_to, concatenate, expand_dims, moveaxis, ravel, reshape
from .sorting import sort

if TYPE_CHECKING:
    from .._tensor import Tensor


def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    """Into [min, max]; a bound may be None. The gradient passes at the bounds, as PyTorch's `clamp`."""
    low, high = a_min if min is None else min, a_max if max is None else max
    result = a if low is None else where(less(a, low), low, a)
    result = result if high is None else where(greater(result, high), high, result)
    return positive(result) if result is a else result


def round(a: Any, decimals: int = 0) -> Tensor:
    """To a number of decimals; gradient 0."""
    return rint(a) if not decimals else rint(a * 10.0**decimals) / 10.0**decimals


def sinc(x: Any) -> Tensor:
    """sin(πx) / πx; 1 at 0."""
    zero = equal(x, 0)
    z = where(zero, 1, x) * math.pi
    return where(zero, 1 - x * x * (math.pi**2 / 6), sin(z) / z)


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Tensor:
    """NaN and infinities replaced by numbers, which get no gradient; a new array always."""
    info = np.finfo(x.dtype) if x.dtype.kind == "f" else np.iinfo(x.dtype)
    high, low = info.max if posinf is None else posinf, info.min if neginf is None else neginf
    bounded = where(isinf(x), where(greater(x, 0), x.dtype.type(high), x.dtype.type(low)), x)
    return where(isnan(x), x.dtype.type(nan), bounded)


def modf(x: Any) -> tuple[Tensor, Tensor]:
    """Fractional and whole part; the whole part has gradient 0."""
    whole = trunc(x)
    return where(isinf(x), 0, x - where(isinf(x), 0, whole)), whole


def divmod(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Quotient, rounded down, and remainder."""
    return floor_divide(x1, x2), remainder(x1, x2)


def ldexp(x1: Any, x2: Any) -> Tensor:
    """x1 · 2^x2 for integers x2."""
    return x1 * np.exp2(x2.astype(x1.dtype) if hasattr(x2, "astype") else float(x2))


def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    """n-th differences of neighbours along an axis."""
    axis = axis % a.ndim
    lead = (slice(None),) * axis
    for _ in range(n):
        a = a[(*lead, slice(1, None))] - a[(*lead, slice(None, -1))]
    return a


def ediff1d(ary: Any) -> Tensor:
    """Differences of neighbours of the flat array."""
    return diff(ravel(ary))


def cumulative_sum(x: Any, *, axis: int | None = None) -> Tensor:
    """Running sums."""
    return cumsum(x, axis)


def cumulative_prod(x: Any, *, axis: int | None = None) -> Tensor:
    """Running products."""
    return cumprod(x, axis)


def meshgrid(*xi: Any, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Grids of coordinates from vectors."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = [1, 0]
    shape = tuple(np.size(xi[i]) for i in order)
    views = [reshape(x, shape=tuple(-1 if order[k] == i else 1 for k in range(len(xi)))) for i, x in enumerate(xi)]
    return tuple(broadcast_to(v, shape=shape) for v in views)


def block(arrays: Any) -> Tensor:
    """An array put together from nested lists of blocks; the innermost lists join along the last axis."""

    def depth(part: Any) -> int:
        return 1 + depth(part[0]) if isinstance(part, list) else 0

    def build(part: Any, axis: int, ndim: int) -> Any:
        if isinstance(part, list):
            return concatenate([build(p, axis + 1, ndim) for p in part], axis)
        return reshape(part, shape=(1,) * (ndim - np.ndim(part)) + np.shape(part))

    levels = depth(arrays)

    def widest(part: Any) -> int:
        return max(map(widest, part)) if isinstance(part, list) else np.ndim(part)

    ndim = max(levels, widest(arrays))
    return build(arrays, -levels, ndim)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Tensor:
    """Powers of a vector as columns, the highest first unless increasing."""
    powers = range(x.size if N is None else N)
    columns = [x**k if k else x * 0 + 1 for k in (powers if increasing else reversed(powers))]
    return np.stack(columns, axis=1)


def polyval(p: Any, x: Any) -> Tensor:
    """The polynomial with coefficients p, the highest first, at x (Horner's rule)."""
    result = x * 0
    for k in range(len(p)):
        result = result * x + p[k]
    return result


def quantile(a: Any, q: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The q-th quantile, 0 <= q <= 1, with linear interpolation; q is data without gradient."""
    share = np.asarray(q, np.float64)
    if np.any((share < 0) | (share > 1)):
        raise ValueError(f"quantile: expected 0 <= q <= 1, got {q}")
    flat = ravel(a) if axis is None else moveaxis(a, axis, -1)
    ordered = sort(flat, -1)
    n = ordered.shape[-1]
    below = np.minimum(np.floor(share * (n - 1)), max(n - 2, 0)).astype(np.intp)
    weight = (share * (n - 1) - below).astype(a.dtype)
    low, high = take(ordered, below, -1), take(ordered, np.minimum(below + 1, n - 1), -1)
    result = low + (high - low) * weight
    result = moveaxis(result, -1, 0) if share.ndim else result
    if not keepdims:
        return result
    return (
        reshape(result, shape=share.shape + (1,) * a.ndim)
        if axis is None
        else expand_dims(result, share.ndim + axis % a.ndim)
    )


def percentile(a: Any, q: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The q-th percentile, 0 <= q <= 100."""
    return quantile(a, np.asarray(q) / 100, axis, keepdims)


def convolve(a: Any, v: Any, mode: str = "full") -> Tensor:
    """The convolution of two vectors; mode "full", "same" or "valid"."""
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ValueError(f"convolve: expected two vectors with elements, got shapes {a.shape} and {v.shape}")
    a, v = (a, v) if a.size >= v.size else (v, a)
    n, m = a.size, v.size
    spread = np.arange(n + m - 1)[:, None] - np.arange(m)
    padded = concatenate([a, np.zeros(1, a.dtype)])
    full = getitem(padded, np.where((spread >= 0) & (spread < n), spread, n)) @ v
    spans = {"full": (0, n + m - 1), "same": ((m - 1) // 2, (m - 1) // 2 + n), "valid": (m - 1, n)}
    if mode not in spans:
        raise ValueError(f"convolve: mode must be one of {', '.join(spans)}, got {mode!r}")
    return full[slice(*spans[mode])]


def isneginf(x: Any) -> Tensor:
    """Where it is -inf."""
    return logical_and(isinf(x), signbit(x))


def isposinf(x: Any) -> Tensor:
    """Where it is +inf."""
    return logical_and(isinf(x), np.logical_not(signbit(x)))


def real(val: Any) -> Tensor:
    """The array itself: there are only real numbers here."""
    return positive(val)


def choose(a: Any, choices: Sequence[Any]) -> Tensor:
    """Elements of the choice that the integers in `a` number."""
    result: Any = None
    for k, choice in enumerate(choices):
        result = choice if result is None else where(equal(a, k), choice, result)
    return result + np.zeros(np.shape(a), result.dtype)


def fix(x: Any) -> Tensor:
    """Towards zero; gradient 0."""
    return trunc(x)


_FUNCTIONS = (
    round, sinc, nan_to_num, diff, ediff1d, meshgrid, block, vander, polyval, quantile, percentile, convolve, isneginf,
    isposinf, choose, fix, modf, divmod, ldexp, cumulative_sum, cumulative_prod,
)  # fmt: skip
for _composite in _FUNCTIONS:
    if hasattr(np, _composite.__name__):
        answer(_composite, getattr(np, _composite.__name__))
answer(clip, (np.clip,))
answer(round, np.around)
answer(real, (np.real, np.real_if_close, np.conjugate))
