"""Router events → one client's answer, in one piece or as a stream."""

from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

from understudy.errors import RequestRefused
from understudy.gateway.client_connection import ClientConnection, Header
from understudy.gateway.responses import DONE, CompletionEnvelope, Envelope, Output
from understudy.llm.messages import ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.records import AttemptRecord, Outcome
from understudy.routing.request import Answering, AttemptEnded, ReplyEnded, RouterEvent

Events = AsyncGenerator[RouterEvent, None]
Why = Callable[[ReplyEnded], RequestRefused]
"""Puts a reply that never came, or broke off, into words for the client."""
_OUTPUT = (TextDelta, ReasoningDelta, ToolCallDelta)


@dataclass(frozen=True, slots=True)
class Form:
    """How the answer to one request is to look."""

    id: str
    created: int
    include_usage: bool
    raw_completion: bool = False
    """A text that goes on from a prompt, rather than a message."""

    def envelope(self, model: str) -> Envelope | CompletionEnvelope:
        if self.raw_completion:
            return CompletionEnvelope(f"cmpl-{self.id}", self.created, model)
        return Envelope(f"chatcmpl-{self.id}", self.created, model)


_LONGEST_HEADER = 256


def _in_header(name: str) -> bytes:
    """A name that a model's server may have chosen, as a header's value can hold it."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in name[:_LONGEST_HEADER])
    return printable.strip().encode()


def answered_by(provider: str, model: str, attempts: int) -> list[Header]:
    """The headers that tell who answered, and at which try."""
    return [
        (b"x-router-provider", _in_header(provider)),
        (b"x-router-model", _in_header(model)),
        (b"x-router-attempts", b"%d" % attempts),
    ]


def tries(attempts: Iterable[AttemptRecord]) -> int:
    """How many candidates were really asked."""
    return sum(attempt.outcome is not Outcome.SKIPPED for attempt in attempts)


async def collect(events: Events) -> tuple[list[Output], ReplyEnded]:
    """Read a held reply to its end."""
    outputs: list[Output] = []
    async for event in events:
        if isinstance(event, _OUTPUT):
            outputs.append(event)
        elif isinstance(event, ReplyEnded):
            return outputs, event
    raise AssertionError("the router ends every reply with ReplyEnded")


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece."""

    headers: list[Header]
    body: bytes


def whole(form: Form, outputs: list[Output], end: ReplyEnded) -> Whole | None:
    """The answer in one piece; `None` where there is no whole reply."""
    winner = end.record.winner
    if winner is None or end.finish_reason is None:
        return None
    model = winner.model_served or winner.model_requested
    return Whole(
        answered_by(winner.provider, model, tries(end.record.attempts)),
        form.envelope(model).whole(end.text, outputs, end.finish_reason, winner.usage),
    )


async def stream(events: Events, form: Form, line: ClientConnection, why: Why) -> ReplyEnded:
    """Pass a reply on as it comes. Where nothing was sent at all, the caller tells why."""
    envelope = form.envelope("")
    tried = 1
    prefix = b""
    async for event in events:
        if isinstance(event, _OUTPUT):
            frame = envelope.output(event)
            await line.write(prefix + frame if prefix else frame)
            prefix = b""
        elif isinstance(event, Answering):
            envelope = form.envelope(event.model)
            prefix = envelope.role()
            await line.open(answered_by(event.provider, event.model, tried))
        elif isinstance(event, AttemptEnded):
            tried += event.record.outcome is not Outcome.SKIPPED
        elif isinstance(event, ReplyEnded):
            if line.opened:
                await line.write(_last_frames(envelope, form, event, why), last=True)
            return event
    raise AssertionError("the router ends every reply with ReplyEnded")


def _last_frames(
    envelope: Envelope | CompletionEnvelope, form: Form, end: ReplyEnded, why: Why
) -> bytes:
    if end.finish_reason is None:
        last = envelope.broken(why(end))
    else:
        last = envelope.finish(end.finish_reason)
    teller = end.record.winner or end.record
    usage = envelope.usage(teller.usage) if form.include_usage else b""
    return last + usage + DONE
