"""One call of a stand-in server: the moves a behaviour is made of, down to single bytes."""

import asyncio
import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One call as it arrived."""

    number: int
    """Counts from 1 per server."""
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: dict[str, object]
    at: float

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True

    @property
    def raw_completion(self) -> bool:
        """Whether a text is to go on, rather than a conversation."""
        return not self.path.endswith("chat/completions")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the server would say if nothing went wrong."""

    words: Sequence[str]
    """With their spaces, so that joining them gives the reply."""
    prompt_tokens: int
    model: str
    usd_per_token: float | None = None
    """Where set, the usage names a cost."""


class Responder:
    """Plays one behaviour to one caller. Streaming or in one piece, as the caller asked."""

    def __init__(
        self, request: web.Request, asked: Asked, spoken: Spoken, word_pause_s: float = 0.0
    ) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._said: list[str] = []
        self._thoughts: list[str] = []
        self.asked = asked
        self.spoken = spoken
        self.word_pause_s = word_pause_s
        self.left_by_us = False
        """True once this side broke the connection: what follows is no disconnect of theirs."""

    async def start(self, headers: Json | None = None) -> None:
        """Send the head of an event stream, at once and only the first time."""
        if self._response is not None:
            return
        kind = "text/event-stream" if self.asked.streams else "application/json"
        fields = {"Content-Type": kind, "Cache-Control": "no-cache"}
        fields.update({name: str(value) for name, value in (headers or {}).items()})
        self._response = web.StreamResponse(headers=fields)
        await self._response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Send these bytes as they are."""
        await self.start()
        assert self._response is not None
        await self._response.write(data)

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send one whole response instead of a stream."""
        self._response = web.Response(status=status, body=body, headers=headers)
        await self._response.prepare(self._request)
        await self._response.write_eof()

    async def frame(self, payload: Json) -> None:
        await self.write(b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n")

    async def delta(self, delta: Json, finish_reason: str | None = None) -> None:
        if self.asked.streams:
            said = (
                {"text": delta.get("content", "")}
                if self.asked.raw_completion
                else {"delta": delta}
            )
            await self.frame(self._envelope({"index": 0, **said, "finish_reason": finish_reason}))

    async def say(self, text: str, finish_reason: str | None = None) -> None:
        self._said.append(text)
        await self.delta({"content": text}, finish_reason)

    async def think(self, text: str) -> None:
        self._thoughts.append(text)
        await self.delta({"reasoning_content": text})

    async def finish(self, reason: str, *, usage: bool) -> None:
        """End as a good reply ends."""
        if not self.asked.streams:
            await self._whole(reason, usage=usage)
            return
        await self.delta({}, reason)
        if usage:
            await self.frame(self._envelope(None, self._usage()))
        await self.write(b"data: [DONE]\n\n")

    def words_left(self) -> Sequence[str]:
        return self.spoken.words[len(self._said) :]

    async def hang(self, seconds: float | None = None) -> None:
        """Do nothing for so long; with `None` until the caller leaves or the server closes."""
        await asyncio.sleep(math.inf if seconds is None else seconds)

    async def reset(self) -> None:
        """Break the connection the hard way: the caller's socket sees RST."""
        self.left_by_us = True
        transport = self._request.transport
        assert transport is not None
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await self.hang()

    async def close(self) -> web.StreamResponse:
        """End the body at once; a stream without a finish then looks cleanly cut."""
        await self.start()
        assert self._response is not None
        await self._response.write_eof()
        return self._response

    async def _whole(self, reason: str, *, usage: bool) -> None:
        message: dict[str, object] = {"role": "assistant", "content": "".join(self._said)}
        if self._thoughts:
            message["reasoning_content"] = "".join(self._thoughts)
        said = {"text": message["content"]} if self.asked.raw_completion else {"message": message}
        choice = {"index": 0, **said, "finish_reason": reason}
        payload = self._envelope(choice, self._usage() if usage else None)
        if not self.asked.raw_completion:
            payload["object"] = "chat.completion"
        await self.write(json.dumps(payload, ensure_ascii=False).encode())

    def _envelope(self, choice: Json | None, usage: Json | None = None) -> dict[str, object]:
        payload: dict[str, object] = {
            "id": f"chatcmpl-rehearsal-{self.asked.number}",
            "object": "text_completion" if self.asked.raw_completion else "chat.completion.chunk",
            "created": 1_750_000_000 + self.asked.number,
            "model": self.spoken.model,
            "choices": [choice] if choice else [],
        }
        return payload | ({"usage": usage} if usage else {})

    def _usage(self) -> dict[str, object]:
        output = len(self._said) + len(self._thoughts)
        total = self.spoken.prompt_tokens + output
        price = self.spoken.usd_per_token
        return {
            "prompt_tokens": self.spoken.prompt_tokens,
            "completion_tokens": output,
            "total_tokens": total,
            "completion_tokens_details": {"reasoning_tokens": len(self._thoughts)},
        } | ({} if price is None else {"cost": price * total})


class Move(Protocol):
    """One step of a behaviour."""

    async def play(self, stage: Responder) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole response: an error, a web page, an odd body."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)

    async def play(self, stage: Responder) -> None:
        await stage.answer(self.status, self.body, dict(self.headers))


@dataclass(frozen=True, slots=True)
class Head:
    """Status 200 and the headers of a stream."""

    async def play(self, stage: Responder) -> None:
        await stage.start()


@dataclass(frozen=True, slots=True)
class Role:
    """The chunk that names the speaker and says nothing."""

    async def play(self, stage: Responder) -> None:
        await stage.delta({"role": "assistant", "content": ""})


@dataclass(frozen=True, slots=True)
class Words:
    """The next words of the reply; all that are left where `count` is `None`."""

    count: int | None = None
    pause_s: float = 0.0
    finish_reason: str | None = None
    """Sent with each word, as servers do that never leave the member empty."""

    async def play(self, stage: Responder) -> None:
        pause_s = self.pause_s or stage.word_pause_s
        for word in list(stage.words_left())[: self.count]:
            if pause_s:
                await asyncio.sleep(pause_s)
            await stage.say(word, self.finish_reason)


@dataclass(frozen=True, slots=True)
class Say:
    """These texts instead of the partner's, one chunk each."""

    pieces: tuple[str, ...]
    pause_s: float = 0.0

    async def play(self, stage: Responder) -> None:
        for piece in self.pieces:
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            await stage.say(piece)


@dataclass(frozen=True, slots=True)
class Think:
    pieces: tuple[str, ...]

    async def play(self, stage: Responder) -> None:
        for piece in self.pieces:
            await stage.think(piece)


@dataclass(frozen=True, slots=True)
class Delta:
    """One chunk with this delta, as a JSON object."""

    delta: str

    async def play(self, stage: Responder) -> None:
        await stage.delta(json.loads(self.delta))


@dataclass(frozen=True, slots=True)
class Raw:
    """Exactly these bytes in the body of the stream."""

    data: bytes

    async def play(self, stage: Responder) -> None:
        if stage.asked.streams:
            await stage.write(self.data)


@dataclass(frozen=True, slots=True)
class Comments:
    """Keep-alive comments and nothing else, until the caller leaves."""

    every_s: float = 0.25
    text: bytes = b": PROCESSING\n\n"

    async def play(self, stage: Responder) -> None:
        while True:
            await stage.write(self.text)
            await asyncio.sleep(self.every_s)


@dataclass(frozen=True, slots=True)
class Hang:
    seconds: float | None = None

    async def play(self, stage: Responder) -> None:
        await stage.hang(self.seconds)


@dataclass(frozen=True, slots=True)
class Reset:
    async def play(self, stage: Responder) -> None:
        await stage.reset()


@dataclass(frozen=True, slots=True)
class Finish:
    reason: str | None = None
    """`None` is the natural one: `stop`, or `length` where `max_tokens` cut the words."""
    usage: bool = True

    async def play(self, stage: Responder) -> None:
        await stage.finish(self.reason or _natural_reason(stage), usage=self.usage)


def _natural_reason(stage: Responder) -> str:
    limit = stage.asked.body.get("max_tokens")
    cut = isinstance(limit, int) and len(stage.spoken.words) >= limit
    return "length" if cut else "stop"
