"""Mini-batches of arrays, in order or shuffled anew for every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random
from .._tensor import Tensor
from ..graph import wrap
from ._examples import examples


class Loader:
    """A loop over it is an epoch of mini-batches: tuples of Tensors, or Tensors if there is one array.

    arrays: ndarrays or Tensors whose first axis counts the examples. They are read when a batch is made; a batch
        is a copy, with float64 cast to the default float32 and every other dtype kept.
    batch_size: examples in a batch; the last one may have fewer. `len(loader)` is the number of batches.
    shuffle: take the examples in the order of a new permutation in every epoch.
    drop_last: leave out a last batch that is smaller.
    seed: makes the permutation a function of the seed and of `epoch`, the number of epochs begun before, which
        may be set, to resume. Without a seed it is drawn from the generator of `tinygrad_dl.random`.

    Raises ValueError for no arrays, no examples, differing numbers of them, batch_size < 1 and if no batch is left;
    TypeError for arrays of anything but real numbers and booleans.
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 64,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
    ) -> None:
        found, self.size = examples("Loader", arrays)
        self.arrays = [np.asarray(a) for a in found]
        for i, array in enumerate(self.arrays):
            if array.dtype.kind not in "fiub":
                raise TypeError(f"Loader: array {i}: expected real numbers or booleans, got {array.dtype}")
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = shuffle, drop_last
        self.seed = None if seed is None else _integer("seed", seed, 0)
        self.epoch = 0
        if not len(self):
            raise ValueError(
                f"Loader: drop_last=True leaves no batch of {batch_size}: there are {self.size} examples; "
                "use a smaller batch_size"
            )

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = self._permutation() if self.shuffle else None
        self.epoch += 1
        return (self._batch(order, i * self.batch_size) for i in range(len(self)))

    def _permutation(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        source = random.generator() if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        return source.permutation(self.size)

    def _batch(self, order: np.ndarray[Any, Any] | None, start: int) -> Tensor | tuple[Tensor, ...]:
        rows = slice(start, start + self.batch_size)
        batch = tuple(wrap(_copy(a[rows] if order is None else a[order[rows]])) for a in self.arrays)
        return batch[0] if len(batch) == 1 else batch


def _copy(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.array(array, np.float32 if array.dtype == np.float64 else array.dtype, order="C")


def _integer(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"Loader: {name}: expected an integer, got {value!r}")
    if value < least:
        raise ValueError(f"Loader: {name}: expected at least {least}, got {value}")
    return int(value)
