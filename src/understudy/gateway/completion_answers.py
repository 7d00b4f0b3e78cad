"""What a client of bare completions reads: OpenAI's older shape, without messages and deltas."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec

from understudy.chat import TextDelta, Usage
from understudy.errors import RequestRefused
from understudy.gateway.answers import ErrorPiece, Output, UsagePiece, error_of, frame, usage_of
from understudy.llm.json_errors import NOT_JSON

Logprobs = dict[str, object]


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class _Answer(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: UsagePiece | None = None
    error: ErrorPiece | None = None


class _SaidChoice(msgspec.Struct):
    logprobs: Logprobs | None = None


class _Said(msgspec.Struct):
    choices: list[_SaidChoice]


_encode = msgspec.json.encode
_said = msgspec.json.Decoder(_Said)


@dataclass(frozen=True, slots=True)
class CompletionEnvelope:
    """What all parts of one text have in common; the counterpart of a chat's `Envelope`."""

    id: str
    created: int
    model: str

    def whole(
        self, text: str, outputs: Sequence[Output], finish_reason: str | None, usage: Usage | None
    ) -> bytes:
        choice = _Choice(text, finish_reason, logprobs=_logprobs_of(outputs))
        return _encode(self._answer([choice], usage))

    def role(self) -> bytes:
        """Nothing: a text has no speaker."""
        return b""

    def output(self, event: Output) -> bytes:
        """The frames of one piece of text: as they came from the server, or made anew."""
        if event.raw:
            return b"".join(map(frame, event.raw))
        return self._frame(_Choice(event.text)) if isinstance(event, TextDelta) else b""

    def finish(self, reason: str | None) -> bytes:
        return self._frame(_Choice("", reason))

    def usage(self, usage: Usage | None) -> bytes:
        return b"" if usage is None else frame(_encode(self._answer([], usage)))

    def broken(self, refusal: RequestRefused) -> bytes:
        answer = self._answer([_Choice("", "error")])
        answer.error = error_of(refusal)
        return frame(_encode(answer))

    def _frame(self, choice: _Choice) -> bytes:
        return frame(_encode(self._answer([choice])))

    def _answer(self, choices: list[_Choice], usage: Usage | None = None) -> _Answer:
        return _Answer(
            self.id, "text_completion", self.created, self.model, choices, usage_of(usage)
        )


def _logprobs_of(outputs: Sequence[Output]) -> Logprobs | None:
    """Join what the frames of a text tell of its tokens, list by list."""
    joined: dict[str, list[object]] = {}
    for raw in chain.from_iterable(output.raw for output in outputs):
        for name, values in _told(raw).items():
            if isinstance(values, list):
                joined.setdefault(name, []).extend(values)
    return dict(joined) or None


def _told(raw: bytes) -> Logprobs:
    if b'"logprobs"' not in raw:
        return {}
    try:
        choices = _said.decode(raw).choices
    except NOT_JSON:
        return {}
    return (choices[0].logprobs if choices else None) or {}
