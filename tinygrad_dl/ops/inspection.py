"""NumPy functions that tell about arrays and give no array: on Tensors they tell the same.

Importing this module makes NumPy's functions answer; there is nothing to call here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..graph import Handle
from ..primitive import answer
from ._arguments import numpy_functions

NAMES = (
    "shape", "ndim", "size", "result_type", "can_cast", "common_type", "min_scalar_type", "iscomplexobj", "isrealobj",
    "may_share_memory", "shares_memory", "allclose", "array_equal", "array_equiv", "array2string", "array_repr",
    "array_str",
)  # fmt: skip


def _plain(x: Any) -> Any:
    return x.data if isinstance(x, Handle) else x


def _telling(function: Callable[..., Any]) -> Callable[..., Any]:
    def tell(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_plain, args), **{key: _plain(value) for key, value in kwargs.items()})

    tell.__name__, tell.__doc__ = function.__name__, function.__doc__
    return tell


for _function in numpy_functions(*NAMES):
    answer(_telling(_function), _function)
