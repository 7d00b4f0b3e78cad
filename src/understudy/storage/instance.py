"""Numbers the processes that share a database, one lock file each.

The operating system releases the lock however the process ends. A process that acquires a number
therefore knows that the earlier holder is gone, and may retake its claims before their leases end.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import StorageError

_MAX_INSTANCES = 64


@dataclass(frozen=True, slots=True)
class Instance:
    name: str
    descriptor: int | None = None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


def acquire_instance(database: Path) -> Instance:
    """Acquire the first free number. Raises StorageError when all are in use."""
    for number in range(1, _MAX_INSTANCES + 1):
        path = database.with_name(f"{database.name}-instance{number}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor):
            return Instance(f"instance{number}", descriptor)
        os.close(descriptor)
    raise StorageError(f"{_MAX_INSTANCES} processes already use {database}")


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
