"""Buffers output until the first visible text commits the attempt."""

from collections.abc import Sequence

from understudy.llm import frames
from understudy.llm.messages import OtherDelta, Output, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.request import SinkKind

_HELD = SinkKind.HELD
_MOST_HELD_CHARS = 65_536
_MOST_HELD_OTHERS = 64
_SHORTEST_ECHO = 24
"""A shorter text is a reply: people greet with the words they were greeted with."""


class OutputBuffer:
    """Holds output until visible text, a tool call or media has come.

    Reasoning and leading blanks alone never commit an attempt, so one that fails while it reasons
    is replaced unseen. For a sink that shows nothing before the end, everything is held.
    """

    __slots__ = ("_chars", "_echoes", "_held", "_others", "_text", "_to_the_end", "is_open")

    def __init__(self, kind: SinkKind, echoes: tuple[str, ...] = ()) -> None:
        self._to_the_end = kind is _HELD
        self._held: list[Output] | None = []
        self.is_open = False
        """Whether all output goes on to the sink at once."""
        self._chars = 0
        self._others = 0
        self._echoes: Sequence[str] = ()
        if echoes:
            self._echoes = [t for echo in echoes if len(t := echo.strip()) >= _SHORTEST_ECHO]
        self._text = ""

    def push(self, output: Output) -> Sequence[Output]:
        """Return what goes on to the sink now."""
        held = self._held
        if held is None:
            return (output,)
        if isinstance(output, OtherDelta) and not output.media:
            self._others += 1
            if self._others <= _MOST_HELD_OTHERS:
                held.append(output)
            return ()
        held.append(output)
        if self._to_the_end:
            if self._echoes:
                self._may_echo(output)
            return ()
        if isinstance(output, TextDelta | ReasoningDelta):
            self._chars += len(output.text)
        if (_commits(output) and not self._may_echo(output)) or self._chars > _MOST_HELD_CHARS:
            self._held, self.is_open = None, True
            return held
        return ()

    @property
    def is_echo(self) -> bool:
        """Whether the whole text equals one that it was to answer."""
        return bool(self._echoes) and self._text.strip() in self._echoes

    def turn_into_reasoning(self) -> bool:
        """Turn held text into reasoning; False where output has gone on already."""
        if self._held is None:
            return False
        self._held = [_as_reasoning(o) if isinstance(o, TextDelta) else o for o in self._held]
        self._text = ""
        return True

    def turn_into_text(self) -> str:
        """Turn held reasoning into text, and return it; "" where output has gone on already."""
        held = self._held or []
        self._held = [_as_text(o) if isinstance(o, ReasoningDelta) else o for o in held]
        return "".join(output.text for output in self._held if isinstance(output, TextDelta))

    def release(self) -> list[Output]:
        """Return everything still held: the reply is complete and good."""
        held, self._held, self.is_open = self._held or [], None, True
        return held

    def _may_echo(self, output: Output) -> bool:
        if not (self._echoes and isinstance(output, TextDelta)):
            return False
        self._text += output.text
        text = self._text.lstrip()
        self._echoes = [echo for echo in self._echoes if (echo + "\n\n").startswith(text)]
        return bool(self._echoes)


def _as_reasoning(output: TextDelta) -> ReasoningDelta:
    payloads = [frames.as_reasoning(frame, frames.text_in(frame)) for frame in output.frames]
    return ReasoningDelta(output.text, tuple(payloads))


def _as_text(output: ReasoningDelta) -> TextDelta:
    return TextDelta(output.text, tuple(map(frames.as_text, output.frames)))


def _commits(output: Output) -> bool:
    if isinstance(output, TextDelta):
        return bool(output.text) and not output.text.isspace()
    return isinstance(output, ToolCallDelta | OtherDelta)
