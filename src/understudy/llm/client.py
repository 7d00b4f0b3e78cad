"""LLMClient: the one thing every engine implements."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from understudy.llm.messages import ChatEvent, ChatRequest, Usage
from understudy.llm.pricing import Price


class Phase(StrEnum):
    """How far an attempt has come."""

    QUEUE = "queue"
    CONNECT = "connect"
    HEADERS = "headers"
    FIRST_TOKEN = "first_token"
    STREAMING = "streaming"
    DONE = "done"


@dataclass(slots=True)
class Exchange:
    """What the HTTP exchange of one attempt has come to so far.

    Owned by that attempt: the client writes it while it streams, the router reads it once the
    attempt is over, however it ended. Times are seconds since the attempt was dispatched.
    """

    may_wait: bool = True
    """Whether to wait for a model that is being loaded; False where another server can answer."""
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
    usage: Usage | None = None
    """The last usage seen, so that a broken-off attempt still counts its tokens."""


class ProbeState(StrEnum):
    READY = "ready"
    LOADING = "loading"
    UNREACHABLE = "unreachable"
    KEY_REFUSED = "key_refused"
    MODEL_MISSING = "model_missing"
    BROKEN = "broken"
    """It answers, but not like the engine it is configured as."""


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a cheap, side-effect free look at a server found. `None` means it does not tell."""

    state: ProbeState
    model: str | None = None
    models: tuple[str, ...] = ()
    context_length: int | None = None
    vision: bool | None = None
    max_concurrency: int | None = None
    price: Price | None = None
    health_endpoint: bool = True
    """False where nothing can be asked for free: then a real request is the probe."""
    advice: str = ""
    """One sentence for a person, empty when all is well."""


class LLMClient(Protocol):
    """A model server in its own dialect.

    Makes one attempt and never retries: the router alone does. Streams upstream always.
    Configured sampling, headers and key are the client's; the request's own fields win.
    """

    @property
    def supports_completions(self) -> bool:
        """Whether its server may be sent a bare request."""
        ...

    def stream(
        self, request: ChatRequest, model: str, exchange: Exchange
    ) -> AsyncGenerator[ChatEvent, None]:
        """Yield the reply's events, `Finished` last; an empty `model` lets the server choose.

        Raises a leaf of `ProviderError` for every failure, a stream that ends without a finish
        included. Sets no limit on time but the connect timeout: the caller cancels. Whoever
        iterates closes the generator; closing or cancelling it closes the connection at once.
        """
        ...

    async def probe(self, model: str) -> ProbeReport:
        """Look at the server without making it work; never raises for the server's state."""
        ...

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:
        """Count the prompt with the server's own tokenizer, or `None` where that is not cheap."""
        ...

    async def aclose(self) -> None:
        """Give back what the client owns; the shared HTTP sessions are not its own."""
        ...
