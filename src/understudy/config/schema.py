"""The configuration's keys by path, for suggestions and the reference."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from understudy.config.settings import Settings
from understudy.config.yaml_document import KeyPath

ANY = "*"
"""Placeholder in a path for a name that the operator chooses, or for an index."""


def known_keys(section: type[BaseModel] = Settings, at: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key there is, sections included, in the order of the schema."""
    for name, field in section.model_fields.items():
        path = (*at, name)
        yield path
        inner, many = _section_in(field.annotation)
        if inner is not None:
            yield from known_keys(inner, (*path, ANY) if many else path)


def section_at(path: KeyPath) -> type[BaseModel] | None:
    """The section at `path`, in which an operator's name matches `ANY`.

    `None` for a key that holds many sections.
    """
    section: type[BaseModel] | None = Settings
    many = False
    for part in path:
        if many:
            many = False
        elif section is None or part not in section.model_fields:
            return None
        else:
            section, many = _section_in(section.model_fields[part].annotation)
    return None if many else section


def siblings(path: KeyPath) -> tuple[str, ...]:
    """The keys that are valid in place of the last part of `path`."""
    section = section_at(path[:-1])
    return () if section is None else tuple(section.model_fields)


def field_at(path: KeyPath) -> FieldInfo:
    """The field at a path of `known_keys`."""
    section = section_at(path[:-1])
    assert section is not None
    return section.model_fields[path[-1]]


def places_of(key: str) -> tuple[str, ...]:
    """Where else in the file a key of this name belongs."""
    return tuple(".".join(path[:-1]) for path in known_keys() if path[-1] == key and path[:-1])


def _section_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The section an annotation holds, and whether it holds many of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin = get_origin(annotation)
    if origin is Annotated or origin in (Union, UnionType):
        for argument in get_args(annotation):
            found = _section_in(argument)
            if found[0] is not None:
                return found
        return None, False
    if origin in (tuple, dict, Mapping):
        for argument in get_args(annotation):
            inner, _ = _section_in(argument)
            if inner is not None:
                return inner, True
    return None, False
