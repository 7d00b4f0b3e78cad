"""Sinks of the gateway: a stream of events, and an answer in one piece."""

from collections.abc import Iterable
from functools import lru_cache

from understudy.errors import RequestRefused
from understudy.gateway.accumulator import ReplyAccumulator
from understudy.gateway.client_connection import ClientConnection, Header
from understudy.gateway.responses import DONE, Envelope, Form
from understudy.llm.messages import Output, ReplyIdentity
from understudy.routing.records import AttemptRecord, Outcome
from understudy.routing.request import Answering, HeldSink, ReplyEnded, SinkKind

_LONGEST_HEADER = 256


class StreamSink:
    """Passes a reply on to a client as it comes."""

    kind = SinkKind.APPEND_ONLY

    def __init__(self, form: Form, connection: ClientConnection) -> None:
        self._form = form
        self._connection = connection
        self._envelope = Envelope(form, ReplyIdentity(), "")
        self._headers: list[Header] = []
        self._begun = False
        self._unsent: list[bytes] = []

    def is_visible(self) -> bool:
        return self._connection.opened

    def start(self, answering: Answering) -> None:
        self._envelope = Envelope(self._form, answering.identity, answering.model)
        self._headers = answered_by(answering.provider, answering.model, answering.tries)

    def write(self, output: Output) -> None:
        if not self._begun:
            self._begun = True
            self._unsent.append(self._envelope.role(output))
        self._unsent.append(self._envelope.events(output))

    def restart(self) -> None:
        """What was sent to a client cannot be replaced, so the router never calls this."""

    def attempt_ended(self, record: AttemptRecord) -> None:
        """The records of the attempts are not sent."""

    def try_flush(self) -> bool:
        if not self._connection.send_now(self._headers, self._unsent):
            return False
        self._unsent.clear()
        return True

    async def flush(self) -> None:
        data = b"".join(self._unsent)
        self._unsent.clear()
        await self._connection.open(self._headers)
        if data:
            await self._connection.write(data)

    async def end(self, end: ReplyEnded, refusal: RequestRefused | None) -> None:
        """Send the last events; `refusal` says why the reply is not complete."""
        envelope, usage = self._envelope, self._form.include_usage
        if refusal is None:
            last = envelope.last_events(end, include_usage=usage)
        else:
            last = envelope.broken(refusal)
            last += envelope.usage_event(end.record.usage) if usage else b""
        await self._connection.write(last + DONE, last=True)

    async def break_off(self, refusal: RequestRefused) -> None:
        """End a stream that the router has not ended."""
        await self._connection.write(self._envelope.broken(refusal) + DONE, last=True)


class AnswerSink(HeldSink):
    """Accumulates a reply for a client that does not stream."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._gathered = ReplyAccumulator()

    def write(self, output: Output) -> None:
        self._gathered.add(output)

    def answer(self, end: ReplyEnded) -> tuple[list[Header], bytes] | None:
        """Return headers and body; `None` where there is no complete reply."""
        winner = end.record.winner
        if winner is None or end.finish_reason is None:
            return None
        model = winner.model_served or winner.model_requested
        headers = answered_by(winner.provider, model, tries(end.record.attempts))
        envelope = Envelope(self._form, end.identity, model)
        return headers, envelope.whole(end, self._gathered)


def answered_by(provider: str, model: str, attempts: int) -> list[Header]:
    """Return the headers that name the answering server and the number of attempts."""
    return [
        (b"x-router-provider", _header_value(provider)),
        (b"x-router-model", _header_value(model)),
        (b"x-router-attempts", b"%d" % attempts),
    ]


def tries(attempts: Iterable[AttemptRecord]) -> int:
    """Count the attempts that were made, skips excluded."""
    return sum(attempt.outcome is not Outcome.SKIPPED for attempt in attempts)


@lru_cache(maxsize=1024)
def _header_value(name: str) -> bytes:
    """Return a name that a server may have chosen in a form that a header can hold."""
    if name.isascii() and name.isprintable() and len(name) <= _LONGEST_HEADER:
        return name.strip().encode()
    printable = "".join(c if " " <= c <= "~" else "?" for c in name[:_LONGEST_HEADER])
    return printable.strip().encode()
