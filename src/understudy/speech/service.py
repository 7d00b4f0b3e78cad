"""Transcribes voice messages: the servers of `speech.order` in turn, each recording once."""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from understudy.attachments.reader import ReadFiles
from understudy.attachments.source import FileSource, bytes_of
from understudy.config.providers import Server
from understudy.config.settings import Speech
from understudy.conversation.messages import AttachedText
from understudy.errors import ImageRefused, NotTranscribed

if TYPE_CHECKING:
    import aiohttp

_log = structlog.get_logger()
_COOLDOWN_S = 60.0
"""How long a server that failed is left out while another one is there."""


class Transcripts(Protocol):
    """Transcripts by the SHA-256 of the recording in hex; the store of image captions is one."""

    async def caption(self, digest: str) -> str | None: ...

    async def put_caption(self, digest: str, caption: str) -> None: ...


class VoiceReader:
    """Transcribes recordings. Without `speech.order` every one is of another kind."""

    def __init__(
        self,
        settings: Callable[[], Speech],
        servers: Callable[[], Mapping[str, Server]],
        transcripts: Transcripts,
        allowed_hosts: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`allowed_hosts` may be fetched from although their addresses are not public."""
        self._settings = settings
        self._servers = servers
        self._transcripts = transcripts
        self._allowed_hosts = allowed_hosts
        self._clock = clock
        self._left_out_until: dict[str, float] = {}
        self._http: aiohttp.ClientSession | None = None

    async def read(self, sources: Sequence[FileSource]) -> ReadFiles:
        """Never raises for a recording: it is transcribed, or left out with a note."""
        if not sources or not self._settings().order:
            return ReadFiles(others=tuple(source.name for source in sources))
        read = [await self._read_one(source) for source in sources]
        return ReadFiles(
            tuple(file for one in read for file in one.files),
            tuple(note for one in read for note in one.notes),
            tuple(name for one in read for name in one.others),
        )

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _read_one(self, source: FileSource) -> ReadFiles:
        try:
            most = self._settings().max_bytes
            data = await bytes_of(source, most, self._allowed_hosts())
            text = await self._words(data, source.name)
        except (ImageRefused, NotTranscribed) as error:
            note = f"I couldn't listen to the voice message: {error}."
            return ReadFiles(notes=(note,), others=(source.name,))
        return ReadFiles((AttachedText(source.name, text, spoken=True),))

    async def _words(self, data: bytes, name: str) -> str:
        digest = hashlib.sha256(data).hexdigest()
        known = await self._transcripts.caption(digest)
        if known is not None:
            return known
        text = await self._first_answer(data, name)
        await self._transcripts.put_caption(digest, text)
        return text

    async def _first_answer(self, data: bytes, name: str) -> str:
        """Ask one server after the other; those that failed a moment ago come last."""
        order = [entry for entry in self._settings().order if entry in self._servers()]
        now = self._clock()
        for entry in sorted(order, key=lambda one: self._left_out_until.get(one, 0.0) > now):
            try:
                text = await self._ask(entry, data, name)
            except (NotTranscribed, TimeoutError) as error:
                self._left_out_until[entry] = self._clock() + _COOLDOWN_S
                _log.warning("speech.failed", provider=entry, error=str(error) or "too slow")
                continue
            self._left_out_until.pop(entry, None)
            _log.info("speech.transcribed", provider=entry, bytes=len(data), chars=len(text))
            return text
        raise NotTranscribed("no server could transcribe it")

    async def _ask(self, entry: str, data: bytes, name: str) -> str:
        # It imports aiohttp, which takes long.
        from understudy.speech.transcribe import transcribe

        settings = self._settings()
        async with asyncio.timeout(settings.timeout_seconds):
            server = self._servers()[entry]
            return await transcribe(self._session(), server, settings.model, name, data)

    def _session(self) -> "aiohttp.ClientSession":
        import aiohttp

        if self._http is None:
            self._http = aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar())
        return self._http


@asynccontextmanager
async def open_voice_reader(
    settings: Callable[[], Speech],
    servers: Callable[[], Mapping[str, Server]],
    transcripts: Transcripts,
    allowed_hosts: Callable[[], Collection[str]],
) -> AsyncGenerator[VoiceReader]:
    reader = VoiceReader(settings, servers, transcripts, allowed_hosts)
    try:
        yield reader
    finally:
        await reader.aclose()
