"""Imports a character card into the operator's folder, and exports it. Blocking."""

from dataclasses import dataclass
from pathlib import Path

from understudy.conversation.personas.containers import (
    CardFile,
    export_charx,
    export_png,
    read_card,
)
from understudy.conversation.personas.keys import free_key, is_valid_key, key_of, same_key
from understudy.errors import PersonaError, PersonaExists
from understudy.files import write_file

_ENDINGS = {"png": ".png", "charx": ".charx", "json": ".json", "yaml": ".json"}
CARD_ENDINGS = (".png", ".json", ".charx", ".jpeg", ".jpg")
TEXT_ENDINGS = (".md", ".txt")


@dataclass(frozen=True, slots=True)
class Imported:
    key: str
    path: Path
    file: CardFile
    replaced: bool = False
    """Whether an older card of that key was removed."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    key: str | None = None
    """The key to store it under; derived from the card's name if missing."""
    file_name: str = ""
    """Used for the name of a card that has none."""
    replace: bool = False
    """Whether a card of the same key is replaced."""
    number: bool = True
    """Whether a derived key that exists gets a number; otherwise PersonaExists is raised."""


def import_card(data: bytes, folder: Path, options: ImportOptions | None = None) -> Imported:
    """Check a card and copy its file into `folder`.

    Raises PersonaExists when another persona has the key and the options decide nothing else, and
    PersonaError when the file is not a card or cannot be written.
    """
    options = options or ImportOptions()
    file = read_card(data, name=options.key or options.file_name)
    content = file.card.source if file.container == "yaml" else file.file
    key = options.key or key_of(file.card.spoken_name)
    for other in _existing(folder):
        if _is_copy(other, key, content):
            return Imported(other.stem, other, file)
    key = _chosen_key(key, _existing(folder), options)
    path = folder / f"{key}{_ENDINGS[file.container]}"
    older = [found for found in _existing(folder) if same_key(found.stem, key)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(path, content, private=True)
        for other in older:
            if not other.samefile(path):
                other.unlink()
    except OSError as error:
        raise PersonaError(f"{path}: {error.strerror}") from None
    return Imported(key, path, file, replaced=bool(older))


def _is_copy(other: Path, key: str, content: bytes) -> bool:
    same = other.suffix in CARD_ENDINGS and same_key(other.stem, key)
    return same and other.stat().st_size == len(content) and other.read_bytes() == content


def _chosen_key(key: str, existing: list[Path], options: ImportOptions) -> str:
    if options.key is not None and not is_valid_key(key):
        raise PersonaError(f"{key!r} cannot be a persona's key: use letters, digits, - and _")
    same = [path for path in existing if same_key(path.stem, key)]
    if not same:
        return key
    if options.replace:
        if any(path.suffix not in CARD_ENDINGS for path in same):
            raise PersonaError(f"{same[0].name} is not a card and is not replaced; choose a key")
        return key
    free = free_key(key, [path.stem for path in existing])
    if options.key is None and options.number:
        return free
    raise PersonaExists(key, free)


def _existing(folder: Path) -> list[Path]:
    """The files and folders that define personas."""
    return [
        path
        for path in sorted(folder.glob("*"))
        if not path.name.startswith(".")
        and (path.suffix in (*CARD_ENDINGS, *TEXT_ENDINGS) or path.is_dir())
    ]


def export_card(source: Path, target: Path) -> None:
    """Write the card in `source` to `target`, in the container that `target`'s ending names."""
    file = read_card(source.read_bytes(), name=source.stem)
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


def _existing_picture(target: Path) -> bytes:
    if not target.is_file():
        raise PersonaError(
            f"{target}: this card has no picture of its own; put a PNG there first and it gets "
            "the card"
        )
    return target.read_bytes()
