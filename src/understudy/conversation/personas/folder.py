"""Loads personas and lorebooks from the operator's folders. Blocking; at start and reload.

A persona is a text file (`pirate.md`), a character card (`bessie.png`, `.json`, `.charx`, RisuAI's
`.jpeg`), or a folder with a `persona.yaml` that names its files.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ruamel.yaml import YAML

from understudy.config.settings import Persona as PersonaSettings
from understudy.conversation.lenient_fields import Fields, decode_json
from understudy.conversation.lore.book import Book
from understudy.conversation.lore.formats import parse_book
from understudy.conversation.lore.scan import IndexedBook
from understudy.conversation.personas.containers import (
    MAX_CHARX,
    MAX_FILE,
    YAML_ERRORS,
    CardFile,
    is_json,
    lorebook_in_png,
    read_card,
)
from understudy.conversation.personas.importing import CARD_ENDINGS, TEXT_ENDINGS
from understudy.conversation.personas.registry import (
    BUILT_IN_GUARD,
    BUILT_IN_STYLE,
    Library,
    Persona,
)
from understudy.errors import ConfigError, PersonaError

_ARCHIVES = (".charx", ".jpeg", ".jpg")
_BOOKS = (".json", ".lorebook")
_SHEET = "persona.yaml"
_PICTURES = (".png", ".jpeg", ".jpg", ".webp")


def load_library(
    settings: PersonaSettings, folder: Path, previous: Library | None = None
) -> Library:
    """Load everything that `settings` names, relative to `folder`.

    A file that cannot be used becomes a warning of the library; the version of `previous` stays
    in use. Raises ConfigError, with all problems, when one that the configuration names is missing
    or cannot be used.
    """
    previous = previous or Library()
    mistakes: list[str] = []
    style, guard = BUILT_IN_STYLE, BUILT_IN_GUARD
    if settings.system_prompt_file is not None:
        style = _optional_text(mistakes, folder / settings.system_prompt_file) or style
    if settings.guard_file is not None:
        guard = _optional_text(mistakes, folder / settings.guard_file) or guard
    unusable: dict[str, str] = {}
    warnings: list[str] = []
    books = _load_books(folder / settings.lore.folder, unusable, warnings)
    base = style.replace("{name}", "{{char}}")
    failed_personas: dict[str, str] = {}
    personas = _load_personas(folder / settings.folder, base, books, failed_personas, warnings)
    for key in failed_personas.keys() & previous.personas.keys():
        personas[key] = previous.personas[key]
        failed_personas[key] += "; its earlier version stays in use"
    mistakes += _missing_personas(settings, personas, failed_personas, folder)
    mistakes += _missing_books(settings, books, unusable, folder)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    warnings += [*unusable.values(), *failed_personas.values()]
    indexed = {name: IndexedBook(book) for name, book in books.items()}
    return Library(style, guard, personas, indexed, tuple(warnings))


def _optional_text(mistakes: list[str], path: Path) -> str:
    try:
        return _text(path)
    except PersonaError as error:
        mistakes.append(str(error))
        return ""


def _missing_personas(
    settings: PersonaSettings, personas: dict[str, Persona], failed: dict[str, str], folder: Path
) -> Iterator[str]:
    wanted = {settings.default, *settings.by_channel.values(), *settings.by_guild.values()}
    for key in sorted(wanted - {None, *personas}, key=str):
        available = ", ".join(sorted(personas)) or "none"
        yield failed.get(str(key)) or (
            f"persona {key!r} is named in the configuration, but {folder / settings.folder} has no "
            f"{key}.md, {key}.png or folder of that name; there are: {available}"
        )


def _missing_books(
    settings: PersonaSettings, books: dict[str, Book], failed: dict[str, str], folder: Path
) -> Iterator[str]:
    lore = settings.lore
    named = {
        *lore.books,
        *(b for names in (*lore.by_channel.values(), *lore.by_guild.values()) for b in names),
    }
    for name in sorted(named - set(books)):
        available = ", ".join(sorted(books)) or "none"
        yield failed.get(name) or (
            f"lorebook {name!r} is named in the configuration, but there is no {name}.json in "
            f"{folder / lore.folder}; there are: {available}"
        )


def _load_books(folder: Path, unusable: dict[str, str], warnings: list[str]) -> dict[str, Book]:
    books: dict[str, Book] = {}
    for path in _visible_files(folder):
        if path.suffix not in (*_BOOKS, *CARD_ENDINGS):
            continue
        try:
            book = read_book(path)
        except PersonaError as error:
            unusable[path.stem] = str(error)
            continue
        if path.stem in books:
            warnings.append(f"{path}: another file has the same name; this one is not used")
        else:
            books[path.stem] = book
    return books


def read_book(path: Path) -> Book:
    """A lorebook file, or the book inside a card."""
    data = _bytes(path)
    try:
        data = lorebook_in_png(data) or data
    except PersonaError as error:
        raise PersonaError(f"{path}: {error}") from None
    if not is_json(data):
        book = _card(path, data).card.book
    else:
        try:
            book = parse_book(decode_json(data), book_id=path.stem, name=path.stem)
        except PersonaError as error:
            raise PersonaError(f"{path}: {error}") from None
        book = book or _book_of_card(path, data)
    if book is None:
        raise PersonaError(f"{path}: there is no lorebook in it")
    return book


def _book_of_card(path: Path, data: bytes) -> Book | None:
    try:
        return _card(path, data).card.book
    except PersonaError:
        return None


def _load_personas(
    folder: Path,
    base: str,
    books: dict[str, Book],
    failed: dict[str, str],
    warnings: list[str],
) -> dict[str, Persona]:
    personas: dict[str, Persona] = {}
    for path in _visible_files(folder):
        try:
            persona = _persona(path, base, books)
        except PersonaError as error:
            failed[_key_of(path)] = str(error)
            continue
        if persona is None:
            continue
        if persona.key in personas:
            warnings.append(f"{path}: another persona has the same key; this file is not used")
        else:
            personas[persona.key] = persona
    return personas


def _visible_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]


def persona_path(folder: Path, key: str) -> Path | None:
    """The file or folder that a persona is read from; None where there is none. Blocking."""
    for path in _visible_files(folder):
        is_persona = (path / _SHEET).is_file() or path.suffix in (*TEXT_ENDINGS, *CARD_ENDINGS)
        if is_persona and _key_of(path) == key:
            return path
    return None


def _key_of(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _persona(path: Path, base: str, books: dict[str, Book]) -> Persona | None:
    """None for a file that is not a persona by its name."""
    if (path / _SHEET).is_file():
        return _from_sheet(path, base, books)
    if path.suffix in TEXT_ENDINGS:
        name = path.stem.replace("_", " ").title()
        return Persona(path.stem, name, _text(path))
    if path.suffix in CARD_ENDINGS:
        return from_card(path.stem, _card(path, _bytes(path)), base)
    return None


def picture_of(folder: Path, key: str) -> Path | None:
    """The picture of a persona: its card, where that is one, else the first in its folder."""
    if not key or key.startswith(".") or Path(key).name != key:
        return None
    beside = [folder / f"{key}{ending}" for ending in _PICTURES]
    inside = sorted(path for e in _PICTURES for path in (folder / key).glob(f"*{e}"))
    return next((path for path in (*beside, *inside) if path.is_file()), None)


def from_card(key: str, file: CardFile, style: str) -> Persona:
    """A persona made from its card only."""
    card = file.card
    return Persona(
        key,
        card.spoken_name,
        style.replace("{{char}}", card.spoken_name),
        card=card,
        books=(IndexedBook(card.book),) if card.book is not None else (),
    )


def _from_sheet(folder: Path, base: str, books: dict[str, Book]) -> Persona:
    path = folder / _SHEET
    notes: list[str] = []
    sheet = Fields(_yaml(path), notes, _SHEET)
    style = _named_text(folder, sheet, "system_prompt")
    card_name = sheet.text("card")
    if card_name:
        persona = from_card(
            folder.name, _card(folder / card_name, _inside(folder, card_name)), base
        )
        persona = replace(persona, style=style or persona.style)
    else:
        persona = Persona(folder.name, folder.name.replace("_", " ").title(), style)
        if not style:
            raise PersonaError(f"{path}: it needs a card or a system_prompt file")
    own_books = [_own_book(folder, name, books) for name in sheet.texts("lorebooks")]
    if notes:
        raise PersonaError(f"{path}: {notes[0]}")
    return replace(
        persona,
        name=sheet.text("name") or persona.name,
        restricted_style=_named_text(folder, sheet, "age_restricted_prompt"),
        aliases=sheet.texts("aliases"),
        books=(*persona.books, *(IndexedBook(book) for book in own_books)),
    )


def _own_book(folder: Path, name: str, books: dict[str, Book]) -> Book:
    if name in books:
        return books[name]
    _inside(folder, name)
    return read_book(folder / name)


def _named_text(folder: Path, sheet: Fields, key: str) -> str:
    name = sheet.text(key)
    return _inside(folder, name).decode("utf-8", "replace").strip() if name else ""


def _inside(folder: Path, name: str) -> bytes:
    """A file that `persona.yaml` names; it must be inside the persona's folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise PersonaError(f"{folder / _SHEET}: {name!r} lies outside the persona's folder")
    return _bytes(path)


