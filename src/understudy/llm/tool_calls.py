"""Pieces of tool calls in every shape → pieces as the `openai` SDKs put them together."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from understudy.llm.messages import ToolCallDelta
from understudy.llm.openai_wire import ToolCallPiece


def _new_id() -> str:
    return f"call_{secrets.token_hex(12)}"


@dataclass(slots=True)
class _Call:
    index: int
    given: int | None
    """The index as the server counts, which may be the same for several calls."""
    id: str | None = None
    name: str | None = None
    waiting: str = ""
    """Arguments that came before the name."""
    begun: bool = False


class ToolCallAssembler:
    """Gives every call of one reply an index and an id of its own, each said once.

    A piece belongs to the call of its id; without one to the latest call of its index; without
    either to the latest call, unless it names another function. The first piece of a call goes on
    when its name is known, with an id of ours where the server has sent none by then.
    """

    def __init__(self, new_id: Callable[[], str] = _new_id) -> None:
        self._new_id = new_id
        self._calls: list[_Call] = []
        self.latest: int | None = None
        """The call that the latest piece belongs to, where it has begun."""

    @property
    def any(self) -> bool:
        return any(call.begun for call in self._calls)

    def add(self, piece: ToolCallPiece, position: int, *, several: bool) -> ToolCallDelta | None:
        """Return what clients get for a piece, `None` while the name is unknown.

        `position` is its place in the frame's list, which holds `several` pieces or one.
        """
        given = position if piece.index is None and several else piece.index
        said = next(filter(None, (piece.function, piece.custom)), None)
        if said is None and not piece.id:
            known = given is None or any(call.given == given for call in self._calls)
            self.latest = self._call_of(given, None, None).index if known and self.any else None
            return None
        name = said.name if said is not None else None
        call = self._call_of(given, piece.id or None, name or None)
        self.latest = call.index if call.begun else None
        call.id = call.id or piece.id or None
        call.name = call.name or name or None
        arguments = call.waiting + ((said.text if said is not None else None) or "")
        if call.begun:
            return ToolCallDelta(call.index, None, None, arguments) if arguments else None
        if call.name is None or (call.id is None and not arguments):
            call.waiting = arguments
            return None
        call.begun, call.waiting = True, ""
        return ToolCallDelta(call.index, call.id or self._new_id(), call.name, arguments)

    def rest(self) -> list[ToolCallDelta]:
        """Return the calls that still waited for an id when the reply ended."""
        late = [call for call in self._calls if not call.begun and call.name is not None]
        for call in late:
            call.begun = True
        return [
            ToolCallDelta(call.index, call.id or self._new_id(), call.name, call.waiting)
            for call in late
        ]

    def _call_of(self, given: int | None, call_id: str | None, name: str | None) -> _Call:
        for call in reversed(self._calls):
            if self._continues(call, given, call_id, name):
                return call
        call = _Call(len(self._calls), given)
        self._calls.append(call)
        return call

    def _continues(
        self, call: _Call, given: int | None, call_id: str | None, name: str | None
    ) -> bool:
        if call_id is not None and call.id is not None:
            return call.id == call_id
        if given is not None and call.given is not None:
            return given == call.given
        return call is self._calls[-1] and (name is None or call.name in (None, name))
