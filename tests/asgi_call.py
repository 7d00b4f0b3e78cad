"""Calls an ASGI application the way a server does, without a socket."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import cast

from understudy.gateway.app import Gateway
from understudy.gateway.client_connection import Header

LOCAL = {"host": "127.0.0.1:8006"}


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def data(self) -> dict[str, object]:
        return cast("dict[str, object]", json.loads(self.body))

    @property
    def error(self) -> dict[str, object]:
        return cast("dict[str, object]", self.data["error"])

    @property
    def frames(self) -> list[dict[str, object]]:
        lines = self.body.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


@dataclass
class Client:
    """One request of one client, which may hang up."""

    gateway: Gateway
    peer: str = "127.0.0.1"
    answer: Answer = field(default_factory=Answer)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with the first part of the answer's body."""

    async def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] = LOCAL,
    ) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        messages = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> dict[str, object]:
            if messages:
                return dict(messages.pop())
            await self.hung_up.wait()
            return {"type": "http.disconnect"}

        pairs: list[Header] = [(k.encode(), v.encode()) for k, v in headers.items()]
        scope: dict[str, object] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": pairs,
            "client": (self.peer, 50_000),
        }
        await self.gateway(scope, receive, self._send)
        return self.answer

    async def _send(self, message: MutableMapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = cast("int", message["status"])
            headers = cast("list[Header]", message["headers"])
            self.answer.headers = {k.decode(): v.decode() for k, v in headers}
        elif part := cast("bytes", message.get("body", b"")):
            self.answer.parts.append(part)
            self.begun.set()


async def get(gateway: Gateway, path: str, **headers: str) -> Answer:
    return await Client(gateway).call(path, b"", method="GET", headers={**LOCAL, **headers})


async def post(gateway: Gateway, body: object, **headers: str) -> Answer:
    return await Client(gateway).call("/v1/chat/completions", body, headers={**LOCAL, **headers})
