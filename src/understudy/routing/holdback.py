"""Keeps a reply back from its sink until the sink is bound to it."""

from understudy.chat import ReasoningDelta, TextDelta, ToolCallDelta
from understudy.routing.request import SinkKind

Output = TextDelta | ReasoningDelta | ToolCallDelta
_MOST_HELD_CHARS = 65_536


class Holdback:
    """Holds output until text that can be seen, or a tool call, has come.

    Thoughts and leading blanks alone never bind a sink, so an attempt that dies thinking is
    replaced unseen. For a sink that shows nothing before the end, everything is held.
    """

    def __init__(self, kind: SinkKind) -> None:
        self._to_the_end = kind is SinkKind.HELD
        self._held: list[Output] | None = []
        self._chars = 0

    def take(self, event: Output) -> tuple[Output, ...] | list[Output]:
        """What may go on to the sink now."""
        held = self._held
        if held is None:
            return (event,)
        held.append(event)
        if self._to_the_end:
            return ()
        self._chars += 0 if isinstance(event, ToolCallDelta) else len(event.text)
        if _binds(event) or self._chars > _MOST_HELD_CHARS:
            self._held = None
            return held
        return ()

    def release(self) -> list[Output]:
        """Everything still held: the reply is finished and good."""
        held, self._held = self._held or [], None
        return held


def _binds(event: Output) -> bool:
    if isinstance(event, TextDelta):
        return bool(event.text) and not event.text.isspace()
    return isinstance(event, ToolCallDelta)
