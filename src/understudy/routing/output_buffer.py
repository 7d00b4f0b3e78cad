"""Keeps a reply back from its sink until the sink is bound to it."""

from understudy.llm.messages import ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.request import SinkKind

Output = TextDelta | ReasoningDelta | ToolCallDelta
_MOST_HELD_CHARS = 65_536
_SHORTEST_ECHO = 24
"""A shorter one is an answer: people greet with the words they are greeted with."""


class OutputBuffer:
    """Holds output until text that can be seen, or a tool call, has come.

    Thoughts and leading blanks alone never bind a sink, so an attempt that dies thinking is
    replaced unseen. For a sink that shows nothing before the end, everything is held.
    """

    def __init__(self, kind: SinkKind, echoes: tuple[str, ...] = ()) -> None:
        self._to_the_end = kind is SinkKind.HELD
        self._held: list[Output] | None = []
        self._chars = 0
        self._echoes = [text for echo in echoes if len(text := echo.strip()) >= _SHORTEST_ECHO]
        self._text = ""

    def take(self, event: Output) -> tuple[Output, ...] | list[Output]:
        """What may go on to the sink now."""
        held = self._held
        if held is None:
            return (event,)
        held.append(event)
        if self._to_the_end:
            self._may_echo(event)
            return ()
        self._chars += 0 if isinstance(event, ToolCallDelta) else len(event.text)
        if (_binds(event) and not self._may_echo(event)) or self._chars > _MOST_HELD_CHARS:
            self._held = None
            return held
        return ()

    @property
    def is_echo(self) -> bool:
        """Whether all that came is a text that was to be answered, word for word."""
        return self._text.strip() in self._echoes

    def forget(self) -> bool:
        """Drop what is held; True when nothing had been let through yet."""
        if self._held is None:
            return False
        self._held.clear()
        self._text = ""
        return True

    def _may_echo(self, event: Output) -> bool:
        if not self._echoes or isinstance(event, ToolCallDelta | ReasoningDelta):
            return False
        self._text += event.text
        text = self._text.lstrip()
        self._echoes = [echo for echo in self._echoes if (echo + "\n\n").startswith(text)]
        return bool(self._echoes)

    def release(self) -> list[Output]:
        """Everything still held: the reply is finished and good."""
        held, self._held = self._held or [], None
        return held


def _binds(event: Output) -> bool:
    if isinstance(event, TextDelta):
        return bool(event.text) and not event.text.isspace()
    return isinstance(event, ToolCallDelta)
