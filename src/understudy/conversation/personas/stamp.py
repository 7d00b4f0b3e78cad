"""Tells whether a file of the personas or lorebooks changed. Blocking."""

from collections.abc import Iterator
from pathlib import Path

from understudy.config.settings import Persona as PersonaSettings

LibraryStamp = frozenset[tuple[str, int, int]]
"""Path, time of change and size of every file; another set means that something changed."""

_ENDINGS = frozenset({".md", ".txt", ".png", ".json", ".charx", ".yaml"})


def library_stamp(settings: PersonaSettings, folder: Path) -> LibraryStamp:
    """Of everything that `load_library` would read with the same arguments."""
    return frozenset(_seen(settings, folder))


def _seen(settings: PersonaSettings, folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in _files(settings, folder):
        try:
            found = path.stat()
        except OSError:
            continue
        yield str(path), found.st_mtime_ns, found.st_size


def _files(settings: PersonaSettings, folder: Path) -> Iterator[Path]:
    for name in (settings.system_prompt_file, settings.guard_file):
        if name is not None:
            yield folder / name
    for name in (settings.folder, settings.lore.folder):
        for pattern in ("*", "*/*"):
            for path in (folder / name).glob(pattern):
                if path.suffix in _ENDINGS and not path.name.startswith("."):
                    yield path
