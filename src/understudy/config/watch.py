"""Watches the configuration and its `.env` for changes."""

from collections.abc import AsyncGenerator
from pathlib import Path

_POLL_MS = 2000
"""Polling beside notifications: some file systems send none."""


Stamp = tuple[int, ...]


def stamp(path: Path) -> Stamp:
    """A value that changes when `path` or the `.env` beside it is saved."""
    return (*_of(path), *_of(path.parent / ".env"))


def _of(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


async def watch_config(path: Path, known: Stamp) -> AsyncGenerator[None]:
    """Yield once for each change since the files had the stamp `known`.

    Watches the folder: editors replace a file instead of writing into it.
    """
    from watchfiles import awatch

    folder = path.parent
    async for _ in awatch(
        folder,
        watch_filter=lambda _change, changed: Path(changed).name in (path.name, ".env"),
        recursive=False,
        debounce=200,
        rust_timeout=_POLL_MS,
        yield_on_timeout=True,
    ):
        now = stamp(path)
        if now != known:
            known = now
            yield
