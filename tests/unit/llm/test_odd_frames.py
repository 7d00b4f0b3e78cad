"""Frames that no standard allows and servers send: what is kept of each."""

import json

import pytest

from understudy.errors import BadReply, ErrorClass, ProviderError
from understudy.llm.client import Exchange
from understudy.llm.dialect import Dialect
from understudy.llm.error_classifier import classify
from understudy.llm.frames import CHUNK, as_reasoning, with_indexes, with_text, without_text
from understudy.llm.messages import Output, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from understudy.llm.sse import SseReader
from understudy.llm.stream_parser import StreamParser
from vendor_replies import CALLS, ERRORS, of

START = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
HI = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'


def parser() -> StreamParser:
    def classified(body: bytes) -> ProviderError:
        return classify(body, Dialect(engine="openai"), status=None, headers={}, wall=0.0)

    return StreamParser(Exchange(), classified)


def read(data: bytes) -> tuple[StreamParser, list[Output]]:
    """Read a stream byte by byte and in one piece, which must be the same."""
    whole, cut = SseReader(), SseReader()
    payloads = [*whole.feed(data), *whole.finish()]
    pieces = [p for n in range(len(data)) for p in cut.feed(data[n : n + 1])] + cut.finish()
    assert pieces == payloads
    reader = parser()
    return reader, reader.read_all(payloads)


