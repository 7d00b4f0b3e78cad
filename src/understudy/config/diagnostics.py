"""Errors in a configuration: where each one is, and what to write instead."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from understudy.config.schema import places_of, siblings
from understudy.config.yaml_document import KeyPath

_WORDINGS = {
    "float_parsing": "should be a number, such as 8",
    "float_type": "should be a number, such as 8",
    "int_parsing": "should be a whole number, such as 8",
    "int_type": "should be a whole number, such as 8",
    "int_from_float": "should be a whole number, such as 8",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "tuple_type": "should be a list, such as [a, b]",
    "list_type": "should be a list, such as [a, b]",
    "model_type": "should be a section with keys of its own",
    "model_attributes_type": "should be a section with keys of its own",
    "dict_type": "should be a section with keys of its own",
}
"""pydantic's error types, in the words of a person who writes the file."""
_MAY_BE_QUOTED = re.compile(r"[A-Za-z0-9_.-]{1,20}")
"""Short plain words only: a longer value in the wrong place may be a secret."""


@dataclass(frozen=True, slots=True)
class Mistake:
    path: KeyPath
    text: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {self.text}" if self.path else self.text


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` is probably a misspelling or a part of, or `None`."""
    word, choices = word.lower(), list(choices)
    found = (
        *(choice for choice in choices if choice.startswith(f"{word}_")),
        *difflib.get_close_matches(word, choices, n=1, cutoff=0.85),
        *(choice for choice in choices if choice.endswith(f"_{word}")),
        *difflib.get_close_matches(word, choices, n=1, cutoff=0.6),
    )
    return next(iter(found), None)


def or_list(choices: Sequence[str]) -> str:
    """`a, b or c`."""
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def schema_mistakes(error: ValidationError, data: object) -> list[Mistake]:
    """One mistake per place. Messages of several union branches are joined."""
    texts: dict[KeyPath, list[str]] = {}
    for detail in error.errors(include_url=False, include_context=True, include_input=False):
        path = _written(detail, data)
        text = _wording(detail, path, data)
        if text not in texts.setdefault(path, []):
            texts[path].append(text)
    return [Mistake(path, _joined(found)) for path, found in texts.items()]


def value_at(data: object, path: KeyPath) -> object:
    """The value in the file at `path`, or `None`."""
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
    """The part of pydantic's location that exists in the file; the rest are type names."""
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
    if kind == "literal_error":
        expected = str(detail.get("ctx", {}).get("expected", ""))
        return _not_a_choice(path[-1], value_at(data, path), expected)
    return _WORDINGS.get(kind) or detail["msg"].replace("Input should be", "should be")


def _unknown_key(path: KeyPath) -> str:
    around = siblings(path)
    close = nearest(path[-1], around)
    if close is not None:
        return f"unknown key; did you mean '{close}'?"
    elsewhere = places_of(path[-1])
    if elsewhere:
        return f"does not belong here; it belongs under {or_list(elsewhere[:4])}"
    return f"unknown key; here belong {', '.join(around)}" if around else "unknown key"


def _not_a_choice(key: str, value: object, expected: str) -> str:
    choices = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
    quotable = isinstance(value, str) and _MAY_BE_QUOTED.fullmatch(value)
    close = nearest(str(value), choices) if quotable else None
    if close is None:
        return f"should be {or_list([repr(choice) for choice in choices])}"
    article = "an" if key[0] in "aeiou" else "a"
    return f"'{value}' is not {article} {key}; did you mean '{close}'? ({', '.join(choices)})"


def _joined(texts: list[str]) -> str:
    rest = [text.removeprefix("should be ") for text in texts[1:]]
    return " or ".join([texts[0], *rest])
