"""Which of the processes that share a database this one is.

Each holds a lock file beside the database, and the operating system lets go of it however the
process ends. So whoever gets a number knows that its earlier holder is gone, and what that one
had claimed can be taken up at once instead of after its lease.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import StorageError

_MOST = 64


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    descriptor: int

    def close(self) -> None:
        os.close(self.descriptor)


def take_instance(database: Path) -> Instance:
    """The first free number; raises StorageError when there is none."""
    for number in range(1, _MOST + 1):
        path = database.with_name(f"{database.name}-instance{number}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor):
            return Instance(f"instance{number}", descriptor)
        os.close(descriptor)
    raise StorageError(f"{_MOST} processes use {database} already")


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
