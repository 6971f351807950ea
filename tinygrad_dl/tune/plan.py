"""`Plan`: what a search is, as plain data that travels to worker processes; each makes its own Queue of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage

from .queue import Queue
from .samplers import Points, Random
from .scales import Scale
from .storage import open_storage


@dataclass(frozen=True)
class Plan:
    """The arguments of `search` that decide which trials there are, and where they are kept."""

    space: Mapping[str, Scale]
    size: int
    points: Sequence[Mapping[str, Any]] | None
    sampler: BaseSampler | None
    pruner: BasePruner | None
    storage: str | os.PathLike[str] | BaseStorage | None
    seed: int
    name: str

    def queue(self) -> Queue:
        """The plan's trials in its storage, where the study is made if it is not there.

        Raises ValueError for a storage that is damaged, or has another search under the name."""
        storage = open_storage(self.storage)
        if self.name not in optuna.get_all_study_names(storage):
            optuna.create_study(storage=storage, study_name=self.name, direction="minimize", load_if_exists=True)
        study = optuna.load_study(
            storage=storage, study_name=self.name, sampler=self._sampler(), pruner=self.pruner or MedianPruner()
        )
        here, there = self._definition(), study.user_attrs.get("search")
        if there is None and not study.get_trials(deepcopy=False):
            study.set_user_attr("search", here)
        elif there != here:
            raise ValueError(
                f"search: the storage has another search under the name {self.name!r}; give this one another name=, "
                f"or another storage.\nthere: {there or 'made without tune.search'}\nhere:  {here}"
            )
        return Queue(study, storage, self.size)

    def _sampler(self) -> BaseSampler:
        if self.points is not None:
            keys = {name: scale.key(name) for name, scale in self.space.items()}
            return Points([{keys[k]: self.space[k].inner(v) for k, v in point.items()} for point in self.points])
        return self.sampler or Random(self.seed)

    def _definition(self) -> str:
        """What must not change between the calls that work at the same trials."""
        space = {name: repr(scale) for name, scale in self.space.items()}
        how = "points" if self.points is not None else type(self.sampler or Random()).__name__
        parts = {"space": space, "seed": self.seed, "sampler": how, "points": self.points}
        return json.dumps(parts, sort_keys=True, default=float)


def in_memory(queue: Queue) -> Queue:
    """The same study in a storage that needs no file."""
    name, memory = queue.study.study_name, InMemoryStorage()
    optuna.copy_study(from_study_name=name, from_storage=queue.storage, to_storage=memory)
    return Queue(optuna.load_study(study_name=name, storage=memory), memory, queue.size)
