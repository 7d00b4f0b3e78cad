"""Frames of one reply → chat events. No I/O; one parser belongs to one attempt."""

import re
from collections.abc import Callable

import msgspec

from understudy.errors import NOT_JSON, BadReply, ErrorClass, ProviderError
from understudy.llm import frames
from understudy.llm.client import Exchange, Phase
from understudy.llm.finish_reasons import FinishReason, read_finish_reason
from understudy.llm.lenient_frame import FrameRepair
from understudy.llm.messages import (
    ChatEvent,
    Finished,
    OtherDelta,
    Output,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from understudy.llm.openai_wire import (
    ABSENT,
    DECODE_CHUNK,
    Choice,
    Chunk,
    Delta,
    ToolCallPiece,
    content_text,
    is_only_text,
    money,
    present,
    reasoning_text,
    usage_from_timings,
    usage_of,
)
from understudy.llm.sse import DONE, ERROR_EVENT
from understudy.llm.text_borders import TextBorders
from understudy.llm.tool_calls import ToolCallAssembler

MAX_REPLY_CHARS = 2 * 1024 * 1024
_BAD_FRAMES_IN_A_ROW = 3

_NO_FRAMES = frozenset((b"null", b"[]", b"{}"))
"""What some servers send while they have nothing to say."""
_SAYS_ERROR = re.compile(rb"\[?error\b[\]:]", re.IGNORECASE)
"""An error that is no JSON, with or without the name of the event."""
_NO_POSITION = 1_000_000

_decode_text = msgspec.json.Decoder(str).decode

Classify = Callable[[bytes], ProviderError]
"""Names the failure that a body within a 200 reports."""
Decode = Callable[[bytes], Chunk]
"""Turns one frame into a chunk; for an engine whose frames are not in OpenAI's shape."""
RepairUsage = Callable[[Usage, Chunk], Usage | None]
"""Corrects figures that this engine is known to invent; `None` is unknown."""


class StreamParser:
    """Collects one reply: feed all frames to `read_all`, then ask `end` for the close.

    Nearly all frames of a reply differ in their text alone. Once one of them was read in full,
    its likes are recognised by what surrounds the text, and only the text is decoded.
    """

    __slots__ = (
        "_bad_in_a_row",
        "_blank",
        "_borders",
        "_calls",
        "_classify",
        "_decode",
        "_done",
        "_finish",
        "_finish_frame",
        "_first_choices",
        "_fix",
        "_has_deltas",
        "_indexes",
        "_positions",
        "_repair",
        "_size",
        "_usage_frame",
        "_whole",
        "closed",
        "exchange",
        "failure",
    )

    def __init__(
        self,
        exchange: Exchange,
        classify: Classify,
        repair: RepairUsage | None = None,
        decode: Decode = DECODE_CHUNK,
    ) -> None:
        self.exchange = exchange
        self.failure: ProviderError | None = None
        """What a frame reported, or was; the events before it are valid."""
        self.closed = False
        """Whether `[DONE]` was read: nothing more is to be read."""
        self._classify, self._repair, self._decode = classify, repair, decode
        self._finish: FinishReason | None = None
        self._finish_frame: bytes | None = None
        self._usage_frame: bytes | None = None
        self._size = self._bad_in_a_row = 0
        self._blank, self._done = True, False
        self._whole = False
        """Whether the reply is complete because its JSON is: it came in one piece."""
        self._has_deltas = False
        self._fix = FrameRepair()
        self._calls = ToolCallAssembler()
        self._indexes: list[int | None] = []
        """Of the latest frame: which of the reply's calls its pieces belong to."""
        self._positions: list[int] = []
        """Of the latest frame: which of its tool calls the outputs are, in their order."""
        self._first_choices = 0
        """Frames whose choice had the index 0 or none."""
        self._borders = TextBorders()

    @property
    def finished(self) -> bool:
        """Whether a finish was read; koboldcpp may send one early, so this is not the end."""
        return self._finish is not None

    @property
    def is_blank(self) -> bool:
        """Whether nothing was read."""
        return self._blank

    def read_all(self, payloads: list[bytes], comments: int = 0) -> list[ChatEvent]:
        """Return the events of all frames; `failure` is set by a frame that ends the reply.

        Text of frames that follow each other is one event.
        """
        self.exchange.keepalives += comments
        self._blank = self._blank and not payloads
        events: list[ChatEvent] = []
        texts: list[str] = []
        start = 0
        try:
            for number, payload in enumerate(payloads):
                text = self._plain_text(payload)
                if text:
                    if not texts:
                        start = number
                    texts.append(text)
                    continue
                if texts:
                    events.append(_run(texts, payloads[start:number]))
                    texts = []
                events += self.read(payload)
        except ProviderError as error:
            self.failure = error
        if texts:
            events.append(_run(texts, payloads[start : start + len(texts)]))
        if events:
            self.exchange.phase = Phase.STREAMING
        return events

    def read(self, payload: bytes) -> list[ChatEvent]:
        """Return the events of one frame.

        Raises the error that the frame carries, `bad_frame` for more than three undecodable
        frames in a row, and `response_too_large` past 2 MiB of text.
        """
        if payload == DONE:
            self._done = self.closed = True
            return []
        if payload in _NO_FRAMES:
            self.exchange.keepalives += 1
            return []
        if _SAYS_ERROR.match(payload):
            raise self._classify(payload.removeprefix(ERROR_EVENT))
        try:
            chunk = self._decode(payload)
        except NOT_JSON:
            return self._odd_frame(payload)
        self._bad_in_a_row = 0
        return self._events(chunk, payload)

    def read_whole(self, payload: bytes) -> list[ChatEvent]:
        """Return the events of a reply that is one JSON object; it needs no finish reason."""
        events = self.read(payload)
        self._whole = True
        return events

    def end(self, *, eof_is_end: bool, done_is_end: bool = False) -> Finished:
        """Close the reply. Raises `truncated_stream` where no finish was read."""
        ended = eof_is_end or self._whole or (self._done and done_is_end)
        if self._finish is None and not ended:
            raise BadReply(ErrorClass.TRUNCATED_STREAM)
        reason: FinishReason = self._finish or "stop"
        if reason == "stop" and self._calls.any:
            reason = "tool_calls"
        last = (self._finish_frame, self._usage_frame)
        return Finished(
            reason,
            self.exchange.usage,
            tuple(frame for frame in last if frame is not None),
        )

    def _plain_text(self, payload: bytes) -> str:
        """Return the text of a frame with the known borders, which is not empty; else nothing."""
        borders = self._borders
        if borders.waiting:
            borders.compare(payload)
        head, tail = borders.head, borders.tail
        if not (
            head
            and payload.startswith(head)
            and payload.endswith(tail)
            and len(payload) > len(head) + len(tail)
        ):
            return ""
        try:
            text = _decode_text(memoryview(payload)[len(head) - 1 : len(payload) - len(tail) + 1])
        except NOT_JSON:
            return ""
        self._grow(len(text))
        self._bad_in_a_row = 0
        return text

    def _events(self, chunk: Chunk, payload: bytes) -> list[ChatEvent]:
        payload = self._identified(chunk, payload)
        self._count(chunk)
        if not chunk.choices or (chunk.error is not ABSENT and present(chunk.error)):
            return self._without_choices(chunk, payload)
        choice = chunk.choices[0]
        if choice.finish_reason == "error" or (
            choice.error is not ABSENT and present(choice.error)
        ):
            raise self._classify(payload)
        if self._is_other_choice(choice):
            return []
        delta = choice.delta
        if choice.index != 0 and delta is not None:
            payload = frames.with_choice_index(payload)
        if delta is not None and delta.function_call is not None and not delta.function_call:
            payload = frames.without_calls(payload)
        self._drop_repeated(choice)
        return self._choice_events(chunk, choice, payload)

    def _choice_events(self, chunk: Chunk, choice: Choice, payload: bytes) -> list[ChatEvent]:
        ends = choice.finish_reason is not None and self._read_finish(choice)
        outputs = self._outputs(choice, ends=ends or choice.message is not None)
        if not (ends or outputs):
            self.exchange.keepalives += 1
        if choice.delta is None and choice.message is None:
            return list(outputs)
        if ends or (chunk.usage is not ABSENT and present(chunk.usage)):
            return self._last(outputs, chunk, payload, ends=ends)
        if choice.finish_reason is not None:  # a word that ends nothing
            payload = frames.with_finish(payload, None)
        simple = len(chunk.choices or ()) == 1 and choice.message is None
        return self._framed(outputs, choice, payload, simple=simple)

    def _is_other_choice(self, choice: Choice) -> bool:
        """Whether it was not requested; some servers count the frames instead."""
        if not choice.index:
            self._first_choices += 1
        return bool(choice.index) and self._first_choices > 1

    def _drop_repeated(self, choice: Choice) -> None:
        """Drop a message that repeats all deltas before it."""
        if choice.delta is not None:
            self._has_deltas = True
        if self._has_deltas:
            choice.message = None

    def _read_finish(self, choice: Choice) -> bool:
        reason = read_finish_reason(choice.finish_reason)
        if reason is not None:
            self._finish = reason
        return reason is not None

    def _last(
        self, outputs: list[Output], chunk: Chunk, payload: bytes, *, ends: bool
    ) -> list[ChatEvent]:
        """Keep the finish and the usage of a frame for the end; pass on what else it holds."""
        choice = (chunk.choices or [Choice()])[0]
        if present(chunk.usage):
            self._usage_frame = frames.usage_frame(payload)
        bare = choice.message is None and not _has_calls(choice)
        if ends and not outputs and bare and not frames.has_media(payload):
            self._finish_frame = frames.without_usage(payload)
            return []
        if ends:
            self._finish_frame = frames.finish_frame(payload)
        return self._framed(outputs, choice, payload, simple=False)

    def _framed(
        self, outputs: list[Output], choice: Choice, payload: bytes, *, simple: bool
    ) -> list[ChatEvent]:
        """Add to each output the frame that clients get for it."""
        if not outputs:
            if _has_calls(choice):
                payload, simple = frames.without_calls(payload, self._indexes), False
            rest = payload if simple else frames.rest_frame(payload)
            if rest is None:
                return []
            return [OtherDelta((rest,), frames.has_media(rest))]
        delta = choice.delta
        if simple and len(outputs) == 1 and delta is not None and type(delta.content) is not list:
            output = outputs[0]
            if isinstance(output, TextDelta):
                if choice.finish_reason is None and is_only_text(delta):
                    self._borders.learn(payload, output.text)
                return [TextDelta(output.text, (payload,))]
            if isinstance(output, ReasoningDelta):
                return [ReasoningDelta(output.text, (payload,))]
        return list(frames.divide(payload, outputs, self._positions))

    def _outputs(self, choice: Choice, *, ends: bool) -> list[Output]:
        self._positions = []
        outputs = self._delta_outputs(choice.delta or choice.message, choice.text)
        if ends:
            late = self._calls.rest()
            self._positions += [_NO_POSITION] * len(late)
            outputs += late
        return outputs

    def _delta_outputs(self, delta: Delta | None, bare_text: str | None) -> list[Output]:
        if delta is None:
            return self._text(bare_text)
        if is_only_text(delta):
            return self._text(content_text(delta.content))
        outputs: list[Output] = []
        if reasoning := reasoning_text(delta):
            outputs.append(ReasoningDelta(reasoning))
            self._grow(len(reasoning))
        outputs += self._text(content_text(delta.content) or delta.refusal)
        outputs += self._tool_calls(delta)
        return outputs

    def _text(self, text: str | None) -> list[Output]:
        if not text:
            return []
        self._grow(len(text))
        return [TextDelta(text)]

    def _tool_calls(self, delta: Delta) -> list[ToolCallDelta]:
        pieces = list(delta.tool_calls or ())
        if not pieces and delta.function_call is not None:
            pieces = [ToolCallPiece(index=0, function=delta.function_call)]
        outputs: list[ToolCallDelta] = []
        self._indexes = []
        for position, piece in enumerate(pieces):
            output = self._calls.add(piece, position, several=len(pieces) > 1)
            self._indexes.append(self._calls.latest)
            if output is not None:
                self._grow(len(output.arguments))
                self._positions.append(position)
                outputs.append(output)
        return outputs

    def _grow(self, chars: int) -> None:
        self._size += chars
        if self._size > MAX_REPLY_CHARS:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)

    def _without_choices(self, chunk: Chunk, payload: bytes) -> list[ChatEvent]:
        bare = chunk.choices is None and present(chunk.message)
        if present(chunk.error) or present(chunk.detail) or chunk.object == "error" or bare:
            raise self._classify(payload)
        if present(chunk.usage) or chunk.timings is not None:
            self._usage_frame = payload
            return []
        self.exchange.keepalives += 1
        rest = frames.without_text(payload) if chunk.choices is not None else None
        return [] if rest is None else [OtherDelta((payload,))]

    def _identified(self, chunk: Chunk, payload: bytes) -> bytes:
        """Return the frame with the id, time and model of the reply's first one."""
        identity = self.exchange.identity
        created = None if chunk.created is ABSENT else bytes(chunk.created)
        model, kind = chunk.model or None, _kind_of(chunk)
        found = (chunk.id, created, model, kind)
        if found == (identity.id, identity.created, identity.model, identity.kind):
            return payload
        if identity.id is None:
            identity.id = chunk.id
            if self.exchange.upstream_id is None and chunk.id:
                self.exchange.upstream_id = str(chunk.id)
        if identity.created is None:
            identity.created = created
        if identity.model is None:
            identity.model = self.exchange.model_served = model
        if identity.kind is None and chunk.object is not None:
            identity.kind = chunk.object if chunk.object == frames.COMPLETION else frames.CHUNK
        same = found == (identity.id, identity.created, identity.model, identity.kind)
        return payload if same or not chunk.choices else frames.with_identity(payload, identity)

    def _count(self, chunk: Chunk) -> None:
        if chunk.timings is None and chunk.x_groq is None and not present(chunk.usage):
            return
        usage = usage_of(chunk.usage)
        if usage is None and chunk.x_groq is not None:
            usage = usage_of(chunk.x_groq.usage)
        if usage is None and chunk.timings is not None and self.exchange.usage is None:
            usage = usage_from_timings(chunk.timings)
        if usage is not None and chunk.x_nanogpt_pricing is not None:
            pricing = chunk.x_nanogpt_pricing
            usage = msgspec.structs.replace(usage, cost_usd=money(pricing.cost or pricing.amount))
        if usage is not None and self._repair is not None:
            usage = self._repair(usage, chunk)
        if usage is not None:
            self.exchange.usage = usage

    def _odd_frame(self, payload: bytes) -> list[ChatEvent]:
        """Read what the strict decoder refused. Raises what a frame of nothing but text says."""
        if payload[:1] == b'"' and payload[-1:] == b'"':
            raise self._classify(payload)
        repaired = self._fix.repair(payload)
        self.exchange.bad_members += self._fix.dropped
        self._fix.dropped = 0
        try:
            chunk = self._decode(payload if repaired is None else repaired)
        except NOT_JSON:
            return self._bad_frame(payload)
        self._bad_in_a_row = 0
        return self._events(chunk, repaired or payload)

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


def _kind_of(chunk: Chunk) -> str | None:
    """Return what a frame calls itself; an answer in one piece is turned into a frame later."""
    whole = chunk.choices and chunk.choices[0].delta is None
    return frames.CHUNK if whole and chunk.object == "chat.completion" else chunk.object


def _run(texts: list[str], payloads: list[bytes]) -> TextDelta:
    return TextDelta("".join(texts), tuple(payloads), plain=True)


def _has_calls(choice: Choice) -> bool:
    delta = choice.delta
    return delta is not None and bool(delta.tool_calls or delta.function_call)
