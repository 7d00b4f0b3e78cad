"""Frames of one reply → chat events. No I/O; one parser belongs to one attempt."""

import re
from collections.abc import Callable

import msgspec

from understudy.errors import NOT_JSON, BadReply, ErrorClass, ProviderError
from understudy.llm import frames
from understudy.llm.choice_reader import ChoiceReader, chars_in, has_calls
from understudy.llm.client import Exchange, Phase
from understudy.llm.finish_reasons import FinishReason, read_finish_reason
from understudy.llm.lenient_frame import FrameRepair
from understudy.llm.messages import Finished, OtherDelta, Output, TextDelta, Usage
from understudy.llm.openai_wire import (
    ABSENT,
    DECODE_CHUNK,
    Choice,
    Chunk,
    Delta,
    money,
    present,
    usage_from_timings,
    usage_of,
)
from understudy.llm.sse import DONE, ERROR_EVENT
from understudy.llm.text_runs import TextRuns

_STREAMING = Phase.STREAMING
MAX_REPLY_CHARS = 2 * 1024 * 1024
_BAD_FRAMES_IN_A_ROW = 3

_NO_FRAMES = frozenset((b"null", b"[]"))
"""What some servers send while they have nothing to say."""
_NO_TIME: tuple[msgspec.Raw, ...] = (ABSENT, *map(msgspec.Raw, (b"null", b"0", b'""')))
_SAYS_ERROR = re.compile(rb"\[?error\b[\]:]", re.IGNORECASE)
"""An error that is no JSON, with or without the name of the event."""

Classify = Callable[[bytes], ProviderError]
"""Names the failure that a body within a 200 reports."""
Decode = Callable[[bytes], Chunk]
"""Turns one frame into a chunk; for an engine whose frames are not in OpenAI's shape."""
RepairUsage = Callable[[Usage, Chunk], Usage | None]
"""Corrects figures that this engine is known to invent; `None` is unknown."""


