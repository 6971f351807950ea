"""Conversions, and constants shaped like another array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..primitive import primitive

astype = primitive(
    lambda x, dtype: np.asarray(x).astype(dtype), lambda g, _y, _x, dtype: g.astype(_x.dtype), name="astype", numpy=np.astype
)
copy = primitive(lambda a: np.array(a), lambda g, *_: g, name="copy", numpy=np.copy)
zeros_like = primitive(lambda a, dtype=None, shape=None: np.zeros_like(a, dtype, shape=shape), name="zeros_like", numpy=np.zeros_like)
ones_like = primitive(lambda a, dtype=None, shape=None: np.ones_like(a, dtype, shape=shape), name="ones_like", numpy=np.ones_like)
