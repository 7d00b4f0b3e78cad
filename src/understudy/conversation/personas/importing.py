"""Imports a character card into the operator's folder, and exports it. Blocking."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from understudy.conversation.personas.containers import (
    CardFile,
    export_charx,
    export_png,
    read_card,
)
from understudy.errors import PersonaError

_ENDINGS = {"png": ".png", "charx": ".charx", "json": ".json", "yaml": ".json"}
_KEY = re.compile(r"[a-z0-9_-]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class Imported:
    key: str
    path: Path
    file: CardFile


def import_card(data: bytes, folder: Path, *, key: str | None = None) -> Imported:
    """Check a card and copy its file into `folder`; replaces an older one of that key.

    Raises PersonaError when the file is not a card or cannot be written.
    """
    file = read_card(data)
    key = key or _key_from(file.card.name)
    if not _KEY.match(key):
        raise PersonaError(f"{key!r} cannot be a persona's key: use letters, digits, - and _")
    content = file.card.source if file.container == "yaml" else file.file
    path = folder / f"{key}{_ENDINGS[file.container]}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = _private_file(path.with_name(f".{path.name}.new"), content)
        for older in _older(folder, key):
            older.unlink()
        temporary.replace(path)
    except OSError as error:
        raise PersonaError(f"{path}: {error.strerror}") from None
    return Imported(key, path, file)


def export_card(source: Path, target: Path) -> None:
    """Write the card in `source` to `target`, in the container that `target`'s ending names."""
    file = read_card(source.read_bytes())
    if target.suffix == ".json":
        data = file.card.source
    elif target.suffix == ".charx":
        data = export_charx(file.card, file.file if file.container == "charx" else None)
    elif target.suffix == ".png":
        picture = file.file if file.container == "png" else _existing_picture(target)
        data = export_png(file.card, picture)
    else:
        raise PersonaError(f"{target}: name it .json, .png or .charx")
    target.write_bytes(data)


def _private_file(path: Path, data: bytes) -> Path:
    """Readable by its owner only, whatever the umask."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def _existing_picture(target: Path) -> bytes:
    if not target.is_file():
        raise PersonaError(
            f"{target}: this card has no picture of its own; put a PNG there first and it gets "
            "the card"
        )
    return target.read_bytes()


def _key_from(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "card"


def _older(folder: Path, key: str) -> list[Path]:
    return [
        p for ending in sorted(set(_ENDINGS.values())) if (p := folder / f"{key}{ending}").is_file()
    ]
