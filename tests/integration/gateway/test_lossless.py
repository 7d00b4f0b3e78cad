"""Members that nothing here knows reach both kinds of clients, and slow clients slow the server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway_setup import candidate_at, gateway_and_servers, gateway_over
from understudy.llm.http.endpoint import HttpSessions
from waiting import LIMIT_S

Json = dict[str, object]

SIGNATURE = {"google": {"thought_signature": "c2lnbmF0dXJl"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
CITED = {"type": "url_citation", "url_citation": {"url": "https://example.org"}}
HIDDEN = {"type": "reasoning.encrypted", "data": "q83v", "index": 1, "id": "rs_1"}
USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 9,
    "total_tokens": 16,
    "cost": 0.5,
    "cost_details": {"upstream_inference_cost": None},
}


def frame(delta: Json, finish: str | None = None, /, **choice: object) -> Json:
    return {
        "id": "gen-1",
        "provider": "Lab",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": "lab/model-9",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}],
    }


def call(**function: object) -> Json:
    return {"tool_calls": [{"index": 0, "function": function}]}


FRAMES = (
    frame({"role": "assistant", "content": ""}),
    frame({"reasoning": "hm", "reasoning_details": [
        {"type": "reasoning.text", "text": "hm", "index": 0}]}),
    frame({"reasoning_details": [HIDDEN]}),
    frame({"content": "Look"}),
    frame({"content": " here"}),
    frame({"content": "!", "annotations": [CITED]}, logprobs={"content": [{"token": "!"}]}),
    frame({"images": [IMAGE]}),
    frame({"tool_calls": [{"index": 0, "id": "c1", "type": "function",
                           "function": {"name": "look", "arguments": '{"at":'},
                           "extra_content": SIGNATURE}]}),
    frame(call(arguments='"it"}')),
    frame({}, "tool_calls", native_finish_reason="STOP"),
    {**frame({}), "choices": [], "usage": USAGE, "x_router": {"region": "eu"}},
)  # fmt: skip


@asynccontextmanager
async def server_of(write: Callable[[asyncio.StreamWriter], object]) -> AsyncIterator[str]:
    """A model server whose every answer is an event stream that `write` sends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            sending = write(writer)
            if asyncio.iscoroutine(sending):
                await sending
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@asynccontextmanager
async def gateway_to(base_url: str) -> AsyncIterator[str]:
    sessions = HttpSessions()
    try:
        async with gateway_over([candidate_at("lab", base_url, sessions)]) as url:
            yield f"{url}/chat/completions"
    finally:
        await sessions.aclose()


def send_frames(frames: Sequence[Json]) -> Callable[[asyncio.StreamWriter], object]:
    def write(writer: asyncio.StreamWriter) -> None:
        for one in frames:
            writer.write(b"data: %b\n\n" % json.dumps(one).encode())
        writer.write(b"data: [DONE]\n\n")

    return write


async def ask(url: str, **body: object) -> str:
    question = {"model": "understudy", "messages": [{"role": "user", "content": "hi"}], **body}
    async with aiohttp.ClientSession() as http, http.post(url, json=question) as response:
        assert response.status == 200
        return await response.text()


async def test_a_streaming_client_gets_every_frame_unchanged() -> None:
    async with server_of(send_frames(FRAMES)) as base_url, gateway_to(base_url) as url:
        body = await ask(url, stream=True, stream_options={"include_usage": True})

    sent = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    assert sent == list(FRAMES)
    assert body.endswith("data: [DONE]\n\n")


async def test_a_client_that_does_not_stream_gets_the_same_members() -> None:
    async with server_of(send_frames(FRAMES)) as base_url, gateway_to(base_url) as url:
        answer = json.loads(await ask(url))

    assert answer == {
        "id": "gen-1",
        "provider": "Lab",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "lab/model-9",
        "x_router": {"region": "eu"},
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "native_finish_reason": "STOP",
                "logprobs": {"content": [{"token": "!"}]},
                "message": {
                    "role": "assistant",
                    "content": "Look here!",
                    "reasoning": "hm",
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "hm", "index": 0},
                        HIDDEN,
                    ],
                    "annotations": [CITED],
                    "images": [IMAGE],
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "look", "arguments": '{"at":"it"}'},
                            "extra_content": SIGNATURE,
                        }
                    ],
                },
            }
        ],
        "usage": USAGE,
    }


async def test_an_answer_of_only_an_image_is_a_reply() -> None:
    frames = (frame({"role": "assistant", "content": ""}), frame({"images": [IMAGE]}), FRAMES[-2])
    async with server_of(send_frames(frames)) as base_url, gateway_to(base_url) as url:
        whole = json.loads(await ask(url))
        streamed = await ask(url, stream=True)

    assert whole["choices"][0]["message"]["images"] == [IMAGE]
    assert '"images"' in streamed


async def test_thoughts_are_moved_within_their_frames() -> None:
    frames = (
        frame({"content": "<think>hm"}, odd=1),
        frame({"content": "</think>Good"}, odd=2),
        frame({"content": " day"}),
        frame({}, "stop"),
    )
    async with server_of(send_frames(frames)) as base_url, gateway_to(base_url) as url:
        body = await ask(url, stream=True)

    sent = [json.loads(line[6:]) for line in body.split("\n") if line.startswith("data: {")]
    choices = [one["choices"][0] for one in sent]
    assert [c["delta"].get("reasoning_content") for c in choices if "odd" in c] == ["hm", None]
    assert [c["odd"] for c in choices if "odd" in c] == [1, 2]
    assert "".join(c["delta"].get("content") or "" for c in choices) == "Good day"
    assert {one["id"] for one in sent} == {"gen-1"}


COUNT, PADDING = 1000, "x" * 64_000


async def test_a_client_that_does_not_read_stops_the_server() -> None:
    written, stuck = 0, asyncio.Event()

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        for number in range(COUNT):
            one = frame({"content": f"word {number}, "}, padding=PADDING)
            writer.write(b"data: %b\n\n" % json.dumps(one).encode())
            drain = asyncio.ensure_future(writer.drain())
            await asyncio.wait([drain], timeout=2)
            if not drain.done():
                stuck.set()
            await drain
            written += 1
        send_frames([frame({}, "stop")])(writer)

    question = {"stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        server_of(flood) as base_url,
        gateway_to(base_url) as url,
        aiohttp.ClientSession(read_bufsize=1024) as http,
        http.post(url, json=question) as response,
    ):
        await asyncio.wait_for(stuck.wait(), LIMIT_S)
        before = written
        body = await response.read()

    assert before < COUNT // 2
    assert body.count(b'"padding"') == COUNT
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("part", ["silent", "midstall"])
async def test_a_client_that_leaves_closes_the_connection_to_the_server(
    part: str, stream: bool
) -> None:
    async with gateway_and_servers(part) as here:
        server = here.servers[0]
        client = asyncio.create_task(ask(f"{here.url}/chat/completions", stream=stream))
        await server.until(lambda seen: seen.in_flight == 1)
        client.cancel()
        await asyncio.wait([client])

        await server.until(lambda seen: len(seen.disconnects) == 1)
