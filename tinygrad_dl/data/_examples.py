"""What the data tools ask of their arguments: arrays whose first axis counts the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor


def examples(where: str, arrays: Sequence[Any]) -> tuple[list[Any], int]:
    """The arrays (Tensors as they are, all else as ndarrays) and the number of their examples.

    Raises ValueError for none at all, for no examples, and for differing numbers of them."""
    found = [a if isinstance(a, Tensor) else np.asarray(a) for a in arrays]
    if not found:
        raise ValueError(f"{where}: expected at least one array, got none")
    for i, array in enumerate(found):
        if not array.ndim:
            raise ValueError(f"{where}: array {i}: expected examples along the first axis, got one {array.dtype} value")
    lengths = [len(a) for a in found]
    if len(set(lengths)) > 1:
        raise ValueError(f"{where}: expected arrays of the same number of examples, got {', '.join(map(str, lengths))}")
    if not lengths[0]:
        raise ValueError(f"{where}: expected at least one example, got shape {found[0].shape}")
    return found, lengths[0]
