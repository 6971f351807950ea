"""Inputs of mean 0 and standard deviation 1, by the statistics of the training data."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from .._tensor import Tensor
from ..graph import Array
from ._examples import examples


class Normalizer:
    """x ← (x − μ) / σ for each feature, where μ is its mean over the training data and σ² = mean (x − μ)².

    Fit it on the training data only, and apply it to the data for development, test and prediction as well:
    `normalizer = Normalizer().fit(x_train)`, then `normalizer.transform(x_test)`. A constant feature has σ = 1.

    mean, std: the statistics, float64 arrays of the shape of one example, None before `fit`. Pass them to restore an
        earlier fit. Raises ValueError for one without the other, other shapes, and a std not above 0.
    """

    def __init__(self, mean: Any = None, std: Any = None) -> None:
        if (mean is None) != (std is None):
            raise ValueError("Normalizer: expected both mean and std, or neither")
        self.mean: Array | None = None if mean is None else np.asarray(mean, np.float64)
        self.std: Array | None = None if std is None else np.asarray(std, np.float64)
        if np.shape(mean) != np.shape(std):
            raise ValueError(f"Normalizer: expected equal shapes, got mean {np.shape(mean)} and std {np.shape(std)}")
        if self.std is not None and not (self.std > 0).all():
            raise ValueError(f"Normalizer: expected std > 0, got {self.std.min()}")

    def fit(self, x: Any) -> Self:
        """Compute μ and σ of each feature over the first axis of x, (N, …). Returns the normalizer.

        Raises ValueError for no examples and for NaN and infinite values, TypeError for anything but real numbers.
        """
        data = _values("fit", x)[1].astype(np.float64)
        constant = data.min(0) == data.max(0)
        mean = np.where(constant, data[0], data.mean(0))  # a mean has a rounding error, even of equal values
        std = np.sqrt(np.square(data - mean).mean(0))
        self.mean, self.std = mean, np.where(std == 0, 1.0, std)
        return self

    def transform(self, x: Any) -> Any:
        """(x − μ) / σ, of the shape of x: a Tensor (recorded) for a Tensor, an ndarray for all else.

        Floating dtypes are kept, others become float32. Raises RuntimeError before `fit`, ValueError for other
        features than in `fit` and for NaN and infinite values.
        """
        if self.mean is None or self.std is None:
            raise RuntimeError("Normalizer.transform: no statistics yet; call fit(x_train) first")
        values, data = _values("transform", x)
        if data.shape[1:] != self.mean.shape:
            raise ValueError(
                f"Normalizer.transform: expected examples of shape {self.mean.shape}, as in fit, got {data.shape[1:]}; "
                "the first axis of x counts the examples"
            )
        return ((values - self.mean) / self.std).astype(data.dtype if data.dtype.kind == "f" else np.float32)


def _values(method: str, x: Any) -> tuple[Any, Array]:
    """The values as they came (a Tensor, or else an ndarray) and as an ndarray."""
    [values], _ = examples(f"Normalizer.{method}", [x])
    data: Array = values.data if isinstance(values, Tensor) else values
    if data.dtype.kind not in "fiub":
        raise TypeError(f"Normalizer.{method}: expected real numbers, got {data.dtype}")
    bad = np.argwhere(~np.isfinite(data))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"Normalizer.{method}: expected finite values, got {data[at]} at {list(at)}, the first of {len(bad)} such; "
            "remove these examples or fill the gaps"
        )
    return values, data
