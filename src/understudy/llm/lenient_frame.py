"""Frames that do not decode: repaired member by member, so that one odd member costs only itself.

Only frames that the strict decoder refused come here. What no member can be made of is removed
and counted; JSON that Python reads but the standard forbids (`NaN`) becomes null.
"""

import json
from collections.abc import Callable

import msgspec

Json = dict[str, object]
Check = Callable[[object], bool]
"""Whether a member may stay as it is."""


class FrameRepair:
    """Repairs the frames of one reply; remembers a character that was cut in two by a frame."""

    def __init__(self) -> None:
        self.dropped = 0
        """Members removed since this was last reset."""
        self._half = ""
        """A high surrogate whose other half is in the next frame."""

    @property
    def is_pending(self) -> bool:
        """Whether the next frame begins with the other half of a character."""
        return bool(self._half)

    def repair(self, payload: bytes) -> bytes | None:
        """Return the frame as the strict decoder takes it, `None` where it is no JSON object."""
        try:
            frame = json.loads(payload.decode("utf-8", "replace"), parse_constant=self._constant)
        except (ValueError, RecursionError):
            return None
        if not isinstance(frame, dict):
            return None
        self._top(frame)
        return msgspec.json.encode(_without_surrogates(frame))

    def _constant(self, _name: str) -> None:
        """`NaN`, `Infinity`, `-Infinity`."""
        self.dropped += 1

    def _keep(self, members: Json, checks: dict[str, Check]) -> None:
        for name, check in checks.items():
            if name in members and members[name] is not None and not check(members[name]):
                del members[name]
                self.dropped += 1

    def _top(self, frame: Json) -> None:
        self._keep(frame, _TOP)
        for choice in self._objects(frame, "choices"):
            choice["index"] = _whole(choice.get("index"))
            self._keep(choice, _CHOICE)
            for name in ("delta", "message"):
                piece = choice.get(name)
                if isinstance(piece, dict):
                    self._delta(piece)

    def _delta(self, delta: Json) -> None:
        for name in _TEXTS:
            value = delta.get(name)
            if isinstance(value, dict) and isinstance(value.get("text"), str):
                delta[name] = value["text"]
        self._keep(delta, _DELTA)
        for name in _TEXTS:
            text = delta.get(name)
            if isinstance(text, str):
                delta[name] = self._joined(text)
        for name in ("content", "reasoning_details"):
            for piece in self._objects(delta, name):
                self._keep(piece, _PIECE)
        for call in self._objects(delta, "tool_calls"):
            self._call(call)
        self._function(delta.get("function_call"))

    def _objects(self, members: Json, name: str) -> list[Json]:
        """Reduce a list to its objects."""
        items = members.get(name)
        if not isinstance(items, list):
            return []
        good = [item for item in items if isinstance(item, dict)]
        self.dropped += len(items) - len(good)
        members[name] = good
        return good

    def _call(self, call: Json) -> None:
        if isinstance(call.get("id"), int):
            call["id"] = str(call["id"])
        if "index" in call:
            call["index"] = _whole(call["index"])
        self._keep(call, _CALL)
        for name in ("function", "custom"):
            self._function(call.get(name))

    def _function(self, function: object) -> None:
        if not isinstance(function, dict):
            return
        for name in ("arguments", "input"):
            if isinstance(function.get(name), dict | list):
                function[name] = json.dumps(function[name], ensure_ascii=False)
        self._keep(function, _FUNCTION)

    def _joined(self, text: str) -> str:
        """Put the halves of a character together that two frames brought."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_counts(value: object) -> bool:
    return isinstance(value, dict) and all(
        type(n) in (int, float, str, bool) for n in value.values()
    )


def _whole(value: object) -> int:
    try:
        return int(value) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0


_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")
_TOP: dict[str, Check] = {
    "id": lambda value: type(value) in (str, int),
    "model": _is_text,
    "object": _is_text,
    "choices": _is_list,
    "timings": _is_counts,
    "x_groq": _is_object,
    "x_nanogpt_pricing": _is_object,
}
_CHOICE: dict[str, Check] = {
    "delta": _is_object,
    "message": _is_object,
    "text": _is_text,
    "finish_reason": _is_text,
}
_DELTA: dict[str, Check] = {
    "content": lambda value: isinstance(value, str | list),
    "reasoning": _is_text,
    "reasoning_content": _is_text,
    "refusal": _is_text,
    "reasoning_details": _is_list,
    "tool_calls": _is_list,
    "function_call": _is_object,
}
_PIECE: dict[str, Check] = {
    "type": _is_text,
    "text": _is_text,
    "summary": _is_text,
    "thinking": lambda value: isinstance(value, str | list),
}
_CALL: dict[str, Check] = {"id": _is_text, "function": _is_object, "custom": _is_object}
_FUNCTION: dict[str, Check] = {"name": _is_text, "arguments": _is_text, "input": _is_text}


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {str(_without_surrogates(k)): _without_surrogates(v) for k, v in value.items()}
    return value
