"""Frames → events: every form in which servers say the same thing."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import BadReply, ErrorClass, ProviderError
from understudy.llm.client import Exchange
from understudy.llm.messages import (
    ChatEvent,
    OtherDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageSource,
)
from understudy.llm.stream_parser import StreamParser


def reader_of(exchange: Exchange | None = None) -> StreamParser:
    def classify(body: bytes) -> ProviderError:
        return BadReply(ErrorClass.SERVER_ERROR, detail=body.decode())

    return StreamParser(exchange or Exchange(), classify)


def choice(**fields: object) -> bytes:
    return json.dumps({"model": "m", "choices": [{"index": 0, **fields}]}).encode()


def read(*frames: bytes) -> list[ChatEvent]:
    reader = reader_of()
    return [event for frame in frames for event in reader.read(frame)]


@pytest.mark.parametrize(
    ("delta", "events"),
    [
        ({"content": "Hi"}, [TextDelta("Hi")]),
        ({"content": ""}, []),
        ({"content": None, "role": "assistant"}, []),
        ({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
         [TextDelta("Hi")]),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                      {"type": "text", "text": "Hi"}]},
         [ReasoningDelta("hm"), TextDelta("Hi")]),
        ({"reasoning": "hm"}, [ReasoningDelta("hm")]),
        ({"reasoning_content": "hm"}, [ReasoningDelta("hm")]),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"},
                                {"type": "reasoning.encrypted", "data": "x"}]},
         [ReasoningDelta("hm")]),
        ({"reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, [ReasoningDelta("hm")]),
        ({"refusal": "No."}, [TextDelta("No.")]),
        ({"content": "Hi", "reasoning": "hm"}, [ReasoningDelta("hm"), TextDelta("Hi")]),
        ({"tool_calls": [{"index": 1, "id": "a", "function": {"name": "f", "arguments": "{"}}]},
         [ToolCallDelta(0, "a", "f", "{")]),
        ({"tool_calls": [{"function": {}}]}, []),
    ],
)  # fmt: skip
def test_every_form_of_a_delta_is_understood(
    delta: dict[str, object], events: list[ChatEvent]
) -> None:
    found = read(choice(delta=delta))

    assert [without_frames(event) for event in found if not is_other(event)] == events


def without_frames(event: ChatEvent) -> ChatEvent:
    return event if isinstance(event, OtherDelta) else msgspec.structs.replace(event, frames=())


def is_other(event: ChatEvent) -> bool:
    return isinstance(event, OtherDelta)


def frames_of(event: ChatEvent) -> list[dict[str, object]]:
    return [json.loads(frame) for frame in event.frames]


def test_a_frame_with_one_output_is_kept_as_it_came() -> None:
    text = choice(delta={"content": "Hi"}, odd={"a": 1})

    assert read(text) == [TextDelta("Hi", (text,))]


def test_a_frame_with_several_outputs_is_divided_and_loses_nothing() -> None:
    function = {"name": "f", "arguments": "{}", "odd": 2}
    calls = [
        {"index": n, "id": name, "type": "function", "function": function, "extra": 1}
        for n, name in enumerate("ab")
    ]
    delta = {"role": "assistant", "content": "Hi", "reasoning": "hm", "tool_calls": calls}
    frame = choice(delta=delta, logprobs={"content": []}, odd=1)

    thought, text, first, second = read(frame)

    assert frames_of(thought)[0]["choices"] == [
        {"index": 0, "odd": 1, "finish_reason": None,
         "delta": {"role": "assistant", "reasoning": "hm"}}
    ]  # fmt: skip
    assert frames_of(text)[0]["choices"] == [
        {"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": []}}
    ]
    deltas = [frames_of(call)[0]["choices"][0]["delta"] for call in (first, second)]  # type: ignore[index]
    assert [delta["tool_calls"] for delta in deltas] == [[calls[0]], [calls[1]]]


def test_text_in_the_last_frame_comes_before_the_finish_and_the_usage() -> None:
    parser = reader_of()
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "odd": 3}
    frame = json.loads(choice(delta={"content": "Hi"}, finish_reason="stop")) | {"usage": usage}

    (text,) = parser.read(json.dumps(frame).encode())
    end = parser.end(eof_is_end=False)

    (kept,) = frames_of(text)
    assert ("usage" in kept, kept["choices"][0]["finish_reason"]) == (False, None)  # type: ignore[index]
    finish, figures = frames_of(end)
    assert finish["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (figures["choices"], figures["usage"]) == ([], usage)


def test_a_message_in_one_piece_becomes_a_frame_of_a_stream() -> None:
    (text,) = read(choice(message={"role": "assistant", "content": "Hi", "annotations": [1]}))

    (frame,) = frames_of(text)
    assert frame["object"] == "chat.completion.chunk"
    assert frame["choices"][0]["delta"] == {  # type: ignore[index]
        "role": "assistant",
        "content": "Hi",
        "annotations": [1],
    }


@pytest.mark.parametrize(
    ("delta", "media"),
    [
        ({"role": "assistant", "content": ""}, False),
        ({"annotations": [{"type": "url_citation"}]}, False),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, False),
        ({"images": [{"image_url": {"url": "data:image/png;base64,AA"}}]}, True),
        ({"audio": {"data": "AA"}}, True),
        ({"images": []}, False),
    ],
)
def test_a_frame_without_text_is_passed_on(delta: dict[str, object], media: bool) -> None:
    frame = choice(delta=delta)

    assert read(frame) == [OtherDelta((frame,), media)]


def test_all_frames_get_the_identity_of_the_first() -> None:
    first = b'{"id":"a","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"H"}}]}'
    other = b'{"id":"b","created":2,"model":"n","odd":1,"choices":[{"delta":{"content":"i"}}]}'

    _, event = read(first, other)

    (frame,) = frames_of(event)
    assert (frame["id"], frame["created"], frame["model"], frame["odd"]) == ("a", 1, "m", 1)


def test_an_empty_identity_is_none() -> None:
    """Azure's first frame has one."""
    reader = reader_of()
    filters = b'{"id":"","created":0,"model":"","object":"","choices":[],"prompt_filter":[1]}'
    text: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    named = {"id": "a", "created": 7, "model": "m", "object": "chat.completion.chunk"} | text
    nameless = {"id": "", "created": 0, "model": "", "object": ""} | text

    sent = [filters, json.dumps(named).encode(), json.dumps(nameless).encode()]
    events = reader.read_all(sent)

    assert [frame for event in events[1:] for frame in frames_of(event)] == [named, named]
    assert reader.exchange.upstream_id == "a"


