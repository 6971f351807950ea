"""The statistics by which a trained batch norm evaluates, besides the running ones that training leaves.

The layer's own way is the running average. `population_statistics` takes those of the data that are being evaluated,
and `recompute_statistics` replaces the average by the exact values over the training set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .._tensor import Tensor
from ..scope import no_grad
from .layers import BatchNorm1d
from .module import Module
from .observing import evaluating, inputs_of, observed, undone_on_error


@contextmanager
def population_statistics(model: Module) -> Iterator[None]:
    """Inside the block the model is in evaluation mode, but its batch norms use the mean and biased variance of their
    input.

    Pass a whole test set in one call to use the test set's own statistics. The running statistics are not used and do
    not change; afterwards every module is in its previous mode. A batch norm raises ValueError for one value per
    channel.
    """
    norms = [m for m in model.modules() if isinstance(m, BatchNorm1d)]
    before = [m.by_population for m in norms]
    try:
        for norm in norms:
            norm.by_population = True
        with evaluating(model):
            yield
    finally:
        for norm, value in zip(norms, before, strict=True):
            norm.by_population = value


@no_grad()
def recompute_statistics(model: Module, loader: Iterable[Any]) -> Module:
    """Set the running mean and (unbiased) variance of each batch norm to those over all examples, exactly.

    loader: batches of inputs, or tuples whose first part is the inputs; read once for every batch norm. Batch norms
        are processed in the order in which they run: each gets its statistics with dropout off, while those before it
        already use their new ones. So the statistics do not depend on how the examples are batched. They are also free
        of the variance shift that dropout before a batch norm causes in the running average (Hendrycks and Gimpel
        2016, Adjusting for dropout variance in batch normalization and weight initialization). Returns the model, in
        its previous mode.

    Raises ValueError for no batches, for fewer than two values per channel and for values that are not finite; the
    model is then unchanged.
    """
    waiting = [m for m in model.modules() if isinstance(m, BatchNorm1d) and m.running_mean is not None]
    with undone_on_error(model), evaluating(model):
        while waiting:
            norm, moments = _first(model, loader, waiting)
            if norm is None:
                break  # the rest does not run
            mean, variance = moments.result()
            norm.running_mean.assign(mean)  # type: ignore[union-attr]
            norm.running_var.assign(variance)  # type: ignore[union-attr]
            waiting = [m for m in waiting if m is not norm]
    return model


def _first(model: Module, loader: Iterable[Any], norms: list[BatchNorm1d]) -> tuple[BatchNorm1d | None, _Moments]:
    """The batch norm among these that runs first, and the moments of its inputs over all batches."""
    moments = _Moments()
    found: list[Any] = []

    def see(norm: Module, x: Any, y: Any) -> None:
        if not found:
            found.append(norm)
        if norm is found[0]:
            moments.add(x)

    batches = 0
    with observed(norms, see):
        for batch in loader:
            model(inputs_of(batch))
            batches += 1
    if not batches:
        raise ValueError("recompute_statistics: expected batches, and again for every batch norm; the loader gave none")
    return (found[0] if found else None), moments


class _Moments:
    """Mean and variance of each channel over batches (Chan, Golub and LeVeque 1979), in float64."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.float64(0), np.float64(0)

    def add(self, x: Any) -> None:
        data = np.asarray(x.data if isinstance(x, Tensor) else x, np.float64)
        values = np.moveaxis(data, 1, -1).reshape(-1, data.shape[1])
        mean, count = values.mean(0), self.count + len(values)
        shift = mean - self.mean
        self.squares = self.squares + np.square(values - mean).sum(0) + shift**2 * (self.count * len(values) / count)
        self.mean = self.mean + shift * (len(values) / count)
        self.count = count

    def result(self) -> tuple[Any, Any]:
        """The mean and the unbiased variance."""
        if self.count < 2:
            raise ValueError("recompute_statistics: expected more than one value per channel for a variance, got 1")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.squares).all()):
            raise ValueError("recompute_statistics: a batch norm's inputs are not finite; look for the NaN or infinity")
        return self.mean, self.squares / (self.count - 1)
