"""Our gateway as the suite sees it: a client of it, streaming or not, over real HTTP."""

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

import aiohttp

from conformance.subject import Outcome, Sink, Site, Subject, Wish
from conformance.table import Way
from conformance.understudy_subject import LARGE, PIXEL, UnderstudyRouter, words_of
from gateway_setup import gateway_app
from understudy.gateway.key_limits import KeyLimits
from understudy.http_server.exchange import Application, Exchange, Receiver
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


class GatewayHost:
    """One server that listens for the gateways of all rows."""

    def __init__(self) -> None:
        self.app: Application | None = None
        """The gateway of the current row."""
        self._served = WebServer(self._forward, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        return f"{self._served.url}/v1/chat/completions"

    async def __aenter__(self) -> Self:
        await self._served.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._served.__aexit__()

    def _forward(self, exchange: Exchange) -> Receiver | None:
        assert self.app is not None
        return self.app(exchange)


class UnderstudyGateway(Subject):
    """Streams where the sink is append-only; asks for the answer in one piece where it is held."""

    def __init__(self, host: GatewayHost, site: Site) -> None:
        super().__init__(site)
        limits = KeyLimits()
        self._records = _Records()
        self._inner = UnderstudyRouter(site, (limits, self._records))
        self._url = host.url
        self._open = AsyncExitStack()
        host.app = gateway_app(self._inner.router, limits)

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._inner)
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


ROUTER_WAYS = {sink.value: Way(sink.value, UnderstudyRouter, sink) for sink in Sink}
GATEWAY_SINKS = {"streamed": Sink.APPEND_ONLY, "in one piece": Sink.HELD}
WAYS = (*ROUTER_WAYS, *GATEWAY_SINKS)
"""The names of all ways: the router for each kind of sink, the gateway for each kind of client."""


def way_of(name: str, host: GatewayHost) -> Way:
    if name in ROUTER_WAYS:
        return ROUTER_WAYS[name]
    return Way(name, partial(UnderstudyGateway, host), GATEWAY_SINKS[name], is_program=True)
