"""The gateway as an ASGI application: OpenAI's protocol on top of the ModelRouter."""

import functools
import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import msgspec
from starlette.types import Receive, Scope, Send

from understudy.config.settings import Gateway as GatewaySettings
from understudy.errors import RequestRefused
from understudy.gateway.admission import BodyBudget, RequestLimiter
from understudy.gateway.auth import Access, Guest
from understudy.gateway.client_connection import (
    JSON,
    KEEP_ALIVE_S,
    SSE,
    ClientConnection,
    Header,
    answer,
    lifespan,
)
from understudy.gateway.error_responses import error_body, refusal_of
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.requests import ClientRequest, ModelNames, read_ask, read_completion
from understudy.gateway.responses import Form, model_entry, model_list
from understudy.gateway.streaming import AnswerSink, StreamSink
from understudy.http_server.auth_throttle import AuthFailures
from understudy.http_server.connection import EXTENSION, ServerExtension
from understudy.routing.records import Origin
from understudy.routing.request import Reply, ReplyEnded, ReplyRequest

_USUAL_HEADERS = (b"authorization", b"content-type", b"x-api-key")
_HEADER_NAME = re.compile(rb"[A-Za-z0-9-]{1,64}")
_MOST_HEADERS = 50
_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))
_OPENAPI = Path(__file__).with_name("openapi.json")


@dataclass(frozen=True, slots=True)
class Source:
    """The router that replies come from."""

    reply: Reply
    candidates: tuple[str, ...]
    """`provider/model` of each candidate; the provider alone where the server chooses."""
    may_spend: Callable[[Origin], bool]


class _Call(msgspec.Struct, frozen=True):
    """One HTTP request."""

    id: str
    method: str
    path: str
    peer: str | None
    headers: Mapping[bytes, bytes]
    always: tuple[Header, ...]
    """Headers of every response to it."""
    receive: Receive
    send: Send
    server: ServerExtension | None = None


