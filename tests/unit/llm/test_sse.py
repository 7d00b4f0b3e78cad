"""Bytes → frames, however servers write and networks cut them."""

from collections import deque
from itertools import pairwise, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import BadReply, ErrorClass
from understudy.llm.sse import SseReader


def frames(*pieces: bytes) -> list[bytes]:
    reader = SseReader()
    found = [payload for piece in pieces for payload in reader.feed(piece)]
    return found + reader.finish()


@pytest.mark.parametrize(
    ("stream", "payloads"),
    [
        (b'data: {"a":1}\n\ndata: [DONE]\n\n', [b'{"a":1}', b"[DONE]"]),
        (b'data:{"a":1}\r\n\r\ndata:[DONE]\r\n\r\n', [b'{"a":1}', b"[DONE]"]),
        (b": ping\n\n: ping - 3\r\n\r\ndata: 1\n\n", [b"1"]),
        (b"event: message\nid: 3\nretry: 10\ndata: {}\n\n", [b"{}"]),
        (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
        (b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n', [b'{"a":1}', b'{"b":2}', b"[DONE]"]),
        (b"data: {}\n\ndata: [DONE]", [b"{}", b"[DONE]"]),
        (b'data: {"a":1}\n\n{"error":"boom"}', [b'{"a":1}', b'{"error":"boom"}']),
        (b"data: 1\n\nwhat is this\n\n", [b"1", b"what is this"]),
        (b"data: \n\n\n\ndata:\n\n", []),
    ],
    ids=[
        "plain",
        "no space and CRLF",
        "comments",
        "other fields",
        "data over two lines",
        "no blank lines between frames",
        "no newline at the end",
        "bare JSON",
        "junk is handed on",
        "empty data",
    ],
)
def test_every_way_of_writing_a_stream_is_read(stream: bytes, payloads: list[bytes]) -> None:
    assert frames(stream) == payloads


@given(st.lists(st.integers(0, 200), max_size=8))
def test_it_does_not_matter_where_the_bytes_were_cut(cuts: list[int]) -> None:
    stream = 'data: {"t":"größer 🎭"}\r\n\r\n: ping\n\ndata:{"t":"ü"}\n\ndata: [DONE]'.encode()
    edges = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})

    pieces = [stream[a:b] for a, b in pairwise(edges)]

    assert frames(*pieces) == frames(stream)


def test_comments_are_counted_once() -> None:
    reader = SseReader()
    reader.feed(b": a\n\n: b\n\n")

    assert (reader.take_comments(), reader.take_comments()) == (2, 0)


def test_a_line_without_end_is_refused() -> None:
    reader = SseReader()

    reader.feed(b"x" * 4 * 1024 * 1024)
    with pytest.raises(BadReply) as caught:
        reader.feed(b"x")

    assert caught.value.error_class is ErrorClass.RESPONSE_TOO_LARGE


@pytest.mark.parametrize("line", [b"data: and so on\n", b"data: %b\n" % (b"x" * 100_000)])
def test_a_frame_without_an_end_is_given_up(line: bytes) -> None:
    reader = SseReader()

    with pytest.raises(BadReply) as caught:
        deque(map(reader.feed, repeat(line, 5000)), maxlen=0)

    assert caught.value.error_class is ErrorClass.RESPONSE_TOO_LARGE