def test_only_the_first_of_several_choices_counts() -> None:
    second = json.dumps({"choices": [{"index": 1, "delta": {"content": "other"}}]}).encode()

    first = [choice(delta={"role": "assistant"}), choice(delta={"content": "Hi"})]

    assert read(*first, second)[2:] == []


@pytest.mark.parametrize("word", ["", " ", "null", None])
def test_a_word_that_is_none_leaves_the_reply_open(word: str | None) -> None:
    reader = reader_of()
    reader.read(choice(delta={"content": "Hi"}, finish_reason=word))

    assert reader.finish is None
    with pytest.raises(BadReply) as broken:
        reader.end(eof_is_end=False)
    assert broken.value.error_class is ErrorClass.TRUNCATED_STREAM


def test_an_abort_ends_the_reply_as_broken_off() -> None:
    with pytest.raises(BadReply) as aborted:
        reader_of().read(choice(delta={}, finish_reason="abort"))
    assert aborted.value.error_class is ErrorClass.TRUNCATED_STREAM


def test_done_alone_or_the_close_ends_a_reply_only_where_an_engine_ends_so() -> None:
    done, closed = reader_of(), reader_of()
    done.read(choice(delta={"content": "Hi"}))
    done.read(b"[DONE]")
    closed.read(choice(delta={"content": "Hi"}))

    assert done.closed
    assert done.end(eof_is_end=False, done_is_end=True).reason == "stop"
    assert closed.end(eof_is_end=True).reason == "stop"
    with pytest.raises(BadReply):
        done.end(eof_is_end=False)


