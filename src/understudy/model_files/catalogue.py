"""The models that are known by name, and how other models are named."""

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath

import msgspec

from understudy.errors import ModelFileError

HUB_PREFIX = "hf:"
SMALLEST = "smollm2-135m"
"""The one that needs no hub: its file is inside a package of the Python Package Index."""
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Wheel(msgspec.Struct, frozen=True):
    """A wheel of the Python Package Index that holds the file."""

    project: str
    version: str
    name: str
    """Of the wheel's file."""
    member: str
    """The path of the model inside it."""
    size: int
    sha256: str


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the catalogue."""

    about: str
    licence: str
    context: int
    file: str
    size: int
    sha256: str | None = None
    wheel: Wheel | None = None
    hub: str | None = None
    """The repository on the Hugging Face Hub."""
    mmproj: str | None = None
    """The file of the image encoder, in the same repository."""
    mmproj_size: int = 0
    temperature: float | None = None
    repeat_penalty: float | None = None

    @property
    def sees(self) -> bool:
        return self.mmproj is not None

    @property
    def source(self) -> str:
        """Where it comes from, for people."""
        if self.wheel is not None:
            return f"{self.wheel.project} {self.wheel.version} (Python Package Index)"
        return f"{HUB_PREFIX}{self.hub}"

    @property
    def hub_files(self) -> "tuple[HubFile, ...]":
        names = [name for name in (self.file, self.mmproj) if name is not None]
        return tuple(HubFile(self.hub, name) for name in names) if self.hub else ()


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository on the Hugging Face Hub."""

    repository: str
    path: str

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.repository}/{self.path}"


@cache
def catalogue() -> dict[str, Entry]:
    """Every known model by its name, smallest first."""
    text = files("understudy.model_files").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Entry])


def hub_file(name: str) -> HubFile:
    """Parse `hf:owner/repository/file.gguf`. Raises ModelFileError."""
    parts = name.removeprefix(HUB_PREFIX).split("/")
    path = PurePosixPath(*parts[2:])
    named = len(parts) > 2 and all(map(_OWNER.fullmatch, parts))
    if not named or path.suffix != ".gguf":
        raise ModelFileError(
            f"{name!r} is not a file on the hub: write {HUB_PREFIX}owner/repository/file.gguf"
        )
    return HubFile("/".join(parts[:2]), str(path))


def unknown_name(name: str) -> ModelFileError:
    """The error for a name that is in no catalogue."""
    close = get_close_matches(name, catalogue(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ModelFileError(
        f"No model is called {name!r}; {hint}known are {', '.join(catalogue())}, "
        f"and {HUB_PREFIX}owner/repository/file.gguf"
    )
