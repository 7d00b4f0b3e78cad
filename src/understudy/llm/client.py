"""LLMClient: the interface of every engine, and what it reports about one attempt."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from understudy.errors import ProviderError
from understudy.llm.messages import ChatEvent, ChatRequest, Finished, Output, ReplyIdentity, Usage
from understudy.llm.pricing import Price


class Phase(StrEnum):
    """How far an attempt has come.

    What runs in every reply names the members it needs in constants of its own: CPython 3.11 looks
    them up slowly.
    """

    QUEUE = "queue"
    CONNECT = "connect"
    HEADERS = "headers"
    FIRST_TOKEN = "first_token"
    STREAMING = "streaming"
    DONE = "done"


class Exchange(msgspec.Struct):
    """The state of one attempt's HTTP exchange.

    The client writes it while it streams; the router reads it after the attempt. Times are seconds
    since the attempt was sent.
    """

    may_wait: bool = True
    """Whether to wait for a model that is being loaded; False where another server can answer."""
    loading_s: float = 0.0
    """Of the time that follows, what was spent waiting for a model to be loaded."""
    phase: Phase = Phase.CONNECT
    connect_s: float | None = None
    headers_s: float | None = None
    http_status: int | None = None
    upstream_id: str | None = None
    """The server's own id for the generation, for support questions."""
    model_served: str | None = None
    reused_connection: bool = False
    keepalives: int = 0
    """Comments, pings and other frames that carry no output."""
    bad_frames: int = 0
    bad_members: int = 0
    """Members of frames that were dropped because nothing could be made of them."""
    usage: Usage | None = None
    """The last usage received, so that an interrupted attempt still counts its tokens."""
    identity: ReplyIdentity = msgspec.field(default_factory=ReplyIdentity)


class ProbeState(StrEnum):
    READY = "ready"
    LOADING = "loading"
    UNREACHABLE = "unreachable"
    KEY_REFUSED = "key_refused"
    MODEL_MISSING = "model_missing"
    BROKEN = "broken"
    """It answers, but not like the configured engine."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The result of a cheap probe without side effects. `None`: the server does not say."""

    state: ProbeState
    model: str | None = None
    models: tuple[str, ...] = ()
    context_length: int | None = None
    vision: bool | None = None
    max_concurrency: int | None = None
    opens_thought: bool | None = None
    """Whether the chat template opens a thought, so that only the end of one comes."""
    price: Price | None = None
    health_endpoint: bool = True
    """False where no request is free of charge: then the next real request is the probe."""
    advice: str = ""
    """One sentence for a person, empty when all is well."""


class EventReceiver(Protocol):
    """Gets the events of one reply by method calls. No method may raise or block.

    `finished` or `failed` is the last call. None comes before `LLMClient.start` has returned, and
    none after `Generation.close`.
    """

    def output(self, events: Sequence[Output]) -> None:
        """Take everything that one read from the server brought, at least one event."""
        ...

    def finished(self, finished: Finished) -> None: ...

    def failed(self, error: ProviderError) -> None:
        """Take the failure that ended the reply, a leaf of `ProviderError`."""
        ...


class Generation(Protocol):
    """One running reply. Its starter calls `close` unless it ended by itself."""

    def pause_reading(self) -> None:
        """Stop reading from the server; what was read before may still come."""
        ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        """Give the reply up; its connection is closed at once. Idempotent."""
        ...


class LLMClient(Protocol):
    """A model server in its own dialect.

    Makes one attempt and never retries: only the router does. Always streams from the server.
    Configured sampling, headers and key belong to the client; the request's own fields win.
    """

    @property
    def supports_completions(self) -> bool:
        """Whether its server accepts a text to continue."""
        ...

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        """Send the request; an empty `model` lets the server choose.

        A stream that ends without a finish fails. Sets no time limit but the one for connecting.
        Raises a leaf of `ProviderError` for a request that cannot be sent at all.
        """
        ...

    async def probe(self, model: str) -> ProbeReport:
        """Query the server without causing work; never raises for the server's state."""
        ...

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:
        """Count the prompt with the server's own tokenizer; `None` where that is not cheap."""
        ...

    async def aclose(self) -> None:
        """Release what the client owns; the shared HTTP connections are not among it."""
        ...


class EventReader:
    """A receiver for a coroutine that reads the events one by one."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[ChatEvent | ProviderError] = asyncio.Queue()

    def output(self, events: Sequence[Output]) -> None:
        for event in events:
            self._events.put_nowait(event)

    def finished(self, finished: Finished) -> None:
        self._events.put_nowait(finished)

    def failed(self, error: ProviderError) -> None:
        self._events.put_nowait(error)

    async def next(self) -> ChatEvent:
        """Raises what the reply failed with."""
        event = await self._events.get()
        if isinstance(event, ProviderError):
            raise event
        return event


async def stream_events(
    client: LLMClient, request: ChatRequest, model: str, exchange: Exchange
) -> AsyncGenerator[ChatEvent, None]:
    """Yield a reply's events, `Finished` last, for a caller that does not need back pressure.

    Raises what the reply failed with. Closing or cancelling it closes the connection.
    """
    reader = EventReader()
    generation = client.start(request, model, exchange, reader)
    try:
        while True:
            event = await reader.next()
            yield event
            if isinstance(event, Finished):
                return
    finally:
        generation.close()
