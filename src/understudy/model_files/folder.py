"""The folder of model files: shared by every project of one user."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from understudy.errors import NOT_JSON, ModelFileError
from understudy.files import write_file
from understudy.model_files.catalogue import (
    HUB_PREFIX,
    Entry,
    HubFile,
    catalogue,
    hub_file,
    unknown_name,
)

FOLDER_VARIABLE = "UNDERSTUDY_MODELS_DIR"
_PARTIAL = ".partial"
_SUFFIX = ".gguf"


class Origin(msgspec.Struct, frozen=True):
    """Where a file came from; kept beside it as JSON."""

    source: str
    sha256: str
    name: str | None = None
    """In the catalogue."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files that one model is loaded from."""

    model: Path
    mmproj: Path | None = None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One model file of the folder."""

    path: Path
    size_bytes: int
    origin: Origin | None
    """`None` for a file that was put there by hand."""


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """`UNDERSTUDY_MODELS_DIR`, or `models` in the user's data folder."""
    chosen = environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    # Imported late: only commands and engines that use model files need it.
    from platformdirs import user_data_path

    return user_data_path("understudy", appauthor=False) / "models"


class ModelFolder:
    """Finds, lists and removes model files. Does not fetch them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def partial(self) -> Path:
        """Where files grow until they are whole; same file system as their final place."""
        return self.root / _PARTIAL

    def place(self, entry: Entry) -> Path:
        """The final path of a model of the catalogue, present or not."""
        if entry.hub is not None:
            return self.hub_place(HubFile(entry.hub, entry.file))
        return self.root / entry.file

    def hub_place(self, file: HubFile) -> Path:
        """The final path of a file of the hub, present or not."""
        return self.root.joinpath("hub", *file.repository.split("/"), *file.path.split("/"))

    def locate(self, name: str, base: Path = Path()) -> ModelFiles:
        """The files of a model that is present.

        `name` is one of the catalogue, `hf:owner/repository/file.gguf`, or a path; a relative
        path starts from `base`, or from this folder. Raises ModelFileError.
        """
        if name in catalogue():
            return self._catalogued(name, catalogue()[name])
        if name.startswith(HUB_PREFIX):
            path = self.hub_place(hub_file(name))
            if not path.is_file():
                raise _absent(name)
            return ModelFiles(path)
        return ModelFiles(self.path(name, base))

    def path(self, name: str, base: Path = Path()) -> Path:
        """The path of a file given as a path. Raises ModelFileError where there is none."""
        wanted = Path(name).expanduser()
        for place in (base / wanted, self.root / wanted):
            if place.is_file():
                return place
        if wanted.suffix == _SUFFIX or len(wanted.parts) > 1:
            raise ModelFileError(f"There is no file {base / wanted}.")
        raise unknown_name(name)

    def stored(self) -> Iterator[StoredFile]:
        """Every model file that is present, in the order of their paths."""
        for path in sorted(self.root.rglob(f"*{_SUFFIX}")):
            if _PARTIAL not in path.relative_to(self.root).parts and path.is_file():
                yield StoredFile(path, path.stat().st_size, _origin(path))

    def partial_bytes(self) -> int:
        """What unfinished downloads take."""
        return sum(p.stat().st_size for p in self.partial.rglob("*") if p.is_file())

    def note_origin(self, path: Path, origin: Origin) -> None:
        """Write down where `path` came from."""
        write_file(_note(path), msgspec.json.encode(origin))

    def remove(self, name: str) -> tuple[Path, ...]:
        """Delete the files of a model; returns what was deleted. Raises ModelFileError."""
        files = self.locate(name)
        paths = [path for path in (files.model, files.mmproj) if path is not None]
        for path in paths:
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise ModelFileError(f"{path} is not in {self.root}: delete it yourself.")
        for path in paths:
            path.unlink()
            _note(path).unlink(missing_ok=True)
            self._remove_empty(path.parent)
        return tuple(paths)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _catalogued(self, name: str, entry: Entry) -> ModelFiles:
        model = self.place(entry)
        mmproj = None
        if entry.hub is not None and entry.mmproj is not None:
            mmproj = self.hub_place(HubFile(entry.hub, entry.mmproj))
        if not model.is_file() or (mmproj is not None and not mmproj.is_file()):
            raise _absent(name)
        return ModelFiles(model, mmproj)


def _absent(name: str) -> ModelFileError:
    return ModelFileError(f"The file of {name} is not here yet: understudy models get {name}")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _origin(path: Path) -> Origin | None:
    try:
        return msgspec.json.decode(_note(path).read_bytes(), type=Origin)
    except (OSError, *NOT_JSON):
        return None
