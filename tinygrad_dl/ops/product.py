"""Matrix and tensor products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..autodiff import unbroadcast
from ..primitive import primitive

if TYPE_CHECKING:
    from .._tensor import Tensor


def _to_first(g: Any, _y: Any, _a: Any, b: Any) -> Any:
    if b.ndim == 1:  # y = a @ vector
        return g[..., None] * b
    if _a.ndim == 1:
        return unbroadcast((b @ g[..., None])[..., 0], _a.shape)
    return unbroadcast(g @ b.mT, _a.shape)


def _to_second(g: Any, _y: Any, a: Any, _b: Any) -> Any:
    if a.ndim == 1:
        return a[:, None] * g[..., None, :] if _b.ndim > 1 else g * a
    if _b.ndim == 1:
        return unbroadcast((a.mT @ g[..., None])[..., 0], _b.shape)
    return unbroadcast(a.mT @ g, _b.shape)


matmul = primitive(np.matmul, _to_first, _to_second, numpy=np.matmul)
