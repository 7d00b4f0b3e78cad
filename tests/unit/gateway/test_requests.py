import json
import math

import pytest

from understudy.errors import RequestRefused
from understudy.gateway.requests import IMAGE_TOKENS, read_ask, read_completion
from understudy.llm.messages import TextPart
from understudy.routing.request import Fit

SAY = [{"role": "user", "content": "hello"}]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SEEING = Fit(n_ctx=None, reply_tokens=256, vision=True, tokens_per_char=0.3)
BLIND = Fit(n_ctx=None, reply_tokens=256, vision=False, tokens_per_char=0.3)


def body(**members: object) -> bytes:
    return json.dumps({"model": "understudy", "messages": SAY, **members}).encode()


def test_a_request_travels_on_untouched() -> None:
    sent = (
        b'{"model":"m","messages":[{"role":"user","content":"hi"}],'
        b'"min_p": 1.50e0, "response_format":{"type": "json_object"}, "dry": null}'
    )

    assert read_ask(sent).build(SEEING).request.extra == sent


def test_how_the_answer_is_wanted_is_read() -> None:
    ask = read_ask(body(stream=True, stream_options={"include_usage": True}))

    assert ask.stream
    assert ask.include_usage


def test_usage_is_for_those_who_ask() -> None:
    assert not read_ask(body()).include_usage
    assert not read_ask(body(stream_options=None)).include_usage
    assert not read_ask(body(stream_options={})).include_usage


def test_pictures_are_counted_and_not_looked_at() -> None:
    text = {"type": "text", "text": "what is this?"}
    ask = read_ask(body(messages=[{"role": "user", "content": [text, PICTURE, PICTURE]}]))

    prompt = ask.build(SEEING)
    assert (ask.images, prompt.images) == (2, 2)
    assert prompt.input_tokens == math.ceil(13 * 0.3) + 2 * IMAGE_TOKENS
    assert b"data:image/png;base64,AAAA" in prompt.request.extra


def test_a_model_that_cannot_see_gets_a_note_where_the_picture_was() -> None:
    ask = read_ask(body(messages=[{"role": "user", "content": [PICTURE], "name": "Ann"}], seed=1))

    prompt = ask.build(BLIND)
    sent = json.loads(prompt.request.extra)
    assert prompt.degraded == ("images",)
    assert prompt.images == 0
    assert sent["seed"] == 1
    assert sent["messages"][0]["name"] == "Ann"
    assert [piece["type"] for piece in sent["messages"][0]["content"]] == ["text"]


def test_the_text_is_there_in_our_own_words_too() -> None:
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, PICTURE]},
        {"role": "assistant", "content": None},
        {"role": "someone", "content": "two"},
    ]

    messages = read_ask(body(messages=turns)).build(SEEING).request.messages
    assert [(m.role, m.parts) for m in messages] == [
        ("system", (TextPart("be brief"),)),
        ("user", (TextPart("one"),)),
        ("assistant", (TextPart(""),)),
        ("user", (TextPart("two"),)),
    ]


def test_tools_are_noticed() -> None:
    assert read_ask(body(tools=[{"type": "function", "function": {"name": "f"}}])).tools
    assert not read_ask(body(tools=[])).tools
    assert not read_ask(body(tools=None)).tools
    assert not read_ask(body()).tools


def test_the_model_may_be_left_out() -> None:
    assert read_ask(json.dumps({"messages": SAY}).encode()).model == ""


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'\xff\xfe{"a":1}', None),
        (b'{"a":' * 5000, None),
        (b'{"model":"m"}', "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=[{"content": "hi"}]), "messages"),
        (body(messages=[{"role": "user", "content": 5}]), "messages"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', None),
        (b'{"messages":[{"role":"user","content":"hi"}],"us\xffer":1}', None),
        (b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1e999}', "max_tokens"),
        (body(model=5), "model"),
        (body(stream="yes"), "stream"),
        (body(stream_options=[]), "stream_options"),
    ],
)
def test_a_wrong_request_is_refused_with_the_member_at_fault(
    wrong: bytes, param: str | None
) -> None:
    with pytest.raises(RequestRefused) as caught:
        read_ask(wrong)

    assert caught.value.status == 400
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (b'{"prompt":"hi","max_tokens":1e999}', "max_tokens"),
        (b'{"prompt":"hi","us\xffer":1}', None),
        (b'{"prompt":"hi","user":"\xff"}', None),
    ],
)
def test_a_wrong_completion_is_refused_with_the_member_at_fault(
    wrong: bytes, param: str | None
) -> None:
    with pytest.raises(RequestRefused) as caught:
        read_completion(wrong)

    assert caught.value.status == 400
    assert caught.value.param == param


def test_text_of_every_script_is_utf_8_wherever_its_slices_end() -> None:
    said = "€" * 70_000

    for shift in range(3):
        asked = read_ask(
            json.dumps({"messages": SAY, "x": "a" * shift + said}, ensure_ascii=False).encode()
        )
        bare = read_completion(json.dumps({"prompt": said}, ensure_ascii=False).encode())

        assert asked.text_bytes == 5
        assert bare.text_bytes == 210_000


def test_text_of_every_script_weighs_what_its_bytes_do() -> None:
    said = "あ" * 300

    asked = read_ask(body(messages=[{"role": "user", "content": said}]))
    bare = read_completion(json.dumps({"prompt": said}).encode())

    assert asked.build(BLIND).input_tokens == bare.build(BLIND).input_tokens == int(900 * 0.3)
