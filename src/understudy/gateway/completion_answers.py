"""What a client of bare completions reads: OpenAI's older shape, without messages and deltas."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from understudy.errors import RequestRefused
from understudy.gateway.logprobs import Logprobs, logprobs_of
from understudy.gateway.responses import (
    ErrorPiece,
    Output,
    UsagePiece,
    error_of,
    frame,
    frames,
    usage_of,
)
from understudy.llm.messages import TextDelta, Usage


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


_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class CompletionEnvelope:
    """What all parts of one text have in common; the counterpart of a chat's `Envelope`."""

    id: str
    created: int
    model: str

    def whole(
        self, text: str, outputs: Sequence[Output], finish_reason: str | None, usage: Usage | None
    ) -> bytes:
        choice = _Choice(text, finish_reason, logprobs=logprobs_of(outputs))
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
        return self._frame(_Choice(event.text, logprobs=logprobs_of([event])))

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