@pytest.mark.parametrize(
    ("frame", "usage"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Usage(5, 2)),
        ({"usage": {"input_tokens": 5, "output_tokens": 2}}, Usage(5, 2)),
        ({"usage": {"prompt_tokens": 5.0, "completion_tokens": 2, "cost": "0.01"}},
         Usage(5, 2, cost_usd=0.01)),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 9,
                    "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": 4}}},
         Usage(5, 9, 4, 3, 1)),
        ({"x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}}, Usage(5, 2)),
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2},
          "x_nanogpt_pricing": {"amount": 0.5}}, Usage(5, 2, cost_usd=0.5)),
        ({"timings": {"cache_n": 1, "prompt_n": 4, "predicted_n": 2}},
         Usage(5, 2, cache_read_tokens=1, source=UsageSource.DERIVED)),
        ({"usage": None}, None),
        ({"usage": {}}, None),
        ({"usage": {"prompt_tokens": None}}, None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": "many"}}, None),
        ({"usage": "much"}, None),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": "free"}}, Usage(1, 1)),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": -4}}, Usage(1, 1)),
    ],
)  # fmt: skip
def test_every_form_of_usage_is_understood(frame: dict[str, object], usage: Usage | None) -> None:
    exchange = Exchange()
    reader_of(exchange).read(json.dumps({"choices": [], **frame}).encode())

    assert exchange.usage == usage


@pytest.mark.parametrize(
    "frame",
    [
        b'{"error": {"message": "boom"}}',
        b'{"error": "boom"}',
        b'{"detail": "boom"}',
        b'{"object": "error", "message": "boom"}',
        b'{"choices": [{"delta": {}, "finish_reason": "error"}]}',
        b'{"choices": [{"delta": {}, "error": {"code": 502}}]}',
        b'{"choices": [{"delta": {"content": "Hi"}}], "error": {"code": 502}}',
    ],
)
def test_every_form_of_an_error_is_raised(frame: bytes) -> None:
    with pytest.raises(ProviderError):
        read(frame)


@pytest.mark.parametrize("frame", [b'{"error": null, "choices": []}', b'{"error": ""}', b"{}"])
def test_an_error_that_says_nothing_is_none(frame: bytes) -> None:
    assert read(frame) == []


def test_three_bad_frames_are_forgiven_and_the_fourth_in_a_row_is_not() -> None:
    exchange = Exchange()
    reader = reader_of(exchange)
    for frame in (b"{", b"[", b"x", choice(delta={"content": "Hi"}), b"{", b"{", b"{"):
        reader.read(frame)

    with pytest.raises(BadReply) as caught:
        reader.read(b"{")
    assert (caught.value.error_class, exchange.bad_frames) == (ErrorClass.BAD_FRAME, 7)


def test_broken_letters_are_replaced_rather_than_lost() -> None:
    events = read(choice(delta={"content": "caf?"}).replace(b"?", b"\xc3"))

    assert [getattr(event, "text", "") for event in events] == ["caf\ufffd"]


def test_broken_letters_are_replaced_in_members_that_are_passed_on() -> None:
    logprobs = {"content": [{"token": "?"}]}
    text = choice(delta={"content": "caf"}, logprobs=logprobs).replace(b"?", b"\xc3")
    last = choice(delta={}, finish_reason="stop", logprobs=logprobs, odd=1)
    reader = reader_of()

    (event,) = reader.read_all([text, last.replace(b"?", b"\xc3")])

    sent = (*event.frames, *reader.end(eof_is_end=False).frames)
    assert len(sent) == 2
    for frame in sent:
        assert json.loads(frame)["choices"][0]["logprobs"]["content"][0]["token"] == "\ufffd"


