"""Is a rule a function of what it is given, and linear in the incoming gradient? Near one point, along one direction,
under one gradient, it may be right without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..graph import Array, Node
from .audit import foreign
from .differences import TWICE
from .operation import Operation, Randomness, nearby, operations_of

SCALES = 2.0**20, 2.0**-20  # of the incoming gradient: powers of two, which do not round
LINEAR = 1e-6  # relative

STALE = "its rule reads what the last call of the kernel left behind: it may read only its arguments and the output"
NONLINEAR = "its rule does not answer to a much larger or smaller incoming gradient in proportion, as if it clipped it"


def unsound(operation: Operation, leaves: Sequence[Tensor], weights: Sequence[Array]) -> str | None:
    """Why the rule of a recorded operation is not to be trusted, if so. The library's own are: their tests see to
    that."""
    if not foreign(operation.node):
        return None
    got = operation.gradients(leaves, weights)
    for scale in SCALES:
        scaled = operation.gradients(leaves, [scale * w for w in weights])
        if not _alike([g if g is None else scale * g for g in got], scaled, LINEAR):
            return NONLINEAR if _alike(got, operation.gradients(leaves, weights), TWICE) else None
    rng = np.random.default_rng(0)
    try:
        operation.values([nearby(a, rng) for a in operation.args])
    except Exception:
        return None  # outside of the kernel's domain
    return None if _alike(got, operation.gradients(leaves, weights), TWICE) else STALE


def _alike(first: Sequence[Any], second: Sequence[Any], enough: float) -> bool:
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return all(np.allclose(b, a, 0, enough * np.max(np.abs(a), initial=0.0), equal_nan=True) for a, b in pairs)


def problems(nodes: Sequence[Node]) -> Iterator[str]:
    """What is unsound about the rules of recorded operations."""
    randomness = Randomness(0)
    for operation in operations_of(nodes):
        if not isinstance(operation, Operation):
            continue
        try:
            leaves = operation.record()
            weights = [randomness.weights(y.shape, y.dtype) for y in operation.floating]
            text = unsound(operation, leaves, weights)
        except Exception:
            continue  # that is found elsewhere
        if text is not None:
            yield f"{operation.place}: {text}"
