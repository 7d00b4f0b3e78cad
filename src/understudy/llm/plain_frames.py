"""Ordinary frames: those with nothing but identity, text, role, finish reason, and the usage.

They are checked by decoding them into a fixed shape, many at once, which takes a fraction of
reading each as an object of any members.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from understudy.errors import NOT_JSON
from understudy.llm.frames import Json


class _PlainDelta(msgspec.Struct, forbid_unknown_fields=True):
    role: str | None = None
    content: str | None = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True):
    index: int = 0
    delta: _PlainDelta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: None = None


class _PlainMembers(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str | int | None = None
    kind: str = msgspec.field(default="", name="object")
    created: float | None = None
    model: str | None = None
    system_fingerprint: None = None


class _PlainFrame(_PlainMembers, forbid_unknown_fields=True, kw_only=True):
    """A frame of nothing but text, role and finish."""

    choices: tuple[_PlainChoice]
    usage: None = None


class _FrameWithUsage(_PlainMembers, forbid_unknown_fields=True, kw_only=True):
    """The same, or the usage of the reply, which is in a frame without a choice."""

    choices: Annotated[list[_PlainChoice], msgspec.Meta(max_length=1)]
    usage: dict[str, object] | None = None


_decode_plain = msgspec.json.Decoder(_PlainFrame).decode
_decode_run = msgspec.json.Decoder(list[_FrameWithUsage]).decode


def is_plain(payload: bytes) -> bool:
    """Whether a frame has no member but its identity, a text, a role and a finish reason."""
    try:
        _decode_plain(payload)
    except NOT_JSON:
        return False
    return True


def usage_of_plain(payloads: Sequence[bytes]) -> Json | None:
    """Return the usage of frames that are plain but for it; `None` where one is not."""
    frames = _read_run(payloads)
    if frames is None:
        return None
    usage: Json = {}
    for frame in frames:
        if frame.usage:
            usage |= frame.usage
    return usage


def finish_of_plain(payloads: Sequence[bytes], reason: str | None) -> bytes | None:
    """Return the frame that ends a reply for this reason, where all are plain but for the usage."""
    finish = None
    for payload, frame in zip(payloads, _read_run(payloads) or (), strict=False):
        if frame.choices:
            finish = payload if frame.choices[0].finish_reason == reason else None
    return finish


def _read_run(payloads: Sequence[bytes]) -> list[_FrameWithUsage] | None:
    try:
        return _decode_run(b"[%b]" % b",".join(payloads))
    except NOT_JSON:
        return None
