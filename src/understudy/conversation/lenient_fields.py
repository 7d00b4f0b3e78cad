"""Lenient reading of card and lorebook fields.

Real files mix numbers with numeric strings, nulls and booleans. A value that cannot be converted
falls back to its default and adds a note; nothing here raises.
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from understudy.errors import NOT_JSON, PersonaError

_T = TypeVar("_T")
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0", ""}


def decode_json(data: bytes) -> object:
    """The value of a JSON file, with or without a byte-order mark; raises PersonaError."""
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            data = data.decode("utf-16").encode()
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except NOT_JSON:
        raise PersonaError("not valid JSON") from None


class Fields:
    """A mapping whose fields have several names (the formats differ); the first name wins."""

    def __init__(self, raw: object, notes: list[str], where: str) -> None:
        self._raw: Mapping[object, object] = raw if isinstance(raw, Mapping) else {}
        self.notes = notes
        self._where = where

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self._raw]

    def get(self, *names: str) -> object:
        """The first value that is present and not null."""
        return next((self._raw[n] for n in names if self._raw.get(n) is not None), None)

    def has(self, name: str) -> bool:
        return name in self._raw

    def inner(self, name: str) -> "Fields":
        return Fields(self._raw.get(name), self.notes, f"{self._where}.{name}")

    def text(self, *names: str, default: str = "") -> str:
        value = self.get(*names)
        if value is None:
            return default
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return self._unreadable(names[0], default)

    def number(self, *names: str, default: float) -> float:
        found = self.maybe_number(*names)
        return default if found is None else found

    def maybe_number(self, *names: str) -> float | None:
        value = self.get(*names)
        if isinstance(value, int | float):  # True is level 1 of delayUntilRecursion
            return _finite(float(value))
        if isinstance(value, str):
            try:
                return _finite(float(value))
            except ValueError:
                pass
        return None if value is None else self._unreadable(names[0], None)

    def integer(self, *names: str, default: int = 0) -> int:
        return int(self.number(*names, default=default))

    def maybe_integer(self, *names: str) -> int | None:
        found = self.maybe_number(*names)
        return None if found is None else int(found)

    def flag(self, *names: str, default: bool = False) -> bool:
        found = self.maybe_flag(*names)
        return default if found is None else found

    def maybe_flag(self, *names: str) -> bool | None:
        value = self.get(*names)
        if isinstance(value, int | float):
            return bool(value)
        if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
            return value.strip().lower() in _TRUE
        return None if value is None else self._unreadable(names[0], None)

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of texts, or comma-separated text; blanks dropped."""
        value = self.get(*names)
        if isinstance(value, str):
            value = value.split(",")
        if not isinstance(value, list | tuple):
            return () if value is None else self._unreadable(names[0], ())
        return tuple(str(item).strip() for item in value if str(item or "").strip())

    def items(self, name: str) -> list[object]:
        value = self._raw.get(name)
        return value if isinstance(value, list) else []

    def _unreadable(self, name: str, default: _T) -> _T:
        self.notes.append(f"{self._where}.{name} has an unexpected type and was left out")
        return default


def _finite(value: float) -> float | None:
    return value if abs(value) < 1e12 else None
