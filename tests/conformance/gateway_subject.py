"""Our gateway as the suite sees it: a client of it, streaming or not, over real HTTP."""

import asyncio
import base64
import io
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from conformance.subject import Outcome, Sink, Site, Subject, Wish
from conformance.table import Way
from conformance.understudy_subject import LARGE, PIXEL, UnderstudyRouter, words_of
from gateway_setup import gateway_app
from understudy.gateway.key_limits import KeyLimits
from understudy.http_server.server import WebServer
from understudy.routing.records import AttemptRecord, ReplyRecord

Json = dict[str, object]
_JSON = {"Content-Type": "application/json"}


class _Records:
    """The records of the router behind the gateway, in the order of the requests."""

    def __init__(self) -> None:
        self.replies: asyncio.Queue[ReplyRecord] = asyncio.Queue()

    def attempt_ended(self, record: AttemptRecord) -> None:
        """The record of the reply has them all."""

    def reply_ended(self, record: ReplyRecord) -> None:
        self.replies.put_nowait(record)


class UnderstudyGateway(Subject):
    """Streams where the sink is append-only; asks for the answer in one piece where it is held."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        limits = KeyLimits()
        self._records = _Records()
        self._inner = UnderstudyRouter(site, (limits, self._records))
        self._served = WebServer(gateway_app(self._inner.router, limits), "127.0.0.1", 0)
        self._url = f"{self._served.url}/v1/chat/completions"
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._inner)
        await self._open.enter_async_context(self._served)
        self._client = await self._open.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    async def ask(self, wish: Wish) -> Outcome:
        started, visible, text, complaint = time.monotonic(), None, "", ""
        body = io.BytesIO(_body(wish))
        async with self._client.post(self._url, data=body, headers=_JSON) as response:
            if response.status != 200:
                complaint = f"HTTP {response.status}"
            elif wish.sink is Sink.HELD:
                text = _text_of(await response.json(), "message")
                visible = time.monotonic() - started
            else:
                async for chunk in _events(response):
                    if visible is None and _text_of(chunk, "delta").strip():
                        visible = time.monotonic() - started
                    text += _text_of(chunk, "delta")
                    complaint = complaint or ("error" if "error" in chunk else "")
        took_s = time.monotonic() - started
        record = await self._records.replies.get()
        return Outcome(
            text=text,
            first_visible_s=visible,
            took_s=took_s,
            failed=words_of(record)[-1] if complaint == "error" else complaint,
            record=words_of(record),
            bad_frames=sum(attempt.bad_frames for attempt in record.attempts),
        )

    async def abandon(self, wish: Wish, when: Awaitable[None] | None) -> float:
        assert when is not None
        asking = asyncio.create_task(self.ask(wish))
        await when
        left = time.monotonic()
        asking.cancel()
        await asyncio.wait([asking])
        return left

    @asynccontextmanager
    async def unread(self, wish: Wish) -> AsyncGenerator[None, None]:
        url, body, loop = URL(self._url), _body(wish), asyncio.get_running_loop()
        lines = (
            f"POST {url.path} HTTP/1.1",
            f"Host: {url.authority}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        head = "".join(f"{line}\r\n" for line in lines).encode()
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, (url.host, url.port))
            await loop.sock_sendall(client, head + b"\r\n" + body)
            yield

    def pass_time(self, seconds: float) -> None:
        self._inner.pass_time(seconds)


def _body(wish: Wish) -> bytes:
    content: list[Json] = [{"type": "text", "text": "Tell me a story."}]
    if wish.image:
        url = f"data:image/png;base64,{base64.b64encode(PIXEL.data).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url}})
    messages: list[Json] = [{"role": "user", "content": content}]
    if wish.large:
        messages.insert(0, {"role": "system", "content": LARGE})
    streams = wish.sink is Sink.APPEND_ONLY
    return json.dumps({"model": "any", "messages": messages, "stream": streams}).encode()


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The events of a stream that ends as it should."""
    last = b""
    async for line in response.content:
        if line.startswith(b"data: "):
            last = line.removeprefix(b"data: ").strip()
            if last != b"[DONE]":
                yield json.loads(last)
    assert last == b"[DONE]", last


def _text_of(answer: Json, member: str) -> str:
    match answer.get("choices"):
        case [{**choice}]:
            said = choice.get(member)
            text = said.get("content") if isinstance(said, dict) else None
            return text if isinstance(text, str) else ""
    return ""


WAYS = (
    *(Way(sink.value, UnderstudyRouter, sink) for sink in Sink),
    Way("streamed", UnderstudyGateway, Sink.APPEND_ONLY, is_program=True),
    Way("in one piece", UnderstudyGateway, Sink.HELD, is_program=True),
)
"""The router for each kind of sink, and the gateway for each kind of client."""
