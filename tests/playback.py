"""Recorded answers of real servers, played back byte by byte over loopback.

A recording is one JSON file under `tests/recorded/<engine>/`: what was asked, the status, a few
headers, and the body in the pieces in which it was written. `end` is `close` for an answer that
ended as it should, and `cut` for a connection that broke.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from waiting import LIMIT_S

RECORDED = Path(__file__).parent / "recorded"


class Recording(msgspec.Struct, forbid_unknown_fields=True):
    about: str
    request: str
    status: int
    headers: dict[str, str]
    pieces: list[str]
    protocol: str = "HTTP/1.1"
    end: str = "close"


def load(engine: str, case: str) -> Recording:
    return msgspec.json.decode((RECORDED / engine / f"{case}.json").read_bytes(), type=Recording)


@dataclass(frozen=True, slots=True)
class Asked:
    line: str
    """Method and path, without the query."""
    headers: dict[str, str]
    body: bytes

    @property
    def members(self) -> dict[str, object]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(slots=True)
class Playback:
    """A server that answers each request line with its recording; other lines get a 404."""

    recordings: dict[str, Recording]
    held: str | None = None
    """The request line whose answer stops after its first piece, until the caller leaves."""
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a caller of the held line closed its connection."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await _read(reader)
            async with self.changed:
                self.asked.append(asked)
                self.changed.notify_all()
            await self._answer(asked, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def until_asked(self, line: str) -> Asked:
        """Wait until `line` was asked for, and return the last such request."""
        async with asyncio.timeout(LIMIT_S), self.changed:
            await self.changed.wait_for(lambda: any(a.line == line for a in self.asked))
        return [asked for asked in self.asked if asked.line == line][-1]

    async def _answer(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        recording = self.recordings.get(asked.line)
        if recording is None:
            writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        chunked = recording.protocol == "HTTP/1.1"
        writer.write(_head(recording, chunked=chunked))
        for piece in recording.pieces:
            data = piece.encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            await writer.drain()
            if asked.line == self.held:
                await reader.read()
                self.left.set()
                return
        if chunked and recording.end == "close":
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def playing(
    recordings: dict[str, Recording], held: str | None = None
) -> AsyncIterator[Playback]:
    playback = Playback(recordings, held)
    server = await asyncio.start_server(playback.serve, "127.0.0.1", 0)
    playback.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield playback
    finally:
        server.close()
        await server.wait_closed()


def recordings_of(engine: str, cases: Sequence[str]) -> dict[str, Recording]:
    loaded = [load(engine, case) for case in cases]
    return {recording.request: recording for recording in loaded}


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    pairs = [line.split(": ", 1) for line in head[1:] if line]
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(f"{method} {target.partition('?')[0]}", headers, body)


def _head(recording: Recording, *, chunked: bool) -> bytes:
    lines = [f"{recording.protocol} {recording.status} X", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in recording.headers.items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
