"""One request for a reply: takes its body, runs the reply, answers the client."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from understudy.errors import RequestRefused
from understudy.gateway.admission import BodyBudget, RequestLimiter
from understudy.gateway.auth import Guest
from understudy.gateway.call import Call
from understudy.gateway.error_responses import refusal_of
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.requests import ClientRequest, ModelNames
from understudy.gateway.responses import Form
from understudy.gateway.streaming import AnswerSink, KeepAlive, StreamSink
from understudy.routing.records import Origin
from understudy.routing.request import Reply, ReplyEnded, ReplyRequest

ReadBody = Callable[[bytes], ClientRequest]


@dataclass(frozen=True, slots=True)
class Source:
    """The router that replies come from."""

    reply: Reply
    candidates: tuple[str, ...]
    """`provider/model` of each candidate; the provider alone where the server chooses."""
    may_spend: Callable[[Origin], bool]
    unusable: frozenset[str] = frozenset()
    """Configured providers without a candidate that can be asked: disabled, or without a key."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What the calls of one gateway share."""

    source: Source
    names: ModelNames
    limiter: RequestLimiter
    bodies: BodyBudget
    limits: KeyLimits
    wall: Callable[[], float]
    clean: bool
    degrade_images: bool
    keep_alive: KeepAlive = field(default_factory=KeepAlive)
    calls: "set[ReplyCall]" = field(default_factory=set)
    """Those that are not answered yet."""


class ReplyCall:
    """The receiver of a request. It holds a slot and the bytes of its body until it is over."""

    __slots__ = (
        "_began",
        "_call",
        "_ended_early",
        "_guest",
        "_over",
        "_parts",
        "_read",
        "_serving",
        "_sink",
        "_size",
    )

    def __init__(self, serving: Serving, call: Call, guest: Guest, read: ReadBody) -> None:
        """Raises `RequestRefused` (413, 429) where there is no room for it."""
        serving.bodies.check_declared(call.headers)
        serving.limiter.acquire()
        serving.calls.add(self)
        self._serving = serving
        self._call = call
        self._guest = guest
        self._read = read
        self._parts: list[bytes] = []
        self._size = 0
        self._sink: StreamSink | None = None
        self._began = False
        self._ended_early = False
        self._over = False
        if b"expect" in call.headers:
            call.exchange.proceed()

    # What the connection calls.

    def data(self, data: bytes) -> None:
        size = self._size + len(data)
        try:
            self._serving.bodies.reserve(size, len(data))
        except RequestRefused as refusal:
            self._refuse(refusal)
            return
        self._size = size
        self._parts.append(data)

    def end(self) -> None:
        self._serving.limiter.start(self._begin)

    def lost(self) -> None:
        self._call.exchange.cancel()
        if not self._began:
            self._release()

    def end_early(self) -> None:
        """Answer that the gateway is shutting down."""
        if self._began and not self._over:
            self._ended_early = True
            self._call.exchange.cancel()
        elif not self._over:
            self._refuse(_shutting_down())

    # The reply.

    def _begin(self) -> None:
        if not self._over:
            self._call.exchange.run(self._run())

    async def _run(self) -> None:
        if self._over:
            return
        self._began = True
        try:
            await self._reply()
        except RequestRefused as refusal:
            self._call.refuse(refusal)
        except asyncio.CancelledError:
            if self._ended_early:
                self._break_off()
            elif not self._call.exchange.lost:
                raise
        finally:
            self._release()

    async def _reply(self) -> None:
        serving = self._serving
        ask = self._read(b"".join(self._parts))
        self._parts.clear()  # `ask` holds what is needed of them
        now = serving.wall()
        limits, guest = serving.limits, self._guest
        if limits.reserve is not None:
            wait_s = await limits.acquire(guest.key, self._call.id, guest.origin, now)
        else:
            wait_s = None if guest.key is None else limits.take(guest.key, now)
        if wait_s is not None:
            raise _key_limit(guest, wait_s)
        call = self._call
        request = self._request(ask)
        form = Form(call.id, int(now), ask.include_usage, ask.raw_completion)
        if ask.stream:
            await self._stream(request, form, ask)
            return
        sink = AnswerSink(form)
        end = await serving.source.reply(request, sink)
        answered = sink.answer(end)
        if answered is None:
            raise self._refusal(ask, end)
        lines, body = answered
        call.respond(body, lines)

    async def _stream(self, request: ReplyRequest, form: Form, ask: ClientRequest) -> None:
        exchange = self._call.exchange
        sink = self._sink = StreamSink(form, exchange, self._call.lines, self._serving.keep_alive)
        end = await self._serving.source.reply(request, sink)
        refusal = None if end.finish_reason else self._refusal(ask, end)
        if refusal is not None and not exchange.started:
            raise refusal
        await sink.end(end, refusal)

    def _request(self, ask: ClientRequest) -> ReplyRequest:
        serving, guest = self._serving, self._guest
        return ReplyRequest(
            id=self._call.id,
            sink="gateway",
            build=ask.build,
            origin=guest.origin,
            may_trim_prompt=False,
            images=ask.images,
            degrade_images=serving.degrade_images and not ask.raw_completion,
            tools=ask.tools,
            clean=serving.clean,
            may_be_empty=ask.may_be_empty,
            raw_completion=ask.raw_completion,
            order=serving.names.order(ask.model),
            queue_key=guest.name,
            may_spend=serving.source.may_spend,
        )

    def _refusal(self, ask: ClientRequest, end: ReplyEnded) -> RequestRefused:
        return refusal_of(
            end,
            images=ask.images > 0,
            raw_completion=ask.raw_completion,
            now=self._serving.wall(),
        )

    # The end.

    def _break_off(self) -> None:
        if self._sink is not None and self._call.exchange.started:
            self._sink.break_off(_shutting_down())
        else:
            self._call.refuse(_shutting_down())

    def _refuse(self, refusal: RequestRefused) -> None:
        self._release()
        self._call.refuse(refusal)

    def _release(self) -> None:
        if self._over:
            return
        self._over = True
        if self._sink is not None:
            self._sink.close()
        serving = self._serving
        serving.bodies.release(self._size)
        serving.limiter.release()
        serving.calls.discard(self)


def _key_limit(guest: Guest, wait_s: float) -> RequestRefused:
    return RequestRefused(
        429,
        "key_limit",
        f"The key {guest.name!r} has used up what it may use for now.",
        retry_after_s=wait_s,
    )


def _shutting_down() -> RequestRefused:
    return RequestRefused(503, "shutting_down", "The gateway is shutting down.")
