"""Receivers that a coroutine waits on: one short answer, and one response read in pieces."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from understudy.errors import BadReply, ErrorClass, ProviderError
from understudy.llm.http.call import Call
from understudy.llm.http.parser import Headers

_HIGH_WATER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A short answer read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class AnswerReader:
    """Collects a whole response; `answer` raises what it failed with."""

    def __init__(self, limit: int) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._limit = limit
        self._status = 0
        self._headers: Headers | None = None
        self._body = bytearray()

    def head(self, status: int, headers: Headers) -> None:
        self._status = status
        self._headers = headers

    def data(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._limit:
            self.failed(BadReply(ErrorClass.RESPONSE_TOO_LARGE))

    def end(self) -> None:
        assert self._headers is not None
        if not self.answer.done():
            self.answer.set_result(Answer(self._status, self._headers, bytes(self._body)))

    def failed(self, error: ProviderError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self._body.clear()


class ResponseReader:
    """One response for a coroutine to read piece by piece; made by `Endpoint.post`.

    Pauses the server while 256 KiB wait to be read. Its owner calls `close`.
    """

    call: Call

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: Mapping[str, str] = {}
        """Names in lower case."""
        self._pieces: list[bytes] = []
        self._size = 0
        self._ended = False
        self._error: ProviderError | None = None
        self._wake: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Return what has come, at least one byte; nothing at the end of the body.

        Raises what `ResponseReceiver.failed` gets, after all that came before it.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self.call.paused:
            self.call.resume_reading()
        return data

    async def read_whole(self, limit: int) -> bytes:
        """Read to the end. Raises `BadReply` (`response_too_large`) past `limit` bytes too."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > limit:
                raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)
        return bytes(body)

    def detach(self) -> None:
        """As `Call.detach`; `close` does nothing afterwards."""
        self.call.detach()

    def close(self) -> None:
        """As `Call.close`."""
        self.call.close()

    # As the receiver.

    def head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        if not self.opened.done():
            self.opened.set_result(None)

    def data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HIGH_WATER_BYTES:
            self.call.pause_reading()
        self._wake_up()

    def end(self) -> None:
        self._ended = True
        self._wake_up()

    def failed(self, error: ProviderError) -> None:
        self._error = error
        if not self.opened.done():
            self.opened.set_exception(error)
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
