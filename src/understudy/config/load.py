"""The only reader of configuration files and of the environment."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError

from understudy.config.diagnostics import Mistake, schema_mistakes
from understudy.config.environment import read_environment, with_environment
from understudy.config.rules import broken_rules, conflicts
from understudy.config.settings import Settings
from understudy.config.watch import Stamp, stamp
from understudy.config.yaml_document import Document, KeyPath, Unreadable, read_document
from understudy.errors import ConfigError

DEFAULT_FILE = "config.yaml"
_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration with its secrets; `repr` leaves them out."""

    settings: Settings = field(repr=False)
    path: Path | None
    """The file it was read from; `None` without a file (defaults and environment only)."""
    rev: str
    """Changes with the file's text; part of every attempt record."""
    warnings: tuple[str, ...] = ()
    stamp: Stamp = ()
    """Stamp of the files when they were read, for `watch_config`."""


class ConfigMistakes(ConfigError):
    """Every mistake of one file, one line each."""

    def __init__(self, mistakes: tuple[Mistake, ...], file: str) -> None:
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        lines = "\n".join(f"  {_located(mistake, file)}" for mistake in mistakes)
        super().__init__(f"{file} has {count}:\n{lines}")
        self.mistakes = mistakes


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read `path` (default: `config.yaml` here, if there is one), `.env` beside it and `environ`.

    Raises `ConfigError` naming every mistake with its line, and the nearest right name.
    """
    if path is None and os.path.lexists(DEFAULT_FILE):
        path = Path(DEFAULT_FILE)
    # Read before the file, so that no later change is missed.
    seen = () if path is None else stamp(path)
    text = "" if path is None else _read(path)
    env, odd = read_environment(Path() if path is None else path.parent, environ)
    config = parse_config(text, env, path)
    return replace(config, stamp=seen, warnings=(*odd, *config.warnings))


def parse_config(text: str, env: Mapping[str, str], path: Path | None = None) -> Config:
    """Like `load_config`, for text already read, with `env` as the whole environment."""
    file = DEFAULT_FILE if path is None else str(path)
    try:
        document = read_document(text)
    except Unreadable as error:
        raise ConfigMistakes((Mistake((), error.problem, error.line),), file) from None
    mistakes = [Mistake(key, "is written twice", line) for key, line in document.repeated]
    settings, found = _validated(document.data)
    mistakes += found
    notes: Iterable[Mistake] = ()
    if settings is not None:
        settings, wrong = with_environment(settings, env)
        broken = [mistake for mistake in broken_rules(settings) if not _follows(mistake, found)]
        mistakes += wrong + broken
        notes = conflicts(settings)
    if mistakes or settings is None:
        raise ConfigMistakes(_in_order(mistakes, document), file)
    warnings = tuple(_located(note, file) for note in _in_order(notes, document))
    rev = hashlib.sha256(text.encode()).hexdigest()[:8]
    return Config(settings, path, rev, warnings)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no {path}. Write one with: understudy config example > {path}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than a configuration can be ({_MAX_BYTES} bytes).")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8.") from None


def _validated(data: object) -> tuple[Settings | None, list[Mistake]]:
    """The settings without the values that have mistakes, and those mistakes."""
    try:
        return Settings.model_validate(data), []
    except ValidationError as error:
        mistakes = schema_mistakes(error, data)
    for mistake in mistakes:
        data = _without(data, mistake.path)
    try:
        # The rest is checked too, so that all mistakes are reported at once.
        return Settings.model_validate(data), mistakes
    except ValidationError:
        return None, mistakes


def _without(data: object, path: KeyPath) -> object:
    if not path or not isinstance(data, dict):
        return {} if not path else data
    first, rest = path[0], path[1:]
    if not rest:
        return {key: value for key, value in data.items() if str(key) != first}
    return {
        key: _without(value, rest) if str(key) == first else value for key, value in data.items()
    }


def _follows(mistake: Mistake, found: list[Mistake]) -> bool:
    """Whether a broken rule may only follow from a value that was left out."""
    return any(mistake.path in (other.path, other.path[:-1]) for other in found)


def _in_order(mistakes: Iterable[Mistake], document: Document) -> tuple[Mistake, ...]:
    placed = [
        Mistake(mistake.path, mistake.text, mistake.line or _line(mistake.path, document))
        for mistake in mistakes
    ]
    return tuple(sorted(placed, key=lambda mistake: (mistake.line or 0, mistake.path)))


def _line(path: KeyPath, document: Document) -> int | None:
    while path:
        if path in document.lines:
            return document.lines[path]
        path = path[:-1]
    return None


def _located(mistake: Mistake, file: str) -> str:
    return f"{file}:{mistake.line}: {mistake}" if mistake.line else str(mistake)
