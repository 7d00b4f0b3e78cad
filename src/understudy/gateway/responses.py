"""What a client reads: OpenAI's shapes of answers, stream chunks and errors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from understudy.errors import NOT_JSON, RequestRefused
from understudy.llm.messages import ReasoningDelta, TextDelta, ToolCallDelta, Usage

Logprobs = dict[str, object]
_decode = msgspec.json.Decoder(Logprobs).decode


def logprobs_of(outputs: Sequence[TextDelta | ReasoningDelta | ToolCallDelta]) -> Logprobs | None:
    """Join what came piece by piece, list by list: a chat's `content`, a bare text's `tokens`,
    `token_logprobs` and so on. What is in no such shape is left out."""
    joined: dict[str, list[object]] = {}
    for told in _told(outputs):
        for name, values in told.items():
            if isinstance(values, list):
                joined.setdefault(name, []).extend(values)
    return dict(joined) or None


def _told(outputs: Iterable[TextDelta | ReasoningDelta | ToolCallDelta]) -> Iterable[Logprobs]:
    for output in outputs:
        if isinstance(output, TextDelta):
            for piece in output.logprobs:
                try:
                    yield _decode(piece)
                except NOT_JSON:
                    continue


Output = TextDelta | ReasoningDelta | ToolCallDelta

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
_encode = msgspec.json.encode


class _Function(msgspec.Struct, omit_defaults=True):
    arguments: str
    name: str | None = None


class _ToolCall(msgspec.Struct, omit_defaults=True):
    function: _Function
    index: int | None = None
    id: str | None = None
    type: str | None = None


class _Delta(msgspec.Struct, omit_defaults=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: Logprobs | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None
    index: int = 0
    logprobs: Logprobs | None = None


class _Cached(msgspec.Struct):
    cached_tokens: int


class _Reasoned(msgspec.Struct):
    reasoning_tokens: int


class UsagePiece(msgspec.Struct, omit_defaults=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoned | None = None
    cost: float | None = None


class ErrorPiece(msgspec.Struct):
    message: str
    type: str
    code: str
    param: str | None = None


class _Model(msgspec.Struct):
    id: str
    object: str
    created: int
    owned_by: str


def model_entry(name: str, created: int) -> bytes:
    return _encode(_model(name, created))


def model_list(names: Iterable[str], created: int) -> bytes:
    return _encode({"object": "list", "data": [_model(name, created) for name in names]})


def _model(name: str, created: int) -> _Model:
    return _Model(name, "model", created, "understudy")


class _Answer(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: Sequence[_Choice | _ChunkChoice]
    usage: UsagePiece | None = None
    error: ErrorPiece | None = None


_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


def error_of(refusal: RequestRefused) -> ErrorPiece:
    kind = _KINDS.get(refusal.status, "server_error")
    return ErrorPiece(str(refusal), kind, refusal.code, refusal.param)


def error_body(refusal: RequestRefused) -> bytes:
    return _encode({"error": error_of(refusal)})


def usage_of(usage: Usage | None) -> UsagePiece | None:
    if usage is None:
        return None
    return UsagePiece(
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens + usage.output_tokens,
        _Cached(usage.cache_read_tokens) if usage.cache_read_tokens else None,
        _Reasoned(usage.reasoning_tokens) if usage.reasoning_tokens else None,
        usage.cost_usd,
    )


@dataclass(slots=True)
class _OpenCall:
    """One tool call while its pieces arrive."""

    id: str | None
    name: str | None
    arguments: list[str]


def _tool_calls(pieces: Iterable[ToolCallDelta]) -> list[_ToolCall] | None:
    calls: dict[int, _OpenCall] = {}
    for piece in pieces:
        call = calls.setdefault(piece.index, _OpenCall(piece.call_id, piece.name, []))
        call.arguments.append(piece.arguments)
    return [
        _ToolCall(_Function("".join(call.arguments), call.name), id=call.id, type="function")
        for _, call in sorted(calls.items())
    ] or None


def frame(payload: bytes) -> bytes:
    if b"\n" in payload:
        payload = payload.replace(b"\n", b"\ndata: ")
    return b"data: %b\n\n" % payload


def frames(payloads: Iterable[bytes]) -> bytes:
    return b"".join(map(frame, payloads))


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer have in common."""

    id: str
    created: int
    model: str

    def whole(
        self, text: str, outputs: Sequence[Output], finish_reason: str | None, usage: Usage | None
    ) -> bytes:
        """The answer in one piece: `text` with the thoughts and tool calls among `outputs`."""
        thoughts = "".join(o.text for o in outputs if isinstance(o, ReasoningDelta))
        calls = _tool_calls(o for o in outputs if isinstance(o, ToolCallDelta))
        content = None if calls and not text else text
        message = _Message("assistant", content, thoughts or None, calls)
        choice = _Choice(message, finish_reason, logprobs=logprobs_of(outputs))
        return _encode(self._answer("chat.completion", [choice], usage))

    def role(self) -> bytes:
        return self._chunk(_Delta(role="assistant", content=""))

    def output(self, event: Output) -> bytes:
        """The frames of one output: as they came from the model's server, or made anew."""
        if event.raw:
            return frames(event.raw)
        if isinstance(event, TextDelta):
            logprobs = logprobs_of([event]) or msgspec.UNSET
            return self._chunk(_Delta(content=event.text), logprobs=logprobs)
        if isinstance(event, ReasoningDelta):
            return self._chunk(_Delta(reasoning_content=event.text))
        function = _Function(event.arguments, event.name)
        kind = None if event.call_id is None else "function"
        return self._chunk(
            _Delta(tool_calls=[_ToolCall(function, event.index, event.call_id, kind)])
        )

    def finish(self, reason: str | None) -> bytes:
        return self._chunk(_Delta(), reason)

    def usage(self, usage: Usage | None) -> bytes:
        """The chunk that clients get who asked for usage; empty where nothing is known."""
        if usage is None:
            return b""
        return b"data: %b\n\n" % _encode(self._answer("chat.completion.chunk", [], usage))

    def broken(self, refusal: RequestRefused) -> bytes:
        """The chunk that ends a stream which cannot be made whole any more."""
        answer = self._answer("chat.completion.chunk", [_ChunkChoice(_Delta(), "error")], None)
        answer.error = error_of(refusal)
        return b"data: %b\n\n" % _encode(answer)

    def _chunk(
        self,
        delta: _Delta,
        reason: str | None = None,
        logprobs: Logprobs | msgspec.UnsetType = msgspec.UNSET,
    ) -> bytes:
        choice = _ChunkChoice(delta, reason, logprobs=logprobs)
        answer = self._answer("chat.completion.chunk", [choice], None)
        return b"data: %b\n\n" % _encode(answer)

    def _answer(
        self, kind: str, choices: Sequence[_Choice | _ChunkChoice], usage: Usage | None
    ) -> _Answer:
        return _Answer(self.id, kind, self.created, self.model, choices, usage_of(usage))


