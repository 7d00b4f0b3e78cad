"""Frames → events: every form in which servers say the same thing."""

import json
from dataclasses import replace

import pytest

from understudy.errors import BadReply, ErrorClass, ProviderError
from understudy.llm.client import Exchange
from understudy.llm.messages import (
    ChatEvent,
    Finished,
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
         [ToolCallDelta(1, "a", "f", "{")]),
        ({"tool_calls": [{"function": {}}]}, [ToolCallDelta(0, None, None, "")]),
    ],
)  # fmt: skip
def test_every_form_of_a_delta_is_understood(
    delta: dict[str, object], events: list[ChatEvent]
) -> None:
    found = read(choice(delta=delta))

    assert [unraw(event) for event in found] == events


def unraw(event: ChatEvent) -> ChatEvent:
    return event if isinstance(event, Finished) else replace(event, raw=())


def test_a_frame_is_kept_only_where_it_holds_one_thing() -> None:
    alone = choice(delta={"content": "Hi"})
    both = choice(delta={"content": "Hi", "reasoning": "hm"})
    last = choice(delta={"content": "Hi"}, finish_reason="stop")
    whole = choice(message={"content": "Hi"})

    kept = [[getattr(event, "raw", 0) for event in read(frame)] for frame in (alone, both, last)]

    assert kept == [[(alone,)], [(), ()], [()]]
    assert read(whole) == [TextDelta("Hi")]


def test_only_the_first_of_several_choices_counts() -> None:
    second = json.dumps({"choices": [{"index": 1, "delta": {"content": "other"}}]}).encode()

    assert read(choice(delta={"content": "Hi"}), second)[1:] == []


@pytest.mark.parametrize("word", ["", " ", "null", None])
def test_a_word_that_is_none_leaves_the_reply_open(word: str | None) -> None:
    reader = reader_of()
    reader.read(choice(delta={"content": "Hi"}, finish_reason=word))

    assert not reader.finished
    with pytest.raises(BadReply) as broken:
        reader.end(eof_is_end=False)
    assert broken.value.error_class is ErrorClass.TRUNCATED_STREAM


def test_an_abort_ends_the_reply_as_broken_off() -> None:
    with pytest.raises(BadReply) as aborted:
        reader_of().read(choice(delta={}, finish_reason="abort"))
    assert aborted.value.error_class is ErrorClass.TRUNCATED_STREAM


def test_done_alone_ends_a_reply_and_so_does_the_close_where_an_engine_ends_so() -> None:
    done, closed = reader_of(), reader_of()
    done.read(choice(delta={"tool_calls": [{"function": {"name": "f"}}]}))
    done.read(b"[DONE]")
    closed.read(choice(delta={"content": "Hi"}))

    assert done.closed
    assert done.end(eof_is_end=False).reason == "tool_calls"
    assert closed.end(eof_is_end=True).reason == "stop"


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
    with pytest.raises(ProviderError):
        reader.raise_failure()


def test_text_that_came_in_one_go_is_one_event_with_all_its_frames() -> None:
    he, llo = choice(delta={"content": "He"}), choice(delta={"content": "llo"})
    thought = choice(delta={"reasoning": "hm"})
    last = choice(delta={"content": "!"}, finish_reason="stop")

    events = reader_of().read_all([he, llo, thought, he, last], comments=0)

    assert events == [
        TextDelta("Hello", (he, llo)),
        ReasoningDelta("hm", (thought,)),
        TextDelta("He", (he,)),
        TextDelta("!"),
    ]


def test_what_came_before_a_failing_frame_is_not_lost() -> None:
    reader = reader_of()
    he, llo = choice(delta={"content": "He"}), choice(delta={"content": "llo"})

    events = reader.read_all([he, llo, b'{"error":{"message":"no"}}'], comments=0)

    assert events == [TextDelta("Hello", (he, llo))]
    with pytest.raises(BadReply):
        reader.raise_failure()


def test_what_is_told_of_tokens_is_kept_where_a_frame_is_not() -> None:
    told = {"content": [{"token": "Hi", "logprob": -0.5}]}
    said = choice(delta={"content": "Hi"}, logprobs=told)
    last = choice(delta={"content": "Hi"}, logprobs=told, finish_reason="stop")
    bare = choice(text="Hi", logprobs=told, finish_reason="stop")
    both = choice(delta={"content": "Hi", "reasoning": "hm"}, logprobs=told)
    nothing = choice(delta={"content": "Hi"}, logprobs=None)

    for frame in (said, last, bare, both):
        (kept,) = [e.logprobs for e in read(frame) if isinstance(e, TextDelta)]
        assert [json.loads(piece) for piece in kept] == [told]
    assert read(nothing) == [TextDelta("Hi", (nothing,))]
    (joined,) = reader_of().read_all([said, said], 0)
    assert isinstance(joined, TextDelta)
    assert len(joined.logprobs) == 2
