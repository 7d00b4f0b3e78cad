"""Tells when the configuration or its `.env` was saved."""

from collections.abc import AsyncGenerator
from pathlib import Path

from watchfiles import Change, awatch


def watch_config(path: Path) -> AsyncGenerator[object]:
    """Yields once for each burst of changes to `path` or the `.env` beside it.

    Looks at the folder: editors replace a file instead of writing into it.
    """
    names = {path.name, ".env"}

    def ours(_change: Change, changed: str) -> bool:
        return Path(changed).name in names

    return awatch(path.absolute().parent, watch_filter=ours, recursive=False, debounce=200)
