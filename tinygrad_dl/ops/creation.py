"""Conversions, constants shaped like another array, and questions that have no array for an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import Handle
from ..primitive import answer, primitive

astype = primitive(
    lambda x, dtype: np.asarray(x).astype(dtype),
    lambda g, _y, _x, dtype: g.astype(_x.dtype),
    name="astype",
    numpy=np.astype,
)
copy = primitive(lambda a: np.array(a), lambda g, *_: g, name="copy", numpy=np.copy)
zeros_like = primitive(
    lambda a, dtype=None, shape=None: np.zeros_like(a, dtype, shape=shape), name="zeros_like", numpy=np.zeros_like
)
ones_like = primitive(
    lambda a, dtype=None, shape=None: np.ones_like(a, dtype, shape=shape), name="ones_like", numpy=np.ones_like
)
empty_like = primitive(
    lambda a, dtype=None, shape=None: np.empty_like(a, dtype, shape=shape), name="empty_like", numpy=np.empty_like
)


def full_like(a: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """An array of a's shape and dtype with one value, whose gradient is the sum."""
    like = zeros_like(a, dtype=dtype, shape=shape)
    return like + np.asarray(fill_value).astype(like.dtype) if not isinstance(fill_value, Handle) else like + fill_value


answer(full_like, np.full_like)


def _plain(value: Any) -> Any:
    """Tensors as their arrays, also within sequences."""
    if isinstance(value, Handle):
        return value.data
    return type(value)(_plain(v) for v in value) if isinstance(value, list | tuple) else value


def _question(function: Callable[..., Any]) -> Callable[..., Any]:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return function(*_plain(args), **{k: _plain(v) for k, v in kwargs.items()})

    return ask


for _function in (
    np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.result_type, np.can_cast, np.min_scalar_type,
    np.common_type, np.may_share_memory, np.shares_memory, np.array_equal, np.array_equiv, np.allclose,
    np.array2string, np.array_repr, np.array_str,
):  # fmt: skip
    answer(_question(_function), _function)
