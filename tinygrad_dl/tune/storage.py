"""Where trials are kept: in memory, in a journal file, or in any storage of Optuna's by its URL."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock, JournalRedisBackend


def open_storage(place: str | os.PathLike[str] | BaseStorage | None) -> BaseStorage:
    """None: memory. What has `://` in it: the URL of a database. Another string or path: a journal file.

    Raises ValueError for a file that is no journal."""
    if place is None:
        return InMemoryStorage()
    if isinstance(place, BaseStorage):
        return place
    if "://" in os.fspath(place):
        return _database(os.fspath(place))
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _KernelLock(path) if importlib.util.find_spec("fcntl") else None
    try:
        if path.exists():
            with open(path, "rb") as file:
                json.loads(file.readline() or b'{"op_code": 0}')["op_code"]
        return JournalStorage(JournalFileBackend(os.fspath(path), lock_obj=lock))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"search: storage: {path} is no journal of trials, or a damaged one: {error}") from error


def _database(url: str) -> BaseStorage:
    """A connection lasts for one transaction: workers hold none while they train, and miss none that was cut then."""
    if url.startswith("redis"):
        return JournalStorage(JournalRedisBackend(url))
    from sqlalchemy.pool import NullPool

    return RDBStorage(url, engine_kwargs={"poolclass": NullPool})


class _KernelLock(JournalFileSymlinkLock):
    """A lock on a journal that the kernel releases when its holder is killed; Optuna's own lasts for 30 s then."""

    def __init__(self, journal: Path) -> None:
        self.journal, self.file = journal, journal.with_name(journal.name + ".lock")

    def acquire(self) -> bool:
        import fcntl

        descriptor = os.open(self.file, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self.descriptor = descriptor  # only whoever holds the lock writes this
        self._cut()
        return True

    def release(self) -> None:
        os.close(self.descriptor)

    def _cut(self) -> None:
        """Drop a last line that a crash left unfinished: what is appended to it would be lost with it."""
        with open(self.journal, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            if size and file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
