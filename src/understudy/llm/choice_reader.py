"""Choices of a reply that hold more than text: tool calls, reasoning, media, whole messages."""

from understudy.llm import frames
from understudy.llm.messages import OtherDelta, Output, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.llm.openai_wire import (
    Choice,
    Delta,
    ToolCallPiece,
    content_text,
    reasoning_text,
)
from understudy.llm.tool_calls import ToolCallAssembler

_NO_POSITION = 1_000_000


class ChoiceReader:
    """Turns the choices of one reply into outputs; call `outputs`, then `framed`, for each."""

    __slots__ = ("_indexes", "_positions", "calls")

    def __init__(self) -> None:
        self.calls = ToolCallAssembler()
        self._indexes: list[int | None] = []
        """Of the latest frame: which of the reply's calls its pieces belong to."""
        self._positions: list[int] = []
        """Of the latest frame: which of its tool calls the outputs are, in their order."""

    def outputs(self, choice: Choice, *, ends: bool) -> list[Output]:
        """Return what a choice holds, without frames; `ends` adds the calls that still wait."""
        self._positions = []
        outputs = self._delta_outputs(choice.delta or choice.message, choice.text)
        if ends:
            late = self.calls.rest()
            self._positions += [_NO_POSITION] * len(late)
            outputs += late
        return outputs

    def framed(
        self, outputs: list[Output], choice: Choice, payload: bytes, *, simple: bool
    ) -> list[Output]:
        """Add to each output the frame that clients get for it.

        `simple` is False where the frame holds a finish, a usage, a message or further choices.
        """
        if not outputs:
            if has_calls(choice):
                payload, simple = frames.without_calls(payload, self._indexes), False
            rest = payload if simple else frames.rest_frame(payload)
            if rest is None:
                return []
            return [OtherDelta((rest,), frames.has_media(rest))]
        delta = choice.delta
        if simple and len(outputs) == 1 and delta is not None and type(delta.content) is not list:
            output = outputs[0]
            if isinstance(output, TextDelta):
                return [TextDelta(output.text, (payload,))]
            if isinstance(output, ReasoningDelta):
                return [ReasoningDelta(output.text, (payload,))]
        return frames.divide(payload, outputs, self._positions)

    def _delta_outputs(self, delta: Delta | None, bare_text: str | None) -> list[Output]:
        if delta is None:
            return _text(bare_text)
        outputs: list[Output] = []
        if reasoning := reasoning_text(delta):
            outputs.append(ReasoningDelta(reasoning))
        outputs += _text(content_text(delta.content) or delta.refusal)
        if delta.tool_calls or delta.function_call is not None:
            outputs += self._tool_calls(delta)
        return outputs

    def _tool_calls(self, delta: Delta) -> list[ToolCallDelta]:
        pieces = list(delta.tool_calls or ())
        if not pieces and delta.function_call is not None:
            pieces = [ToolCallPiece(index=0, function=delta.function_call)]
        outputs: list[ToolCallDelta] = []
        self._indexes = []
        for position, piece in enumerate(pieces):
            output = self.calls.add(piece, position, several=len(pieces) > 1)
            self._indexes.append(self.calls.latest)
            if output is not None:
                self._positions.append(position)
                outputs.append(output)
        return outputs


def has_calls(choice: Choice) -> bool:
    delta = choice.delta
    return delta is not None and bool(delta.tool_calls or delta.function_call)


def chars_in(output: Output) -> int:
    """Return how many characters of the reply an output holds."""
    if isinstance(output, TextDelta | ReasoningDelta):
        return len(output.text)
    return len(output.arguments) if isinstance(output, ToolCallDelta) else 0


def _text(text: str | None) -> list[Output]:
    return [TextDelta(text)] if text else []
