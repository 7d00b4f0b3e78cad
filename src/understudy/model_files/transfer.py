"""What both sources share: progress, room on the disk, hashes, and moving a file into place."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

from understudy.errors import ModelFileError
from understudy.files import replace_file

_PIECE_BYTES = 1024 * 1024
DISK_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_RESERVE_BYTES = 64 * 1024 * 1024
"""Left free, so that the database and the log beside it can still grow."""


class Progress(Protocol):
    """Shows a person how far a transfer is."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Start a new bar of `total` bytes, of which `done` are there already."""
        ...

    def advance(self, count: int) -> None:
        """`count` more bytes have come."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """See `Progress`."""

    def advance(self, count: int) -> None:
        """See `Progress`."""


def check_room(folder: Path, needed: int) -> None:
    """Raises ModelFileError where the disk has less than `needed` bytes free.

    `folder` is where unfinished files lie, in the folder of models.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE_BYTES:
        raise ModelFileError(
            f"The disk of {folder.parent} has {free / 1e6:,.0f} MB free, and "
            f"{(needed + _RESERVE_BYTES) / 1e6:,.0f} MB are needed."
        )


def disk_refusal(error: OSError, folder: Path) -> ModelFileError:
    """What to say about a write below `folder` that failed."""
    if error.errno in DISK_FULL:
        return disk_full(folder)
    return ModelFileError(f"{folder} cannot be written: {error.strerror or error}.")


def disk_full(folder: Path) -> ModelFileError:
    """The error for a disk that took no more."""
    return ModelFileError(
        f"The disk of {folder} is full: nothing was stored. Free some space, or set "
        "UNDERSTUDY_MODELS_DIR to a folder on another disk."
    )


def copy(source: IO[bytes], target: IO[bytes], on_bytes: Callable[[int], None]) -> str:
    """Copy to the end; returns the SHA-256 of what was copied, in hex."""
    digest = hashlib.sha256()
    while piece := source.read(_PIECE_BYTES):
        digest.update(piece)
        target.write(piece)
        on_bytes(len(piece))
    return digest.hexdigest()


def sha256_of(path: Path, progress: Progress) -> str:
    """The SHA-256 of a file, in hex."""
    progress.begin("checking", path.stat().st_size)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            progress.advance(len(piece))
    return digest.hexdigest()


def check_hash(what: str, found: str, expected: str) -> None:
    """Raises ModelFileError where the two differ."""
    if found != expected:
        raise ModelFileError(
            f"{what} is not the file that was expected (SHA-256 {found[:12]}… instead of "
            f"{expected[:12]}…): nothing was stored."
        )


def move_into_place(part: Path, place: Path) -> None:
    """Make a finished file visible under its name, whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    replace_file(part, place)
