"""What is wrong with a configuration, in words that say where and what to write instead."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from understudy.config.schema import places_of, siblings
from understudy.config.yaml_document import KeyPath


@dataclass(frozen=True, slots=True)
class Mistake:
    path: KeyPath
    text: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant, or `None` when none is close."""
    found = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def or_list(choices: Sequence[str]) -> str:
    """`a, b or c`."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def schema_mistakes(error: ValidationError, data: object) -> list[Mistake]:
    """One mistake per place; what several branches of one type said there is joined."""
    texts: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False):
        path = _written(detail, data)
        text = _wording(detail, path, data)
        if text not in texts.setdefault(path, []):
            texts[path].append(text)
    return [Mistake(path, _joined(found)) for path, found in texts.items()]


def value_at(data: object, path: KeyPath) -> object:
    """What the file says at `path`, or `None`."""
    for part in path:
        data = _child(data, part)
    return data


def _child(data: object, part: str) -> object:
    if isinstance(data, dict):
        return next((value for key, value in data.items() if str(key) == part), None)
    if isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
        return data[int(part)]
    return None


def _written(detail: ErrorDetails, data: object) -> KeyPath:
    """The part of pydantic's location that stands in the file; the rest names types."""
    path: KeyPath = ()
    for raw in detail["loc"]:
        part = str(raw)
        if detail["type"] not in ("missing", "extra_forbidden") and not _has(data, part):
            break
        path, data = (*path, part), _child(data, part)
    return path


def _has(data: object, part: str) -> bool:
    if isinstance(data, dict):
        return any(str(key) == part for key in data)
    return isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data)


def _wording(detail: ErrorDetails, path: KeyPath, data: object) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return "is missing"
    text = detail["msg"].replace("Input should be", "should be")
    text = text.replace("a valid tuple", "a list").replace("a valid string", "text")
    text = text.replace("a valid boolean, unable to interpret input", "true or false")
    if kind == "literal_error":
        return text + _meant(value_at(data, path), str(detail.get("ctx", {}).get("expected", "")))
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        return "should be a section with keys of its own"
    return text


def _unknown_key(path: KeyPath) -> str:
    around = siblings(path)
    close = nearest(path[-1], around)
    if close is not None:
        return f"unknown key; did you mean '{close}'?"
    elsewhere = places_of(path[-1])
    if elsewhere:
        return f"does not belong here; it belongs under {or_list(elsewhere[:4])}"
    return f"unknown key; here belong {', '.join(around)}" if around else "unknown key"


def _meant(value: object, expected: str) -> str:
    choices = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
    close = nearest(value, choices) if isinstance(value, str) else None
    return f"; did you mean '{close}'?" if close else ""


def _joined(texts: list[str]) -> str:
    rest = [text.removeprefix("should be ") for text in texts[1:]]
    return " or ".join([texts[0], *rest])