def _yaml(path: Path) -> object:
    try:
        return YAML(typ="safe", pure=True).load(_text(path))
    except YAML_ERRORS:
        raise PersonaError(f"{path}: not valid YAML") from None


def _card(path: Path, data: bytes) -> CardFile:
    try:
        return read_card(data, book_id=f"{path.stem}'s own", name=path.stem)
    except PersonaError as error:
        raise PersonaError(f"{path}: {error}") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode("utf-8").strip()
    except UnicodeDecodeError:
        raise PersonaError(f"{path}: not a UTF-8 text") from None


def _bytes(path: Path) -> bytes:
    try:
        limit = MAX_CHARX if path.suffix in _ARCHIVES else MAX_FILE
        if path.stat().st_size > limit:
            raise PersonaError(f"{path}: larger than {limit // 1024**2} MB")
        return path.read_bytes()
    except OSError as error:
        raise PersonaError(f"{path}: {error.strerror}") from None


LibraryStamp = frozenset[tuple[str, int, int]]
"""Path, modification time and size of every file; compared to detect changes."""

_ENDINGS = frozenset({*TEXT_ENDINGS, *CARD_ENDINGS, *_BOOKS, ".yaml"})


def library_stamp(settings: PersonaSettings, folder: Path) -> LibraryStamp:
    """The stamp of everything that `load_library` reads with the same arguments."""
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
