"""Receives one short answer for a coroutine that waits for it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from understudy.errors import BadReply, ErrorClass, ProviderError
from understudy.llm.http.parser import Headers


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