def text_of(events: list[Output]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def frame(choice: str, rest: str = "") -> bytes:
    return f'data: {{"choices":[{choice}]{rest}}}\n\n'.encode()


@pytest.mark.parametrize(
    ("data", "dropped"),
    [
        (frame('{"index":0,"delta":{"content":"Hi","reasoning":{"odd":1}}}'), 1),
        (frame('{"index":0,"delta":{"content":"Hi"},"logprobs":{"content":[{"logprob":NaN},'
               '{"logprob":-Infinity}]}}'), 2),
        (frame('{"index":"0","delta":{"content":"Hi"}}'), 0),
        (frame('{"delta":{"content":"Hi"}}'), 0),
        (frame('{"index":0,"delta":{"content":"Hi"}}', ',"model":{"id":"m"},"id":1.5'), 2),
        (frame('{"index":0,"delta":{"content":"Hi","tool_calls":{}}}'), 1),
        (frame('{"index":0,"delta":{"content":"Hi"},"finish_reason":0}'), 1),
        (frame('{"index":0,"delta":{"content":"H\\ud83d"}}')
         + frame('{"index":0,"delta":{"content":"\\ude42i"}}'), 0),
        (b"data: null\n\n" * 9 + HI + b"data: {}\n\ndata: []\n\n", 0),
        (b"\xef\xbb\xbf" + HI, 0),
        (START.replace(b"\n", b"\r") + HI.replace(b"\n", b"\r"), 0),
        (frame('{"index":0,"delta":{"content":"H"}}')
         + frame('{"index":1,"delta":{"content":"i"}}'), 0),
    ],
)  # fmt: skip
def test_an_odd_member_costs_itself_and_never_the_text(data: bytes, dropped: int) -> None:
    reader, events = read(data)

    assert text_of(events).replace("\U0001f642", "") == "Hi"
    assert reader.failure is None
    assert reader.exchange.bad_members == dropped
    assert reader.exchange.bad_frames == 0
    assert all(json.loads(f) for event in events for f in event.frames)


@pytest.mark.parametrize("before", [b"", START, START + HI])
@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_any_dress_is_a_failure(before: bytes, error: bytes) -> None:
    reader, _ = read(before + error)

    assert reader.failure is not None
    assert reader.failure.error_class in (ErrorClass.SERVER_ERROR, ErrorClass.BAD_BODY)


def test_a_message_that_repeats_all_deltas_is_not_added() -> None:
    whole = frame('{"index":0,"finish_reason":"stop","message":{"content":"Hi","tool_calls":[]}}')
    reader, events = read(START + HI + whole)

    assert text_of(events) == "Hi"
    assert reader.end(eof_is_end=False).reason == "stop"


def test_a_reply_in_one_piece_needs_no_finish_reason() -> None:
    reader = parser()

    events = reader.read_whole(b'{"choices":[{"message":{"content":"Hi"},"finish_reason":null}]}')

    assert text_of(events) == "Hi"
    assert reader.end(eof_is_end=False).reason == "stop"


@pytest.mark.parametrize(
    ("rest", "usage"),
    [
        (',"usage":{"prompt_tokens":"12","completion_tokens":"3"}', Usage(12, 3)),
        (',"usage":{"prompt_tokens":12,"completion_tokens":3,"cost":{"usd":1}}', Usage(12, 3)),
        (',"usage":{"prompt_tokens":12,"completion_tokens":3},"x_groq":{"id":"q"}', Usage(12, 3)),
        (',"x_groq":{"usage":{"prompt_tokens":12,"completion_tokens":3}}', Usage(12, 3)),
    ],
)
def test_figures_are_read_wherever_and_however_they_are(rest: str, usage: Usage) -> None:
    reader, _ = read(HI + frame("", rest))

    assert reader.exchange.usage == usage


def calls_of(*deltas: dict[str, object], finish: str = "stop") -> list[tuple[object, ...]]:
    """Put the pieces together as the SDKs do: by index."""
    reader = parser()
    events: list[Output] = []
    for delta in deltas:
        events += reader.read(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode())
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    events += reader.read(json.dumps(last).encode())
    assert reader.end(eof_is_end=False).reason == "tool_calls"
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            call = calls.setdefault(event.index, ["", "", ""])
            call[0] += event.call_id or ""
            call[1] += event.name or ""
            call[2] += event.arguments
            (sent,) = event.frames or (b"{}",)
            pieces = json.loads(sent).get("choices", [{}])[0].get("delta", {}).get("tool_calls")
            assert pieces is None or pieces[0]["index"] == event.index
    assert not any(isinstance(e, TextDelta | ReasoningDelta) for e in events)
    return [(bool(c[0]) if c[0].startswith("call_") else c[0], c[1], c[2]) for c in calls.values()]


@pytest.mark.parametrize(("deltas", "calls"), CALLS)
def test_tool_calls_in_any_shape_become_those_of_the_sdks(
    deltas: tuple[dict[str, object], ...], calls: list[tuple[object, ...]]
) -> None:
    assert calls_of(*deltas) == calls


def test_members_of_a_call_that_nobody_knows_survive() -> None:
    reader = parser()
    call = {"index": 3, "id": "a", "function": of("f", "{}"), "extra_content": {"signature": "s"}}

    (event,) = reader.read(
        json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode()
    )

    sent = json.loads(event.frames[0])["choices"][0]["delta"]["tool_calls"]
    assert sent == [call | {"index": 0, "type": "function"}]


def test_frames_of_nothing_but_noise_are_still_a_failure() -> None:
    reader, _ = read(b"data: {broken\n\n" * 4)

    assert isinstance(reader.failure, BadReply)
    assert reader.failure.error_class is ErrorClass.BAD_FRAME


EMPTY_CALL: dict[str, object] = {"arguments": "", "name": ""}


def events_of(*choices: dict[str, object], **members: object) -> list[Output]:
    reader = parser()
    read = reader.read_whole if "message" in choices[0] else reader.read
    return [
        event
        for choice in choices
        for event in read(json.dumps({**members, "choices": [{"index": 0, **choice}]}).encode())
    ]


@pytest.mark.parametrize("form", ["delta", "message"])
def test_members_whose_every_member_is_empty_are_no_output(form: str) -> None:
    blank = {
        "content": "Hi",
        "function_call": EMPTY_CALL,
        "audio": {"data": "", "expires_at": 0, "id": "", "transcript": ""},
        "images": [],
        "tool_calls": [{"id": "", "function": EMPTY_CALL, "custom": {"input": "", "name": ""}}],
    }

    (event,) = events_of({form: blank})

    assert isinstance(event, TextDelta)
    assert "call" not in event.frames[0].decode()


@pytest.mark.parametrize("form", ["delta", "message"])
def test_a_function_beside_an_empty_custom_tool_is_a_function(form: str) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    both = call | {"custom": {"input": "", "name": ""}}

    (event,) = events_of({form: {"content": "", "tool_calls": [both]}})

    sent = json.loads(event.frames[0])["choices"][0]["delta"]["tool_calls"]
    assert sent == [call | {"index": 0}]


def test_calls_without_an_id_are_complete_in_a_reply_in_one_piece() -> None:
    message = {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}

    (event,) = events_of({"message": message, "finish_reason": None})

    assert isinstance(event, ToolCallDelta)
    assert event.name == "f"


@pytest.mark.parametrize("name", ["chat.completion", "chunk"])
def test_frames_of_a_wrong_name_get_the_right_one(name: str) -> None:
    first, second = events_of({"delta": {"content": "H"}}, {"delta": {"content": "i"}}, object=name)

    assert [json.loads(e.frames[0])["object"] for e in (first, second)] == [CHUNK, CHUNK]


def test_a_text_that_is_repeated_beside_the_delta_follows_it() -> None:
    (event,) = events_of({"delta": {"content": "<think>"}, "text": "<think>"})

    assert "<think>" not in with_text(event.frames[0], "").decode()
    assert "<think>" not in as_reasoning(event.frames[0], "hm").decode()
    assert without_text(event.frames[0]) is None


def test_later_items_of_a_list_get_the_index_that_sdks_join_them_by() -> None:
    sent: dict[str, int] = {}
    frames = [
        json.dumps({"choices": [{"delta": {"annotations": items}}]}, separators=(",", ":")).encode()
        for items in ([{"a": 1}, {"a": 2}], [{"a": 3}], [{"a": 4, "index": 0}])
    ]

    indexed = [json.loads(with_indexes(frame, sent)) for frame in frames]

    assert [one["choices"][0]["delta"]["annotations"] for one in indexed] == [
        [{"a": 1}, {"a": 2}],
        [{"a": 3, "index": 2}],
        [{"a": 4, "index": 0}],
    ]