def test_broken_letters_are_replaced_among_plain_frames_too() -> None:
    plain = [choice(delta={"content": text}) for text in ("He", "llo ", "caf?", "?!", "ß", "é")]
    halves = zip(plain, (b"?", b"?", b"\xc3", b"\xa9", b"?", b"?"), strict=True)

    events = reader_of().read_all([frame.replace(b"?", half) for frame, half in halves])

    texts = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(texts) == "Hello caf\ufffd\ufffd!ßé"
    for event in events:
        assert [json.loads(frame) for frame in event.frames]


@pytest.mark.slow
def test_a_reply_without_end_is_cut_off() -> None:
    reader = reader_of()
    frame = choice(delta={"content": "x" * 1024 * 1024})
    reader.read(frame)
    reader.read(frame)

    with pytest.raises(BadReply) as caught:
        reader.read(frame)
    assert caught.value.error_class is ErrorClass.RESPONSE_TOO_LARGE


def test_what_came_before_a_failure_is_given_out_first() -> None:
    reader = reader_of()
    events = reader.read_all([choice(delta={"content": "Hi"}), b'{"error": "boom"}'], 2)

    assert len(events) == 1
    assert reader.exchange.keepalives == 2
    assert reader.failure is not None


def test_frames_that_differ_in_their_text_alone_are_one_event() -> None:
    he, llo = choice(delta={"content": "He"}), choice(delta={"content": "llo"})
    odd, thought = choice(delta={"content": "!"}, odd=1), choice(delta={"reasoning": "hm"})

    events = reader_of().read_all([he, he, llo, llo, thought, he, odd, llo])

    assert events == [
        TextDelta("He", (he,)),
        TextDelta("He", (he,)),
        TextDelta("llollo", (llo, llo), plain=True),
        ReasoningDelta("hm", (thought,)),
        TextDelta("He", (he,), plain=True),
        TextDelta("!", (odd,)),
        TextDelta("llo", (llo,)),
    ]


@pytest.mark.slow
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6), st.booleans())
def test_plain_frames_are_read_as_any_others(texts: list[str], ascii_only: bool) -> None:
    frames = [
        json.dumps(
            {"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=ascii_only
        ).encode()
        for text in texts
    ]

    events = reader_of().read_all(frames)

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "".join(texts)
    assert [frame for e in events for frame in e.frames] == frames


@pytest.mark.parametrize(
    "frame",
    [
        choice(delta={"content": 'a"b'}),
        choice(delta={"content": ""}),
        choice(delta={"content": "a"}) + b" ",
        choice(delta={"content": "a", "refusal": "b"}),
        choice(delta={"content": "a"}, logprobs={"content": [{"token": "a"}]}),
        b'{"model": "m", "choices": [{"index": 0, "delta": {"content": "a"}}], "usage": null}',
    ],
)
def test_after_plain_frames_every_other_is_read_in_full(frame: bytes) -> None:
    reader = reader_of()
    reader.read_all([choice(delta={"content": "Hi"})])

    later, alone = reader.read_all([frame]), read(frame)

    assert [getattr(e, "text", e) for e in later] == [getattr(e, "text", e) for e in alone]


def test_a_second_choice_between_frames_of_text_is_left_out() -> None:
    he = choice(delta={"content": "He"})
    other = json.dumps({"model": "m", "choices": [{"index": 1, "delta": {"content": "no"}}]})

    events = reader_of().read_all([he, he, other.encode(), he, he, he, other.encode()])

    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "He" * 5


def test_what_came_before_a_failing_frame_is_not_lost() -> None:
    reader = reader_of()
    he, llo = choice(delta={"content": "He"}), choice(delta={"content": "llo"})

    events = reader.read_all([he, he, llo, llo, b'{"error":{"message":"no"}}'])

    assert [event.frames for event in events] == [(he,), (he,), (llo, llo)]
    assert reader.failure is not None