class StreamParser:
    """Collects one reply: feed all frames to `read_all`, then ask `end` for the close.

    Frames of nothing but text, a finish or the usage are read here. `TextRuns` reads those that
    differ from an earlier one in their text alone, and `ChoiceReader` what else a choice holds.
    """

    __slots__ = ("_bad_in_a_row", "_choices", "_classify", "_decode", "_done", "_finish_frame",
                 "_first_choices", "_fix", "_has_deltas", "_has_text", "_known_members",
                 "_repair", "_size", "_texts", "_usage_frame", "_whole", "closed", "exchange",
                 "failure", "finish", "is_blank")  # fmt: skip

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
        self.is_blank = True
        """Whether nothing was read."""
        self._classify, self._repair, self._decode = classify, repair, decode
        self.finish: FinishReason | None = None
        """Read so far; koboldcpp may send one early, so this is not the end."""
        self._finish_frame: bytes | None = None
        self._usage_frame: bytes | None = None
        self._size = self._bad_in_a_row = 0
        self._done = False
        self._whole = False
        """Whether the reply is complete because its JSON is: it came in one piece."""
        self._has_deltas = False
        self._fix: FrameRepair | None = None
        self._choices: ChoiceReader | None = None
        self._first_choices = 0
        """Frames whose choice had the index 0 or none."""
        self._known_members: tuple[object, ...] | None = None
        """Id, time, model and kind of a frame whose identity is the reply's."""
        self._has_text = False
        self._texts: TextRuns | None = None

    def read_all(self, payloads: list[bytes], comments: int = 0) -> list[Output]:
        """Return the events of all frames; `failure` is set by a frame that ends the reply.

        Text of frames that follow each other is one event.
        """
        if comments:
            self.exchange.keepalives += comments
        if payloads:
            self.is_blank = False
        events: list[Output] = []
        position, end = 0, len(payloads)
        try:
            while position < end:
                run = None if self._texts is None else self._texts.read(payloads, position)
                if run is None:
                    events += self.read(payloads[position])
                    position += 1
                    continue
                position += len(run.frames)
                self._first_choices += len(run.frames)
                self._bad_in_a_row = 0
                events.append(run)
                self._size += len(run.text)
                if self._size > MAX_REPLY_CHARS:
                    raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)
        except ProviderError as error:
            self.failure = error
        if events:
            self.exchange.phase = _STREAMING
        return events

    def read(self, payload: bytes) -> list[Output]:
        """Return the events of one frame.

        Raises the error that the frame carries, `bad_frame` for more than three undecodable
        frames in a row, and `response_too_large` past 2 MiB of text.
        """
        if not payload.isascii():
            payload = _as_utf_8(payload)
        if payload[:1] != b"{":
            return self._other_frame(payload)
        try:
            chunk = self._decode(payload)
        except NOT_JSON:
            return self._odd_frame(payload)
        self._bad_in_a_row = 0
        return self._events(chunk, payload)

    def read_whole(self, payload: bytes) -> list[Output]:
        """Return the events of a reply that is one JSON object; it needs no finish reason."""
        events = self.read(payload)
        self._whole = True
        return events

    def end(self, *, eof_is_end: bool, done_is_end: bool = False) -> Finished:
        """Close the reply. Raises `truncated_stream` where no finish was read."""
        reason = self.finish
        if reason is None:
            if not (eof_is_end or self._whole or (self._done and done_is_end)):
                raise BadReply(ErrorClass.TRUNCATED_STREAM)
            reason = "stop"
        if reason == "stop" and self._choices is not None and self._choices.calls.any:
            reason = "tool_calls"
        last: tuple[bytes, ...] = ()
        if self._finish_frame is not None:
            last = (self._finish_frame,)
        if self._usage_frame is not None:
            last = (*last, self._usage_frame)
        return Finished(reason, self.exchange.usage, last)

    def _events(self, chunk: Chunk, payload: bytes) -> list[Output]:
        if (chunk.id, chunk.created, chunk.model, chunk.object) != self._known_members:
            payload = self._identified(chunk, payload)
        usage = chunk.usage
        has_usage = usage is not ABSENT and present(usage)
        if has_usage or chunk.timings is not None or chunk.x_groq is not None:
            self._count(chunk, has_usage=has_usage)
        choices = chunk.choices
        if not choices or (chunk.error is not ABSENT and present(chunk.error)):
            return self._without_choices(chunk, payload, has_usage=has_usage)
        choice = choices[0]
        delta, word = choice.delta, choice.finish_reason
        if (
            delta is None
            or has_usage
            or len(choices) > 1
            or choice.index != 0
            or choice.error is not ABSENT
            or not _is_only_text(delta)
        ):
            return self._odd_choice(chunk, choice, payload)
        if word is None:
            return self._text_events(delta.content, payload)
        if delta.content or word == "error" or self._choices is not None:
            return self._odd_choice(chunk, choice, payload)
        reason = read_finish_reason(word)
        if reason is None:
            return self._odd_choice(chunk, choice, payload)
        self.finish = reason
        self._has_deltas = True
        self._first_choices += 1
        self._finish_frame = payload if usage is ABSENT else frames.without_usage(payload)
        return []

    def _text_events(self, text: object, payload: bytes) -> list[Output]:
        """Read a frame of nothing but text, or of nothing."""
        self._first_choices += 1
        self._has_deltas = True
        if not (isinstance(text, str) and text):
            self.exchange.keepalives += 1
            return [OtherDelta((payload,))]
        self._grow(len(text))
        if self._texts is not None:
            self._texts.learn(payload, text)
        elif self._has_text:  # many a reply has only one frame of text
            self._texts = TextRuns()
            self._texts.learn(payload, text)
        self._has_text = True
        return [TextDelta(text, (payload,))]

    def _odd_choice(self, chunk: Chunk, choice: Choice, payload: bytes) -> list[Output]:
        if choice.finish_reason == "error" or (
            choice.error is not ABSENT and present(choice.error)
        ):
            raise self._classify(payload)
        if not choice.index:
            self._first_choices += 1
        elif self._first_choices > 1:
            # It was not requested; some servers count the frames instead.
            return []
        delta = choice.delta
        if delta is not None:
            self._has_deltas = True
            if choice.index != 0:
                payload = frames.with_choice_index(payload)
            if delta.function_call is not None and not delta.function_call:
                payload = frames.without_calls(payload)
        if self._has_deltas:
            choice.message = None  # it repeats all deltas before it
        return self._choice_events(chunk, choice, payload)

    def _choice_events(self, chunk: Chunk, choice: Choice, payload: bytes) -> list[Output]:
        if self._choices is None:
            self._choices = ChoiceReader()
        ends = choice.finish_reason is not None and self._read_finish(choice)
        outputs = self._choices.outputs(choice, ends=ends or choice.message is not None)
        self._grow(sum(map(chars_in, outputs)))
        if not (ends or outputs):
            self.exchange.keepalives += 1
        if choice.delta is None and choice.message is None:
            return outputs
        if ends or (chunk.usage is not ABSENT and present(chunk.usage)):
            return self._last(outputs, chunk, payload, ends=ends)
        if choice.finish_reason is not None:  # a word that ends nothing
            payload = frames.with_finish(payload, None)
        simple = len(chunk.choices or ()) == 1 and choice.message is None
        return self._choices.framed(outputs, choice, payload, simple=simple)

    def _read_finish(self, choice: Choice) -> bool:
        reason = read_finish_reason(choice.finish_reason)
        if reason is not None:
            self.finish = reason
        return reason is not None

    def _last(
        self, outputs: list[Output], chunk: Chunk, payload: bytes, *, ends: bool
    ) -> list[Output]:
        """Keep the finish and the usage of a frame for the end; pass on what else it holds."""
        assert self._choices is not None
        choice = (chunk.choices or [Choice()])[0]
        if present(chunk.usage):
            self._usage_frame = frames.usage_frame(payload)
        bare = choice.message is None and not has_calls(choice)
        if ends and not outputs and bare and not frames.has_media(payload):
            self._finish_frame = frames.without_usage(payload)
            return []
        if ends:
            self._finish_frame = frames.finish_frame(payload)
        return self._choices.framed(outputs, choice, payload, simple=False)

    def _grow(self, chars: int) -> None:
        self._size += chars
        if self._size > MAX_REPLY_CHARS:
            raise BadReply(ErrorClass.RESPONSE_TOO_LARGE)

    def _without_choices(self, chunk: Chunk, payload: bytes, *, has_usage: bool) -> list[Output]:
        error, detail, message = chunk.error, chunk.detail, chunk.message
        if (
            (error is not ABSENT and present(error))
            or (detail is not ABSENT and present(detail))
            or (message is not ABSENT and chunk.choices is None and present(message))
            or chunk.object == "error"
        ):
            raise self._classify(payload)
        if has_usage or chunk.timings is not None:
            self._usage_frame = payload
            return []
        self.exchange.keepalives += 1
        rest = frames.without_text(payload) if chunk.choices is not None else None
        return [] if rest is None else [OtherDelta((payload,))]

    def _identified(self, chunk: Chunk, payload: bytes) -> bytes:
        """Return the frame with the id, time and model that came first; empty ones do not count."""
        identity = self.exchange.identity
        created = None if chunk.created in _NO_TIME else bytes(chunk.created)
        own_id, model, kind = chunk.id or None, chunk.model or None, _kind_of(chunk) or None
        found = (own_id, created, model, kind)
        if identity.id is None:
            identity.id = own_id
            if self.exchange.upstream_id is None and own_id:
                self.exchange.upstream_id = str(own_id)
        if identity.created is None:
            identity.created = created
        if identity.model is None:
            identity.model = self.exchange.model_served = model
        if identity.kind is None and chunk.object:
            identity.kind = chunk.object if chunk.object == frames.COMPLETION else frames.CHUNK
        if found != (identity.id, identity.created, identity.model, identity.kind):
            return frames.with_identity(payload, identity) if chunk.choices else payload
        if kind == chunk.object:
            self._known_members = (chunk.id, chunk.created, chunk.model, chunk.object)
        return payload

    def _count(self, chunk: Chunk, *, has_usage: bool) -> None:
        usage = usage_of(chunk.usage) if has_usage else None
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

    def _other_frame(self, payload: bytes) -> list[Output]:
        """Read a frame that is no JSON object."""
        if payload == DONE:
            self._done = self.closed = True
            return []
        if payload in _NO_FRAMES:
            self.exchange.keepalives += 1
            return []
        if _SAYS_ERROR.match(payload):
            raise self._classify(payload.removeprefix(ERROR_EVENT))
        return self._odd_frame(payload)

    def _odd_frame(self, payload: bytes) -> list[Output]:
        """Read what the strict decoder refused. Raises what a frame of nothing but text says."""
        if payload[:1] == b'"' and payload[-1:] == b'"':
            raise self._classify(payload)
        if self._fix is None:
            self._fix = FrameRepair()
        repaired = self._fix.repair(payload)
        self.exchange.bad_members += self._fix.dropped
        self._fix.dropped = 0
        try:
            chunk = self._decode(payload if repaired is None else repaired)
        except NOT_JSON:
            return self._bad_frame()
        self._bad_in_a_row = 0
        return self._events(chunk, repaired or payload)

    def _bad_frame(self) -> list[Output]:
        self.exchange.bad_frames += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row > _BAD_FRAMES_IN_A_ROW:
            raise BadReply(ErrorClass.BAD_FRAME)
        return []


def _as_utf_8(payload: bytes) -> bytes:
    """Replace broken letters, also those in members that are passed on unread."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        return payload.decode("utf-8", "replace").encode()
    return payload


def _is_only_text(delta: Delta) -> bool:
    """Whether a delta holds only text, or nothing, as nearly all do."""
    return not (
        delta.reasoning
        or delta.reasoning_content
        or delta.reasoning_details
        or delta.refusal
        or delta.tool_calls
        or delta.function_call is not None
        or delta.images is not ABSENT
        or delta.audio is not ABSENT
        or type(delta.content) is list
    )


def _kind_of(chunk: Chunk) -> str | None:
    """Return what a frame calls itself; an answer in one piece is turned into a frame later."""
    whole = chunk.choices and chunk.choices[0].delta is None
    return frames.CHUNK if whole and chunk.object == "chat.completion" else chunk.object
