"""The base of every configuration section, and the field types they share."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A mapping of the configuration file. Unknown keys are mistakes; values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _split(value: object) -> object:
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list, or the same as comma-separated text."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A limit in seconds. There is no "endless": 0 and below are mistakes."""

Chance = Annotated[float, Field(ge=0, le=1)]
