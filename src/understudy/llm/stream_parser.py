"""Frames of one reply → chat events. No I/O; one reader belongs to one attempt."""

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby

from understudy.errors import NOT_JSON, BadReply, ErrorClass, ProviderError
from understudy.llm.client import Exchange, Phase
from understudy.llm.finish_reasons import FinishReason, read_finish_reason
from understudy.llm.messages import (
    ChatEvent,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from understudy.llm.openai_wire import (
    DECODE_CHUNK,
    Choice,
    Chunk,
    ToolCallPiece,
    is_only_text,
    logprobs_of,
    money,
    present,
    spoken,
    thought,
    usage_from_timings,
    usage_of,
)
from understudy.llm.sse import DONE

MAX_REPLY_CHARS = 2 * 1024 * 1024
_BAD_FRAMES_IN_A_ROW = 3

Output = TextDelta | ReasoningDelta | ToolCallDelta

Classify = Callable[[bytes], ProviderError]
"""Names the failure that a body within a 200 speaks of."""
Decode = Callable[[bytes], Chunk]
"""Turns one frame into a chunk; for an engine whose frames are not in OpenAI's shape."""
RepairUsage = Callable[[Usage, Chunk], Usage | None]
"""Corrects figures that this engine is known to invent; `None` is unknown."""


class StreamParser:
    """Collects one reply; `read` each frame, then ask `end` for the close."""

    __slots__ = (
        "_bad_in_a_row",
        "_classify",
        "_decode",
        "_done",
        "_failure",
        "_finish",
        "_repair",
        "_size",
        "_tools",
        "closed",
        "exchange",
    )

    def __init__(
        self,
        exchange: Exchange,
        classify: Classify,
        repair: RepairUsage | None = None,
        decode: Decode = DECODE_CHUNK,
    ) -> None:
        self.exchange = exchange
        self._classify = classify
        self._repair = repair
        self._decode = decode
        self._finish: FinishReason | None = None
        self._size = 0
        self._bad_in_a_row = 0
        self._tools = False
        self._done = False
        self._failure: ProviderError | None = None
        self.closed = False
        """Whether nothing more is to be read: `[DONE]` was seen, or the body is at its end."""

    @property
    def finished(self) -> bool:
        """Whether a finish was seen; koboldcpp may send one early, so this is not the end."""
        return self._finish is not None

    def read_all(self, payloads: list[bytes], comments: int) -> list[ChatEvent]:
        """Return the events of all frames; a failure among them waits for `raise_failure`.

        Text that came in one go is one event, in however many frames it came.
        """
        self.exchange.keepalives += comments
        events: list[ChatEvent] = []
        try:
            for payload in payloads:
                events += self.read(payload)
        except ProviderError as error:
            self._failure = error
        if events:
            self.exchange.phase = Phase.STREAMING
        return events if len(events) < 2 else _joined(events)

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def read(self, payload: bytes) -> list[ChatEvent]:
        """Return the events of one frame.

        Raises the error that the frame carries, `bad_frame` for more than three undecodable
        frames in a row, and `response_too_large` past 2 MiB of text.
        """
        if payload == DONE:
            self._done = self.closed = True
            return []
        try:
            chunk = self._decode(payload)
        except NOT_JSON:
            return self._bad_frame(payload)
        self._bad_in_a_row = 0
        return self._events(chunk, payload)

    def end(self, *, eof_is_end: bool) -> Finished:
        """Close the reply. Raises `truncated_stream` where no finish was seen."""
        if self._finish is None and not (self._done or eof_is_end):
            raise BadReply(ErrorClass.TRUNCATED_STREAM)
        reason: FinishReason = "tool_calls" if self._tools else "stop"
        return Finished(self._finish or reason, self.exchange.usage)

    def _events(self, chunk: Chunk, payload: bytes) -> list[ChatEvent]:
        if self.exchange.model_served is None:
            self._identify(chunk)
        tells_usage = present(chunk.usage) or chunk.timings is not None
        if tells_usage or chunk.x_groq is not None:
            self._count(chunk)
        if present(chunk.error) or not chunk.choices:
            return self._without_output(chunk, payload)
        choice = chunk.choices[0]
        if choice.finish_reason == "error" or present(choice.error):
            raise self._classify(payload)
        if choice.index:  # of several choices the first counts
            return []
        reason = read_finish_reason(choice.finish_reason)
        unchanged = not tells_usage and choice.finish_reason is None and len(chunk.choices) == 1
        events = self._said(choice, (payload,) if unchanged and choice.delta is not None else ())
        if reason is not None:
            self._finish = reason
        elif not events:
            self.exchange.keepalives += 1
        return events

    def _said(self, choice: Choice, raw: tuple[bytes, ...]) -> list[ChatEvent]:
        delta = choice.delta or choice.message
        if delta is None:
            return self._text(choice, choice.text, raw)
        if is_only_text(delta):
            return self._text(choice, spoken(delta.content), raw)
        events: list[Output] = []
        if reasoning := thought(delta):
            events.append(ReasoningDelta(reasoning, raw))
        if text := spoken(delta.content) or delta.refusal:
            events.append(TextDelta(text, raw, logprobs_of(choice)))
        if delta.tool_calls:
            events += self._calls(delta.tool_calls, raw)
        for event in events:
            self._grow(len(event.arguments if isinstance(event, ToolCallDelta) else event.text))
        if len(events) > 1:  # a frame can be forwarded only where it holds one thing
            return [replace(event, raw=()) for event in events]
        return list(events)

    def _text(self, choice: Choice, text: str | None, raw: tuple[bytes, ...]) -> list[ChatEvent]:
        if not text:
            return []
        self._grow(len(text))
        return [TextDelta(text, raw, logprobs_of(choice))]

    def _calls(self, calls: list[ToolCallPiece], raw: tuple[bytes, ...]) -> list[Output]:
        self._tools = True
        return [
            ToolCallDelta(
                position if call.index is None else call.index,
                call.id,
                call.function.name if call.function else None,
                (call.function.arguments if call.function else None) or "",
                raw,
            )
            for position, call in enumerate(calls)
        ]

    def _grow(self, chars: int) -> None:
        self._size += chars
        if self._size > MAX_REPLY_CHARS:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)

    def _without_output(self, chunk: Chunk, payload: bytes) -> list[ChatEvent]:
        if present(chunk.error) or present(chunk.detail) or chunk.object == "error":
            raise self._classify(payload)
        if not present(chunk.usage):
            self.exchange.keepalives += 1
        return []

    def _identify(self, chunk: Chunk) -> None:
        self.exchange.model_served = chunk.model or None
        if self.exchange.upstream_id is None and chunk.id:
            self.exchange.upstream_id = str(chunk.id)

    def _count(self, chunk: Chunk) -> None:
        usage = usage_of(chunk.x_groq.usage if chunk.x_groq else chunk.usage)
        if usage is None and chunk.timings is not None and self.exchange.usage is None:
            usage = usage_from_timings(chunk.timings)
        if usage is not None and chunk.x_nanogpt_pricing is not None:
            pricing = chunk.x_nanogpt_pricing
            usage = replace(usage, cost_usd=money(pricing.cost or pricing.amount))
        if usage is not None and self._repair is not None:
            usage = self._repair(usage, chunk)
        if usage is not None:
            self.exchange.usage = usage

    def _bad_frame(self, payload: bytes) -> list[ChatEvent]:
        try:
            payload.decode()
        except UnicodeDecodeError:
            return self.read(payload.decode("utf-8", "replace").encode())
        self.exchange.bad_frames += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row > _BAD_FRAMES_IN_A_ROW:
            raise BadReply(ErrorClass.BAD_FRAME)
        return []


def _joined(events: list[ChatEvent]) -> list[ChatEvent]:
    joined: list[ChatEvent] = []
    for is_text, alike in groupby(events, _is_text_in_frames):
        if is_text:
            pieces = [event for event in alike if isinstance(event, TextDelta)]
            text = "".join(piece.text for piece in pieces)
            raw = tuple(frame for piece in pieces for frame in piece.raw)
            logprobs = tuple(told for piece in pieces for told in piece.logprobs)
            joined.append(TextDelta(text, raw, logprobs))
        else:
            joined += alike
    return joined


def _is_text_in_frames(event: ChatEvent) -> bool:
    return isinstance(event, TextDelta) and bool(event.raw)
