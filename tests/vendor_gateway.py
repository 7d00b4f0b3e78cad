"""A gateway in front of a model server that sends given bytes, and what its clients get."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from gateway_setup import candidate_at, gateway_over
from replay_recordings import Answer, answer_of
from understudy.config.settings import Gateway as GatewaySettings
from understudy.llm.http.endpoint import HttpSessions

Json = dict[str, object]

QUESTION: Json = {
    "model": "understudy",
    "messages": [{"role": "user", "content": "Say it, please."}],
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What both clients got."""

    status: int
    streamed: Answer
    whole: Answer
    frames: Sequence[Json]
    message: Mapping[str, object]
    """Of the answer in one piece; empty where it failed."""


@asynccontextmanager
async def server_of(body: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def gateway_before(
    body: bytes, settings: GatewaySettings | None = None
) -> AsyncIterator[str]:
    """The base URL of a gateway before a server that always sends `body`."""
    sessions = HttpSessions()
    async with (
        server_of(body) as address,
        gateway_over([candidate_at("lab", address, sessions)], settings) as url,
    ):
        yield url
    await sessions.aclose()


async def seen(body: bytes, settings: GatewaySettings | None = None, **members: object) -> Seen:
    """Ask for a stream, then for an answer in one piece."""
    answers = []
    async with gateway_before(body, settings) as url, aiohttp.ClientSession() as http:
        for stream in (True, False):
            question = QUESTION | {"stream": stream} | members
            question |= {"stream_options": {"include_usage": True}} if stream else {}
            async with http.post(f"{url}/chat/completions", json=question) as response:
                answers.append((response.status, await response.read()))
    (status, streamed), (_, whole) = answers
    lines = [line[6:] for line in streamed.split(b"\n") if line.startswith(b"data: {")]
    choices = json.loads(whole).get("choices")
    return Seen(
        status,
        answer_of(streamed, streamed=status == 200),
        answer_of(whole, streamed=False),
        [json.loads(line) for line in lines],
        choices[0]["message"] if choices else {},
    )


def joined(got: Seen, name: str) -> str:
    """Put a text member of the streamed deltas together."""
    deltas = [choice["delta"] for one in got.frames for choice in one["choices"]]  # type: ignore[attr-defined]
    return "".join(delta.get(name) or "" for delta in deltas)