class _CompletionChoice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class _CompletionAnswer(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[_CompletionChoice]
    usage: UsagePiece | None = None
    error: ErrorPiece | None = None


@dataclass(frozen=True, slots=True)
class CompletionEnvelope:
    """What all parts of one text have in common; the counterpart of a chat's `Envelope`."""

    id: str
    created: int
    model: str

    def whole(
        self, text: str, outputs: Sequence[Output], finish_reason: str | None, usage: Usage | None
    ) -> bytes:
        choice = _CompletionChoice(text, finish_reason, logprobs=logprobs_of(outputs))
        return _encode(self._answer([choice], usage))

    def role(self) -> bytes:
        """Nothing: a text has no speaker."""
        return b""

    def output(self, event: Output) -> bytes:
        """The frames of one piece of text: as they came from the server, or made anew."""
        if event.raw:
            return frames(event.raw)
        if not isinstance(event, TextDelta):
            return b""
        return self._frame(_CompletionChoice(event.text, logprobs=logprobs_of([event])))

    def finish(self, reason: str | None) -> bytes:
        return self._frame(_CompletionChoice("", reason))

    def usage(self, usage: Usage | None) -> bytes:
        return b"" if usage is None else frame(_encode(self._answer([], usage)))

    def broken(self, refusal: RequestRefused) -> bytes:
        answer = self._answer([_CompletionChoice("", "error")])
        answer.error = error_of(refusal)
        return frame(_encode(answer))

    def _frame(self, choice: _CompletionChoice) -> bytes:
        return frame(_encode(self._answer([choice])))

    def _answer(
        self, choices: list[_CompletionChoice], usage: Usage | None = None
    ) -> _CompletionAnswer:
        return _CompletionAnswer(
            self.id, "text_completion", self.created, self.model, choices, usage_of(usage)
        )
