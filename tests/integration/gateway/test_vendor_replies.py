"""Replies in the forms that vendors send, as clients of the gateway get them.

Each row is the body of one event stream. A client that streams and one that does not must read the
same from it.
"""

import json

import aiohttp
import pytest

from gateway_setup import candidate_at, gateway_over
from playback import Recording, playing
from replay_recordings import Answer, answer_of
from understudy.config.providers import Engine
from understudy.config.settings import Gateway as GatewaySettings
from understudy.llm.http.endpoint import HttpSessions
from vendor_gateway import QUESTION, gateway_before, joined, seen
from vendor_replies import DONE, END, ERRORS, HI, ROLE, STOP, USAGE, Json, frame, raw, said

# A. Half an answer must never look whole.


FRAME_BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("word", "finish"),
    [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
     ("model_context_window_exceeded", "length"), ("end_turn", "stop"), ("eos", "stop"),
     ("COMPLETE", "stop"), ("stop_sequence", "stop"), ("STOP", "stop"), ("sunrise", "stop")],
)  # fmt: skip
async def test_vendors_words_end_a_reply(word: str, finish: str) -> None:
    got = await seen(ROLE + HI + frame({}, word) + DONE)

    for answer in (got.streamed, got.whole):
        assert (answer.text, answer.finish) == ("Hi there.", finish)


@pytest.mark.parametrize("word", ["sensitive", "SAFETY", "PROHIBITED_CONTENT", "RECITATION"])
async def test_filtered_content_is_no_whole_reply(word: str) -> None:
    got = await seen(ROLE + HI + frame({}, word) + DONE)

    assert got.streamed.failed
    assert got.whole.failed


BROKEN = [
    frame({}, "network_error") + DONE,
    frame({}, "insufficient_system_resource") + DONE,
    frame({}, "error") + DONE,
    frame({}, "abort") + DONE,
    frame({}, "") + DONE,
    DONE,
    b"",
    *ERRORS,
]


@pytest.mark.parametrize("last", BROKEN)
async def test_half_an_answer_is_an_error(last: bytes) -> None:
    got = await seen(ROLE + HI + last)

    assert (got.streamed.text, got.streamed.finish, got.streamed.failed) == (
        "Hi there.", "error", True,
    )  # fmt: skip
    assert got.whole.failed


@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_before_the_text_is_a_failure(error: bytes) -> None:
    got = await seen(ROLE + error)

    assert got.status >= 500
    assert got.whole.failed


@pytest.mark.parametrize(
    "body",
    [
        frame({"content": "Hi there.", "reasoning": {"odd": 1}}) + END,
        raw('{"choices":[{"index":0,"delta":{"content":"Hi there."},"logprobs":{"content":'
            '[{"token":"Hi","logprob":-Infinity},{"logprob":NaN}]}}]}') + END,
        raw('{"choices":[{"index":0,"delta":{"content":"Hi "}}]}')
        + raw('{"choices":[{"index":1,"delta":{"content":"there."}}]}') + END,
        raw('{"choices":[{"delta":{"content":"Hi there."}}]}') + END,
        raw('{"choices":[{"index":"0","delta":{"content":"Hi there."}}]}') + END,
        raw("null") * 9 + HI + raw("null") + END,
        FRAME_BOM + ROLE + HI + END,
        (ROLE + HI + END).replace(b"\n", b"\r"),
        ROLE + HI + raw('{"choices":[{"index":0,"finish_reason":"stop","message":'
                        '{"role":"assistant","content":"Hi there."}}]}') + DONE,
        b"".join(frame({"content": text}, "") for text in ("Hi ", "there.")) + END,
    ],
)  # fmt: skip
async def test_odd_frames_cost_no_text(body: bytes) -> None:
    got = await seen(body)

    for answer in (got.streamed, got.whole):
        assert (answer.text, answer.finish) == ("Hi there.", "stop")


async def test_halves_of_a_character_in_two_frames_are_one() -> None:
    body = raw('{"choices":[{"index":0,"delta":{"content":"Hi \\ud83d"}}]}')
    got = await seen(body + raw('{"choices":[{"index":0,"delta":{"content":"\\ude42"}}]}') + END)

    assert got.streamed.text == got.whole.text == "Hi \U0001f642"


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
    body = ROLE + said("Let me see.\n</think>\n\nHi there.", 5) + END
    question = QUESTION | {"stream": True}
    async with gateway_before(body) as url, aiohttp.ClientSession() as http:
        bodies = []
        for stream in (True, True, False):
            async with http.post(
                f"{url}/chat/completions", json=question | {"stream": stream}
            ) as response:
                bodies.append(answer_of(await response.read(), streamed=stream))
    first, second, whole = bodies

    assert "</think>" not in first.text
    assert first.text.endswith("Hi there.")
    for answer in (second, whole):
        assert (answer.text, answer.reasoning.strip()) == ("Hi there.", "Let me see.")


async def test_a_thought_without_its_opening_tag_is_reasoning_in_one_piece_at_once() -> None:
    body = ROLE + said("Let me see.\n</think>\n\nHi there.", 5) + END
    async with (
        gateway_before(body) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/chat/completions", json=QUESTION) as response,
    ):
        answer = answer_of(await response.read(), streamed=False)

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


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_estimates_never_exceed_what_the_client_allowed(name: str) -> None:
    got = await seen(ROLE + said("Hello there, my friend. " * 4) + END, None, **{name: 3})

    assert figures(got.streamed)[1] == figures(got.whole)[1] == 3


# G. Probabilities of engines at home.


def token(text: str) -> Json:
    top = [{"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []}]
    return {"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": top}


@pytest.mark.parametrize("engine", ["koboldcpp", "textgen-webui", "llama.cpp"])
@pytest.mark.parametrize("stream", [True, False])
async def test_probabilities_of_engines_at_home_are_passed_on(engine: Engine, stream: bool) -> None:
    body = ROLE + b"".join(
        raw(json.dumps({"choices": [{"index": 0, "delta": {"content": text},
                                     "logprobs": {"content": [token(text)]}}]}))
        for text in ("Hi", " there.")
    )  # fmt: skip
    line = "POST /v1/chat/completions"
    kind = {"content-type": "text/event-stream"}
    recording = Recording("", line, 200, kind, [(body + END).decode()])
    sessions = HttpSessions()
    question = QUESTION | {"stream": stream, "logprobs": True, "top_logprobs": 1}
    async with (
        playing({line: recording}) as server,
        gateway_over([candidate_at("home", server.url, sessions, engine=engine)]) as url,
        aiohttp.ClientSession() as http,
        http.post(f"{url}/chat/completions", json=question) as response,
    ):
        answer = await response.text()
    await sessions.aclose()

    asked = server.asked[0].members
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 1)
    payloads = [p[6:] for p in answer.split("\n") if p.startswith("data: {")] or [answer]
    got = [choice.get("logprobs") for p in payloads for choice in json.loads(p)["choices"]]
    assert [t for one in got if one for t in one["content"]] == [token("Hi"), token(" there.")]
