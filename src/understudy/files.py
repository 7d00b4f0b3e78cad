"""Replaces files as a whole: readers see the old content or the new one, never a part."""

import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600
_PUBLIC = 0o666
READERS_REFUSE = os.name == "nt"
"""Whether a file cannot be replaced while another program has it open."""
_ATTEMPTS = 20
_PAUSE_S = 0.05


def replace_file(
    new: Path,
    target: Path,
    *,
    readers_refuse: bool = READERS_REFUSE,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Rename `new` to `target`. Blocking, for up to a second. Raises OSError.

    Virus scanners and backups have a file open for moments, so on Windows a refusal is retried.
    """
    for _ in range(_ATTEMPTS - 1 if readers_refuse else 0):
        with suppress(PermissionError):
            new.replace(target)
            return
        sleep(_PAUSE_S)
    new.replace(target)


def write_file(
    path: Path, content: bytes, *, private: bool = False, follow_link: bool = False
) -> None:
    """Write `path` as a whole. Blocking. Raises OSError, and then the old content is unchanged.

    With `private`, only the owner may read it, where the system has file modes. Otherwise an
    existing file keeps its mode. With `follow_link` a symbolic link stays one, and the file behind
    it is written; otherwise the file takes the place of the link.
    """
    target = path.resolve() if follow_link else path
    mode = PRIVATE if private else _mode_of(target)
    new = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    create = PRIVATE if mode is not None else _PUBLIC
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, create), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            new.chmod(mode)
        replace_file(new, target)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _mode_of(path: Path) -> int | None:
    """The mode of an existing file; `None` leaves that of a new one to the umask."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
