"""The base of every configuration section, and the field types they share."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A mapping of the configuration file. Unknown keys are mistakes; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, value: object) -> object:
        # A section whose keys are all commented out reads as null.
        return {} if value is None else value


def _text(value: object) -> object:
    # Discord's ids look like numbers in YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _split(value: object) -> object:
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, int):
        return (_text(value),)
    return tuple(value) if isinstance(value, list) else value


Name = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int)]
"""Text; an id written as a bare number is meant as text."""

Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_split, json_schema_input_type=str | int | list[str | int] | None),
]
"""A list, or the same as comma-separated text."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A limit in seconds. There is no "endless": 0 and below are mistakes."""

Chance = Annotated[float, Field(ge=0, le=1)]