class Gateway:
    """Serves chat completions, bare completions and the model list.

    One request is one reply of the router; nothing is retried here. An instance belongs to one
    configuration; a reload creates another one with the same `limits`, which must be among the
    router's observers to count tokens.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        source: Source,
        limits: KeyLimits,
        *,
        new_id: Callable[[], str],
        failures: AuthFailures | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises `ConfigError` for a key without a value."""
        self._settings = settings
        self._source = source
        self._access = Access(settings.keys, settings.cors_origins)
        self._names = ModelNames(source.candidates, settings.orders)
        self._limiter = RequestLimiter(settings.max_requests)
        self._bodies = BodyBudget(settings.max_body_bytes, settings.max_held_bytes)
        self._limits = limits
        self._failures = failures or AuthFailures()
        self._new_id = new_id
        self._wall = wall
        self._started = int(wall())
        self._connections: set[ClientConnection] = set()
        """Those whose reply is running."""
        self._endpoints: dict[str, dict[str, Callable[[_Call], Awaitable[None]]]] = {
            "/chat/completions": {"POST": functools.partial(self._reply, read_ask)},
            "/completions": {"POST": functools.partial(self._reply, read_completion)},
            "/models": {"GET": self._models},
            "/openapi.json": {"GET": self._document},
            "/healthz": {"GET": self._health},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        headers = dict(scope["headers"])
        call_id = self._new_id()
        peer = scope["client"]
        always = ((b"x-router-request-id", call_id.encode()), *self._access.cors(headers))
        call = _Call(
            id=call_id,
            method=scope["method"],
            path=scope["path"],
            peer=peer[0] if peer else None,
            headers=headers,
            always=always,
            receive=receive,
            send=send,
            server=scope.get("extensions", {}).get(EXTENSION, {}).get("server"),
        )
        try:
            self._check_failures(call)
            await self._endpoint(call)(call)
        except RequestRefused as refusal:
            if refusal.status == 401 and not _CREDENTIALS.isdisjoint(headers):
                self._failures.add(call.peer or "")
            await _refuse(call, refusal)

    def _check_failures(self, call: _Call) -> None:
        """Refuse right credentials too, after many wrong ones: else a guess would be tried."""
        wait_s = self._failures.wait_s(call.peer or "")
        if wait_s > 0 and not _CREDENTIALS.isdisjoint(call.headers):
            raise RequestRefused(
                429,
                "too_many_wrong_keys",
                "Too many wrong keys from this address.",
                retry_after_s=wait_s,
            )

    def _endpoint(self, call: _Call) -> Callable[[_Call], Awaitable[None]]:
        # Both `…/v1` and the bare address are in use as a base URL.
        path = call.path.removeprefix("/v1")
        if path.startswith("/models/"):
            path = "/models"
        methods = self._endpoints.get(path)
        if methods is None:
            raise RequestRefused(404, "unknown_path", f"There is nothing at {call.path}.")
        if call.method == "OPTIONS":
            return _preflight
        endpoint = methods.get(call.method)
        return functools.partial(_wrong_method, methods) if endpoint is None else endpoint

    async def _reply(self, read: Callable[[bytes], ClientRequest], call: _Call) -> None:
        guest = self._access.admit(call.peer, call.headers)
        await self._limiter.acquire()
        try:
            body = await self._bodies.read(call.headers, call.receive)
            if body is not None:
                try:
                    await self._answer(call, guest, read(body))
                finally:
                    self._bodies.release(body)
        finally:
            self._limiter.release()

    async def _answer(self, call: _Call, guest: Guest, ask: ClientRequest) -> None:
        await self._count(guest, call.id)
        request = self._request(call.id, guest, ask)
        form = Form(call.id, int(self._wall()), ask.include_usage, ask.raw_completion)
        if ask.stream:
            await self._stream(call, request, form, ask)
        else:
            await self._answer_whole(call, request, form, ask)

    async def _stream(
        self, call: _Call, request: ReplyRequest, form: Form, ask: ClientRequest
    ) -> None:
        headers = [*SSE, *call.always]
        connection = ClientConnection(call.receive, call.send, headers, KEEP_ALIVE_S, call.server)
        sink = StreamSink(form, connection)
        self._connections.add(connection)
        try:
            async with connection:
                end = await self._source.reply(request, sink)
                refusal = None if end.finish_reason else self._refusal(ask, end)
                if connection.opened:
                    await sink.end(end, refusal)
                elif refusal is not None:
                    raise refusal
        finally:
            self._connections.discard(connection)
        if connection.ended_early:
            if not connection.opened:
                raise _shutting_down()
            await sink.break_off(_shutting_down())

    async def _answer_whole(
        self, call: _Call, request: ReplyRequest, form: Form, ask: ClientRequest
    ) -> None:
        connection = ClientConnection(call.receive, call.send, server=call.server)
        sink = AnswerSink(form)
        self._connections.add(connection)
        try:
            async with connection:
                end = await self._source.reply(request, sink)
                answered = sink.answer(end)
                if answered is None:
                    raise self._refusal(ask, end)
                headers, body = answered
                await answer(call.send, 200, [JSON, *call.always, *headers], body, call.server)
        finally:
            self._connections.discard(connection)
        if connection.ended_early:
            raise _shutting_down()

    def end_replies(self) -> None:
        """End all running replies: streams with an error event, other answers with a 503."""
        for connection in tuple(self._connections):
            connection.end_early()

    def _request(self, call_id: str, guest: Guest, ask: ClientRequest) -> ReplyRequest:
        return ReplyRequest(
            id=call_id,
            sink="gateway",
            build=ask.build,
            origin=guest.origin,
            may_trim_prompt=False,
            images=ask.images,
            degrade_images=self._settings.degrade_images and not ask.raw_completion,
            tools=ask.tools,
            clean=self._settings.clean,
            may_be_empty=ask.may_be_empty,
            raw_completion=ask.raw_completion,
            order=self._names.order(ask.model),
            queue_key=guest.name,
            may_spend=self._source.may_spend,
        )

    async def _count(self, guest: Guest, call_id: str) -> None:
        wait_s = await self._limits.acquire(guest.key, call_id, guest.origin, self._wall())
        if wait_s is not None:
            raise RequestRefused(
                429,
                "key_limit",
                f"The key {guest.name!r} has used up what it may use for now.",
                retry_after_s=wait_s,
            )

    def _refusal(self, ask: ClientRequest, end: ReplyEnded) -> RequestRefused:
        return refusal_of(
            end, images=ask.images > 0, raw_completion=ask.raw_completion, now=self._wall()
        )

    async def _models(self, call: _Call) -> None:
        self._access.admit(call.peer, call.headers)
        names = self._names.all()
        wanted = unquote(call.path.partition("/models")[2].lstrip("/"))
        if not wanted:
            await _send_json(call, model_list(names, self._started))
        elif wanted in names:
            await _send_json(call, model_entry(wanted, self._started))
        else:
            raise RequestRefused(404, "model_not_found", f"There is no model {wanted!r} here.")

    async def _document(self, call: _Call) -> None:
        await _send_json(call, _OPENAPI.read_bytes())

    async def _health(self, call: _Call) -> None:
        await _send_json(call, b'{"status":"ok"}')


def _shutting_down() -> RequestRefused:
    return RequestRefused(503, "shutting_down", "The gateway is shutting down.")


async def _send_json(call: _Call, body: bytes) -> None:
    await answer(call.send, 200, [JSON, *call.always], body)


async def _preflight(call: _Call) -> None:
    """Answer a preflight request; without CORS headers the browser sends no request."""
    headers = [
        *call.always,
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", _allowed_headers(call.headers)),
        (b"access-control-max-age", b"600"),
    ]
    await answer(call.send, 204, headers, b"")


def _allowed_headers(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the headers the browser asks for: SDKs send many, as `x-stainless-*`."""
    asked = headers.get(b"access-control-request-headers", b"")
    names = [name.strip() for name in asked.split(b",")]
    well_formed = [name for name in names if _HEADER_NAME.fullmatch(name)]
    return b", ".join(dict.fromkeys((*_USUAL_HEADERS, *well_formed[:_MOST_HEADERS])))


async def _wrong_method(methods: Iterable[str], call: _Call) -> None:
    allowed = ", ".join(methods)
    refusal = RequestRefused(405, "method_not_allowed", f"{call.path} takes {allowed}.")
    await _refuse(call, refusal, (b"allow", allowed.encode()))


async def _refuse(call: _Call, refusal: RequestRefused, *more: Header) -> None:
    headers = [JSON, *call.always, *more]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(refusal.retry_after_s)))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await answer(call.send, refusal.status, headers, error_body(refusal))
