"""What differs between servers of the OpenAI shape, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.error_parser import ErrorFacts


@dataclass(frozen=True, slots=True)
class Wording:
    """A phrase by which one kind of server says one thing; the last resort of classification."""

    phrase: str
    """Lower case; found anywhere in the server's message."""
    error_class: ErrorClass
    statuses: frozenset[int] = frozenset()
    """Where it counts; empty is anywhere."""
    scope: HoldScope | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of speaking the OpenAI chat format."""

    engine: str
    base_url: str | None = None
    chat_path: str = "/chat/completions"
    completions_path: str | None = "/completions"
    """Where it goes on from a bare prompt; `None` where it knows only conversations."""
    models_path: str = "/models"
    fields: frozenset[str] | None = None
    """The body members the server takes; `None` where it ignores what it does not know."""
    withheld: frozenset[str] = frozenset()
    """Members never taken from a gateway client, such as those that change who pays."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    renames: tuple[tuple[str, str], ...] = ()
    """Members that go by another name here."""
    asks_usage: bool = True
    """Whether `stream_options.include_usage` may be sent."""
    plain_turns: bool = False
    """Merge neighbours of one role and send text-only content as a string."""
    plain_messages: bool = False
    """Turn a client's `developer` into `system`, and lists of text parts into strings."""
    done_is_end: bool = False
    """Whether `[DONE]` may end a reply without a finish reason."""
    eof_is_end: bool = False
    """Whether the stream may end with neither a finish nor `[DONE]`."""
    finish_grace_s: float = 2.0
    """How long to wait for usage and `[DONE]` once a finish was seen."""
    keepalive_s: float = 15.0
    """Below what the server itself keeps an idle connection open."""
    max_body_bytes: int = 32 * 1024 * 1024
    id_header: bytes = b"x-request-id"
    auth: Literal["bearer", "x-api-key", "none"] = "bearer"
    headers: tuple[tuple[str, str], ...] = ()
    wordings: tuple[Wording, ...] = ()
    statuses: tuple[tuple[int, ErrorClass], ...] = ()
    """Statuses that mean something else here than elsewhere."""
    scope_of: Callable[[ErrorFacts, ErrorClass], HoldScope | None] | None = None
    """What a failure concerns, where this server says more than its class does."""
    refuses_images_loudly: bool = True
    """False where a picture the model cannot see is dropped without a word."""
