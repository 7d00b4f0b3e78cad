"""When the configuration or its `.env` was last saved."""

from pathlib import Path

Stamp = tuple[int, ...]


def stamp(path: Path) -> Stamp:
    """Differs when `path` or the `.env` beside it was saved."""
    return (*_of(path), *_of(path.parent / ".env"))


def _of(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
