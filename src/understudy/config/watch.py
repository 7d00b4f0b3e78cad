"""Watches the configuration and its `.env` for changes."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

_POLL_MS = 2000
"""Polling beside notifications: some file systems send none."""


Stamp = tuple[int, ...]


class Watch(Protocol):
    """Yields when something in `folder` may have changed, and at least every two seconds.

    Raises OSError where the system cannot notify, unless `polling`.
    """

    def __call__(
        self, folder: Path, names: tuple[str, ...], *, polling: bool
    ) -> AsyncIterator[object]: ...


def stamp(path: Path) -> Stamp:
    """A value that changes when `path` or the `.env` beside it is saved."""
    return (*_of(path), *_of(path.parent / ".env"))


def _of(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)


def _watch_files(folder: Path, names: tuple[str, ...], *, polling: bool) -> AsyncIterator[object]:
    from watchfiles import awatch

    return awatch(
        folder,
        watch_filter=lambda _change, changed: Path(changed).name in names,
        recursive=False,
        debounce=200,
        rust_timeout=_POLL_MS,
        yield_on_timeout=True,
        force_polling=polling or None,
        poll_delay_ms=_POLL_MS,
    )


async def watch_config(
    path: Path, known: Stamp, watch: Watch = _watch_files
) -> AsyncGenerator[None]:
    """Yield once for each change since the files had the stamp `known`.

    Watches the folder: editors replace a file instead of writing into it. Where the system has no
    notifications (network drives, all watches in use), the folder is polled.
    """
    names = (path.name, ".env")
    for polling in (False, True):
        try:
            async for _ in watch(path.parent, names, polling=polling):
                now = stamp(path)
                if now != known:
                    known = now
                    yield
        except OSError:
            if polling:
                raise
            continue
        return
