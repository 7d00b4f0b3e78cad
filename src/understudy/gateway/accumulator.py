"""Accumulates a streamed reply into one answer, whatever members its frames have."""

from collections.abc import Sequence

from understudy.llm.frames import Json, delta_of, first_choice, read_frame
from understudy.llm.messages import OtherDelta, Output, ReasoningDelta, TextDelta, ToolCallDelta
from understudy.llm.plain_frames import is_plain

_IDENTITY = frozenset(("id", "object", "created", "model", "choices", "usage"))
_REPLACED = frozenset(("id", "type", "name", "role", "object", "model", "format"))
"""Strings that a server may repeat; all others are pieces of one text."""


class _Pieces(list[str]):
    """A text that is joined at the end: adding to a long string copies it each time."""


class ReplyAccumulator:
    """Collects the outputs of one attempt.

    In a delta strings join, lists extend, and objects merge, those of a list by their `index`. Of
    other members the last value counts. The visible text is not collected: the router knows it.
    """

    def __init__(self) -> None:
        self.top: Json = {}
        """Members beside the choices."""
        self.usage: Json = {}
        self._choice: Json = {}
        self._message: Json = {}

    def add(self, output: Output) -> None:
        if isinstance(output, TextDelta) and output.plain:
            return  # only the text differs from an earlier frame
        if output.frames:
            self.add_frames(output.frames)
            return
        match output:
            case ReasoningDelta(text):
                _merge(self._message, {"reasoning_content": text})
            case ToolCallDelta(index, call_id, name, arguments):
                function = {"name": name, "arguments": arguments}
                call = {"index": index, "id": call_id, "type": "function", "function": function}
                _merge(self._message, {"tool_calls": [call]})
            case TextDelta() | OtherDelta():
                pass

    def add_frames(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            if not is_plain(payload):
                self._add(read_frame(payload))

    def choice(self) -> Json:
        """Return the members of the choice, without message, text and finish reason."""
        return _joined(self._choice)

    def message(self) -> Json:
        """Return the message without its visible text."""
        message = _joined(self._message)
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [_without_index(call) for call in sorted(calls, key=_index)]
        return message

    def _add(self, frame: Json) -> None:
        for name, value in frame.items():
            if name not in _IDENTITY and value is not None:
                self.top[name] = value
        usage = frame.get("usage")
        if isinstance(usage, dict):
            self.usage |= usage
        choice = first_choice(frame)
        if not choice:
            return
        logprobs = choice.pop("logprobs", None)
        if isinstance(logprobs, dict):
            _merge(self._choice, {"logprobs": logprobs})
        delta = delta_of(choice)
        delta.pop("content", None)
        _merge(self._message, delta)
        self._choice |= {
            k: v
            for k, v in choice.items()
            if k not in ("index", "delta", "text", "finish_reason") and v is not None
        }


def _merge(target: Json, delta: Json) -> None:
    for name, value in delta.items():
        known = target.get(name)
        if value is None:
            target.setdefault(name, None)
        elif isinstance(value, list):
            target[name] = _extended(known if isinstance(known, list) else [], value, name)
        elif isinstance(value, dict):
            merged: Json = known if isinstance(known, dict) else {}
            _merge(merged, value)
            target[name] = merged
        elif isinstance(value, str) and name not in _REPLACED:
            if not isinstance(known, _Pieces):
                known = target[name] = _Pieces()
            known.append(value)
        elif value != "":
            target[name] = value


def _extended(known: list[object], items: list[object], name: str) -> list[object]:
    for item in items:
        if not isinstance(item, dict):
            known.append(item)
            continue
        found = _same(known, item, continues=name == "tool_calls")
        if found is None:
            found = {}
            known.append(found)
        _merge(found, item)
    return known


def _same(known: list[object], item: Json, *, continues: bool) -> Json | None:
    """Return the object of a list that an item adds to, if there is one."""
    index, own_id = item.get("index"), item.get("id")
    if index is None:
        last = known[-1] if known else None
        return last if continues and isinstance(last, dict) and not own_id else None
    for other in reversed(known):
        if isinstance(other, dict) and other.get("index") == index:
            ids = (other.get("id"), own_id)
            return None if all(ids) and ids[0] != ids[1] else other
    return None


def _joined(value: Json) -> Json:
    return {name: _plain(member) for name, member in value.items()}


def _plain(value: object) -> object:
    if isinstance(value, _Pieces):
        return "".join(value)
    if isinstance(value, dict):
        return _joined(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _index(call: object) -> int:
    index = call.get("index") if isinstance(call, dict) else None
    return index if isinstance(index, int) else 0


def _without_index(call: object) -> object:
    return {k: v for k, v in call.items() if k != "index"} if isinstance(call, dict) else call
