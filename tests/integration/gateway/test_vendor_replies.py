"""Replies in the forms that vendors send, as clients of the gateway get them.

Each row is the body of one event stream. A client that streams and one that does not must read the
same from it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from gateway_setup import candidate_at, gateway_over
from replay_recordings import Answer, answer_of
from understudy.config.settings import Gateway as GatewaySettings
from understudy.llm.http.endpoint import HttpSessions

Json = dict[str, object]

QUESTION: Json = {
    "model": "understudy",
    "messages": [{"role": "user", "content": "Say it, please."}],
}
DONE = b"data: [DONE]\n\n"


def frame(delta: Json | None, finish: str | None = None, **members: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return raw(json.dumps(chunk | {"choices": choices} | members))


def raw(payload: str) -> bytes:
    return b"data: %b\n\n" % payload.encode("utf-8", "surrogatepass")


def said(text: str, size: int = 1000) -> bytes:
    """Return a text in pieces of so many characters."""
    return b"".join(frame({"content": text[n : n + size]}) for n in range(0, len(text), size))


ROLE = frame({"role": "assistant", "content": ""})
HI = said("Hi there.")
STOP = frame({}, "stop")
END = STOP + DONE
USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


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


async def seen(body: bytes, settings: GatewaySettings | None = None, **members: object) -> Seen:
    """Ask a gateway in front of a server that always sends `body`."""
    sessions = HttpSessions()
    async with (
        server_of(body) as address,
        gateway_over([candidate_at("lab", address, sessions)], settings) as url,
        aiohttp.ClientSession() as http,
    ):
        answers = []
        for stream in (True, False):
            question = QUESTION | {"stream": stream, **members}
            question |= {"stream_options": {"include_usage": True}} if stream else {}
            async with http.post(f"{url}/chat/completions", json=question) as response:
                answers.append((response.status, await response.read()))
    await sessions.aclose()
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


# C. Members that must survive.

DETAILS = [
    {"type": "reasoning.text", "text": "", "signature": "c2ln", "index": 0},
    {"type": "reasoning.encrypted", "data": "q83v", "id": "rs_1", "index": 1},
]
AUDIO = {"id": "a1", "data": "UklGRg==", "expires_at": 9, "transcript": ""}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
CITED = {"type": "url_citation", "url_citation": {"url": "https://example.org"}}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SIGNED = CALL | {"extra_content": {"google": {"thought_signature": "c2ln"}}}


@pytest.mark.parametrize(
    ("delta", "member", "value"),
    [
        ({"reasoning_details": DETAILS}, "reasoning_details", DETAILS),
        ({"reasoning": "hm", "reasoning_details": DETAILS[1:]}, "reasoning_details", DETAILS[1:]),
        ({"content": "", "reasoning_details": DETAILS[:1]}, "reasoning_details", DETAILS[:1]),
        ({"content": "", "signature": "c2ln"}, "signature", "c2ln"),
        ({"content": "", "thought_signature": "c2ln"}, "thought_signature", "c2ln"),
        ({"images": [IMAGE]}, "images", [IMAGE]),
        ({"audio": AUDIO}, "audio", AUDIO),
        ({"annotations": [CITED]}, "annotations", [CITED]),
        ({"content": "", "citations": ["https://example.org"]}, "citations",
         ["https://example.org"]),
        ({"reasoning": "hm"}, "reasoning", "hm"),
        ({"reasoning_content": "hm"}, "reasoning_content", "hm"),
        ({"role": "assistant", "provider_specific_fields": {"a": {"b": 1}}},
         "provider_specific_fields", {"a": {"b": 1}}),
    ],
)  # fmt: skip
async def test_members_of_a_delta_survive_under_their_own_name(
    delta: Json, member: str, value: object
) -> None:
    got = await seen(ROLE + frame(delta) + HI + END)

    assert got.message[member] == value
    assert [
        d[member]
        for one in got.frames
        for c in one["choices"]  # type: ignore[attr-defined]
        if member in (d := c["delta"])
    ] == [value]
    assert (got.streamed.text, got.whole.text) == ("Hi there.", "Hi there.")
    other = {"reasoning": "reasoning_content", "reasoning_content": "reasoning"}.get(member, "-")
    assert other not in got.message
    assert not joined(got, other)


async def test_members_beside_the_choices_survive() -> None:
    citations = ["https://example.org"]
    got = await seen(ROLE + frame({"content": "Hi"}, citations=citations) + END)

    assert [one["citations"] for one in got.frames if "citations" in one] == [citations]


LATE_SIGNATURE = {"index": 0, "extra_content": SIGNED["extra_content"]}


@pytest.mark.parametrize(
    "frames",
    [
        frame({"tool_calls": [SIGNED]}) + STOP,
        frame({"tool_calls": [SIGNED]}, "tool_calls"),
        frame({"tool_calls": [CALL]}) + frame({"tool_calls": [LATE_SIGNATURE]}) + STOP,
        frame({"tool_calls": [CALL]}) + frame({"tool_calls": [LATE_SIGNATURE]}, "tool_calls"),
    ],
)
async def test_the_signature_of_a_call_survives(frames: bytes) -> None:
    got = await seen(ROLE + frames + DONE)

    calls = got.message["tool_calls"]
    assert isinstance(calls, list)
    (call,) = calls
    assert call["extra_content"] == SIGNED["extra_content"]
    sent = [
        c
        for one in got.frames
        for ch in one["choices"]  # type: ignore[attr-defined]
        for c in ch["delta"].get("tool_calls", ())
    ]
    assert [c["extra_content"] for c in sent if "extra_content" in c] == [call["extra_content"]]
    assert got.streamed.calls == got.whole.calls == {0: ["c1", "f", "{}"]}


@pytest.mark.parametrize("delta", [{"images": [IMAGE]}, {"audio": AUDIO}])
async def test_an_answer_of_only_media_is_an_answer(delta: Json) -> None:
    got = await seen(ROLE + frame(delta) + END)

    (name,) = delta
    assert got.message[name] == delta[name]
    assert (got.streamed.finish, got.whole.finish) == ("stop", "stop")


async def test_a_refusal_stays_a_refusal() -> None:
    got = await seen(ROLE + frame({"refusal": "I can"}) + frame({"refusal": "not."}) + END)

    assert got.message["refusal"] == joined(got, "refusal") == "I cannot."
    assert not got.message["content"]


@pytest.mark.parametrize(
    "pieces",
    [
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
         {"type": "text", "text": "Hi there."}],
        [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hi "},
         {"type": "text", "text": "there."}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "H"},
                                           {"type": "text", "text": "m."}]},
         {"type": "text", "text": "Hi there."}],
    ],
)  # fmt: skip
@pytest.mark.parametrize("at_once", [True, False])
async def test_content_of_parts_is_text_for_every_client(pieces: list[Json], at_once: bool) -> None:
    lists = [pieces] if at_once else [[piece] for piece in pieces]
    got = await seen(ROLE + b"".join(frame({"content": parts}) for parts in lists) + END)

    for answer in (got.streamed, got.whole):
        assert (answer.text, answer.reasoning) == ("Hi there.", "Hm.")
    assert got.message["content"] == joined(got, "content") == "Hi there."


# E. Thoughts and template tokens.

THOUGHTS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>",
     "<|end|><|start|>assistant<|channel|>final<|message|>"),
]  # fmt: skip


@pytest.mark.parametrize(("opening", "closing"), THOUGHTS)
@pytest.mark.parametrize("size", [1, 1000])
async def test_a_thought_in_any_clothes_is_reasoning(opening: str, closing: str, size: int) -> None:
    got = await seen(ROLE + said(f"{opening}Let me see.{closing}\n\nHi there.", size) + END)

    for answer in (got.streamed, got.whole):
        assert answer.text == "Hi there."
        assert answer.reasoning.strip() == "Let me see."
    assert got.message["reasoning_content"] == joined(got, "reasoning_content")


TOKENS = ["<end_of_turn>", "<turn|>", "</s>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|return|>",
          "<|endoftext|>", "<|user|>", "<|observation|>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
          "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<|end_of_text|>", "<|eom_id|>",
          "<|assistant|>", "<|END_OF_TURN_TOKEN|>"]  # fmt: skip


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("size", [1, 1000])
async def test_a_leaked_end_of_turn_ends_the_reply(token: str, size: int) -> None:
    got = await seen(ROLE + said(f"Hi there.{token}\nAnd you?", size) + END)

    assert (got.streamed.text, got.streamed.finish) == ("Hi there.", "stop")
    assert (got.whole.text, got.whole.finish) == ("Hi there.", "stop")


async def test_a_client_may_have_the_text_as_it_was_sent() -> None:
    text = "Hi there.<|im_end|>\nAnd you?</s>"
    got = await seen(ROLE + said(text, 3) + END, GatewaySettings(clean=False))

    assert got.streamed.text == got.whole.text == text


@pytest.mark.parametrize("token", ["<|im_end|>", "</s>", "<end_of_turn>\n"])
async def test_a_text_of_nothing_but_tokens_is_empty(token: str) -> None:
    got = await seen(ROLE + said(token) + END)

    assert got.status == 200
    assert (got.streamed.text, got.streamed.finish) == ("", "stop")
    assert (got.whole.text, got.whole.finish) == ("", "stop")


@pytest.mark.parametrize(
    "page",
    ["<!DOCTYPE html>\n<html><head><title>502</title></head></html>", "<html>\n<body>502</body>",
     "\n  <!doctype html><html lang='en'>"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000])
async def test_a_page_of_html_as_the_text_is_a_failure(page: str, size: int) -> None:
    got = await seen(ROLE + said(page, size) + END)

    assert got.status == 503
    assert got.streamed.failed
    assert got.whole.failed


@pytest.mark.parametrize("title", ["My garden", ""])
async def test_a_page_that_was_asked_for_is_a_reply(title: str) -> None:
    head = f"<head><title>{title}</title></head>" if title else "<style>p { width: 500 }</style>"
    page = f"<!DOCTYPE html>\n<html>{head}<body><p>Roses, lilies.</p></body></html>"
    got = await seen(ROLE + said(page, 3) + END)

    assert got.streamed.text == got.whole.text == page


async def test_a_thought_that_the_template_opens_is_reasoning() -> None:
    """The first stream has sent the thought as text before its end comes."""
    sessions = HttpSessions()
    body = ROLE + said("Let me see.\n</think>\n\nHi there.", 5) + END
    question = QUESTION | {"stream": True}
    async with (
        server_of(body) as address,
        gateway_over([candidate_at("lab", address, sessions)]) as url,
        aiohttp.ClientSession() as http,
    ):
        bodies = []
        for stream in (True, True, False):
            async with http.post(
                f"{url}/chat/completions", json=question | {"stream": stream}
            ) as response:
                bodies.append(answer_of(await response.read(), streamed=stream))
    await sessions.aclose()
    first, second, whole = bodies

    assert "</think>" not in first.text
    assert first.text.endswith("Hi there.")
    for answer in (second, whole):
        assert (answer.text, answer.reasoning.strip()) == ("Hi there.", "Let me see.")


async def test_a_thought_without_its_opening_tag_is_reasoning_in_one_piece_at_once() -> None:
    sessions = HttpSessions()
    async with (
        server_of(ROLE + said("Let me see.\n</think>\n\nHi there.", 5) + END) as address,
        gateway_over([candidate_at("lab", address, sessions)]) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/chat/completions", json=QUESTION) as response,
    ):
        answer = answer_of(await response.read(), streamed=False)
    await sessions.aclose()

    assert (answer.text, answer.reasoning.strip()) == ("Hi there.", "Let me see.")


# F. Figures.


def figures(answer: Answer) -> tuple[int, ...]:
    return tuple(int(str(tokens)) for tokens in answer.usage or ())


@pytest.mark.parametrize(
    "last",
    [
        STOP + frame(None, usage=USAGE),
        frame({}, "stop", usage=USAGE),
        frame({"content": ""}, usage=USAGE) + STOP,
        frame({}, "stop", usage=USAGE, x_groq={"id": "q"}),
        frame({}, "stop", x_groq={"id": "q", "usage": USAGE}),
        frame({}, "stop", timings={"prompt_n": 5, "cache_n": 2, "predicted_n": 9}),
        STOP + frame(None, timings={"prompt_n": 5, "cache_n": 2, "predicted_n": 9}),
        STOP + frame(None, usage={"prompt_tokens": "7", "completion_tokens": 9.0}),
    ],
)
async def test_figures_reach_every_client_wherever_they_came(last: bytes) -> None:
    got = await seen(ROLE + HI + last + DONE)

    assert figures(got.streamed) == (7, 9)
    assert figures(got.whole) == (7, 9)


@pytest.mark.parametrize(
    ("delta", "least"),
    [
        ({"tool_calls": [CALL | {"function": {"name": "f", "arguments": "x" * 3000}}]}, 500),
        ({"reasoning_content": "I see. " * 900}, 1000),
    ],
)
async def test_calls_and_thoughts_are_estimated_as_tokens(delta: Json, least: int) -> None:
    got = await seen(ROLE + frame(delta) + HI + END)

    for answer in (got.streamed, got.whole):
        assert answer.usage is not None
        assert least < int(str(answer.usage[1])) < 3000
