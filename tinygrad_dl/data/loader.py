"""Mini-batches of arrays, in order or shuffled anew for every epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random
from .._tensor import Tensor
from ..graph import Array, wrap
from ._examples import examples


class Loader:
    """Iterating over it gives one epoch of mini-batches: tuples of Tensors, or Tensors if there is only one array.

    arrays: ndarrays or Tensors whose first axis counts the examples. They are read when a batch is made; a batch
        is a copy, with float64 cast to the default float32 and every other dtype kept.
    batch_size: examples in a batch; the last one may have fewer. `len(loader)` is the number of batches.
    shuffle: use a new random order of the examples in every epoch.
    drop_last: omit the last batch if it is smaller.
    seed: makes the order a function of the seed and of `epoch`, the number of epochs begun before, which you may set
        in order to resume. Without a seed it is drawn from the generator of `tinygrad_dl.random`.

    `state_dict()` is the position in the data, even in the middle of an epoch: a Loader with the same options that
    loads it first gives the rest of that epoch.

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
        self._given: int | None = None  # batches of the epoch under way; None between epochs
        self._before: dict[str, Any] | None = None  # the generator's state before it drew that epoch's permutation
        self._resumed: dict[str, Any] | None = None  # the state to continue from
        if not len(self):
            raise ValueError(
                f"Loader: drop_last=True leaves no batch of {batch_size}: there are {self.size} examples; "
                "use a smaller batch_size"
            )

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        resumed, self._resumed = self._resumed, None
        order = self._permutation(resumed) if self.shuffle else None
        self.epoch += 1
        return self._batches(order, resumed["given"] if resumed else 0)

    def state_dict(self) -> dict[str, Any]:
        """The options, the number of epochs begun, and how many batches of the current epoch were given: plain data.

        Without a seed it also holds the state of the generator before that epoch's permutation was drawn."""
        if self._resumed:
            return dict(self._resumed)
        return {**self._options(), "epoch": self.epoch, "given": self._given, "generator": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict()`: the next loop gives the rest of the interrupted epoch.

        Raises KeyError for anything but such a state, ValueError for that of a Loader with other options or data."""
        mine = self.state_dict()
        if set(state) != set(mine):
            raise KeyError(f"Loader.load_state_dict: expected {sorted(mine)}, got {sorted(state)}")
        for name, value in self._options().items():
            if state[name] != value:
                raise ValueError(f"Loader.load_state_dict: the state has {name} {state[name]}, this Loader has {value}")
        under_way = state["given"] is not None
        self.epoch, self._given, self._before = state["epoch"] - under_way, None, state["generator"]
        self._resumed = dict(state) if under_way else None

    def _options(self) -> dict[str, Any]:
        names = ("size", "batch_size", "shuffle", "drop_last", "seed")
        return {name: getattr(self, name) for name in names}

    def _permutation(self, resumed: dict[str, Any] | None) -> Array:
        if self.seed is not None:
            return np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        source = random.generator()
        if resumed:  # drawn already: not again from the generator itself
            source = copy.deepcopy(source)
            source.bit_generator.state = resumed["generator"]
        self._before = dict(source.bit_generator.state)
        return source.permutation(self.size)

    def _batches(self, order: Array | None, first: int) -> Iterator[Any]:
        for i in range(first, len(self)):
            self._given = i + 1
            yield self._batch(order, i * self.batch_size)
        self._given = None

    def _batch(self, order: Array | None, start: int) -> Tensor | tuple[Tensor, ...]:
        rows = slice(start, start + self.batch_size)
        batch = tuple(wrap(_copy(a[rows] if order is None else a[order[rows]])) for a in self.arrays)
        return batch[0] if len(batch) == 1 else batch


def _copy(array: Array) -> Array:
    return np.array(array, np.float32 if array.dtype == np.float64 else array.dtype, order="C")


def _integer(name: str, value: Any, least: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"Loader: {name}: expected an integer, got {value!r}")
    if value < least:
        raise ValueError(f"Loader: {name}: expected at least {least}, got {value}")
    return int(value)
