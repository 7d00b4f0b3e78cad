"""Reads the files that are attached to messages: text and PDF, each in a child process."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from understudy.attachments.source import FileSource, bytes_of
from understudy.config.settings import Attachments
from understudy.conversation.messages import AttachedText
from understudy.errors import ImageRefused, WorkerKilled, WorkFailed
from understudy.images.address_guard import Resolve, system_resolve
from understudy.workers.pool import WorkerLimits, WorkerPool

_log = structlog.get_logger()
_EXTRACT = "understudy.attachments.extract:extract"
_LIMITS = WorkerLimits(workers=1, deadline_s=10.0, memory_mb=256)
_REFUSALS: dict[str, str] = {
    "encrypted": "it is encrypted. Send it without a password.",
    "empty": "it contains no text (a scan, perhaps). Send it as images.",
    "damaged": "it is damaged.",
    "oversized": "it unpacks to too much, or is nested too deeply.",
}


@dataclass(frozen=True, slots=True)
class ReadFiles:
    files: tuple[AttachedText, ...] = ()
    notes: tuple[str, ...] = ()
    """For the person: each file that could not be read, and each that was shortened."""
    others: tuple[str, ...] = ()
    """Names of the files of other kinds."""


class AttachmentReader:
    """Reads files for every platform. With `attachments.enabled` off, all are of other kinds."""

    def __init__(
        self,
        settings: Callable[[], Attachments],
        allowed_hosts: Callable[[], Collection[str]],
        resolve: Resolve = system_resolve,
    ) -> None:
        self._settings = settings
        self._allowed_hosts = allowed_hosts
        self._resolve = resolve
        self._readers = WorkerPool("attachments", _LIMITS)

    async def read(self, sources: Sequence[FileSource]) -> ReadFiles:
        """Never raises for a file: each is read, named, or left out with a note."""
        settings = self._settings()
        if not sources or not settings.enabled:
            return ReadFiles(others=tuple(source.name for source in sources))
        read = [await self._read_one(source, settings) for source in sources[: settings.max_files]]
        spare = sources[settings.max_files :]
        notes = [note for one in read for note in one.notes]
        if spare:
            notes.append(f"{settings.max_files} files per message; {len(spare)} not read.")
        others = [name for one in read for name in one.others]
        return ReadFiles(
            tuple(file for one in read for file in one.files),
            tuple(notes),
            (*others, *(source.name for source in spare)),
        )

    async def aclose(self) -> None:
        await self._readers.aclose()

    async def _read_one(self, source: FileSource, settings: Attachments) -> ReadFiles:
        try:
            data = await bytes_of(source, settings.max_bytes, self._allowed_hosts(), self._resolve)
            kind, text, chars = await self._readers.run(
                _EXTRACT, data, settings.max_chars, kind=tuple[str, str, int]
            )
        except ImageRefused as refused:
            return _refused(source.name, f"{refused}.")
        except (WorkerKilled, WorkFailed):
            return _refused(source.name, "reading it takes too much time or memory.")
        if kind == "other":
            return ReadFiles(others=(source.name,))
        if refusal := _REFUSALS.get(kind):
            return _refused(source.name, refusal)
        notes: tuple[str, ...] = ()
        if chars > settings.max_chars:
            left_out = chars - settings.max_chars
            notes = (
                f"{source.name} is long: {left_out:,} characters of its middle were left out.",
            )
        return ReadFiles((AttachedText(source.name, text),), notes)


def _refused(name: str, why: str) -> ReadFiles:
    _log.info("attachment.refused")
    return ReadFiles(notes=(f"I couldn't read {name}: {why}",), others=(name,))


@asynccontextmanager
async def open_attachments(
    settings: Callable[[], Attachments],
    allowed_hosts: Callable[[], Collection[str]],
    resolve: Resolve = system_resolve,
) -> AsyncGenerator[AttachmentReader]:
    """`allowed_hosts` may be fetched from although their addresses are not public."""
    reader = AttachmentReader(settings, allowed_hosts, resolve)
    try:
        yield reader
    finally:
        await reader.aclose()
