"""Odd and broken HTTP: informational responses, trailers, answers to half a request."""

from conformance.raw_primary import (
    ANSWER,
    BREATH,
    LAST_CHUNK,
    PART,
    STORY,
    STREAM,
    UNTIL_CLOSE,
    WHOLE,
    answers,
    chunk,
    flood,
    good_tls,
    sized,
    until_gone,
)
from conformance.row import Row

_100 = b"HTTP/1.1 100 Continue\r\n\r\n"
_103 = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nRetry-After: 99\r\n\r\n"
_101 = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
_HUGE = b"X-Filler: " + b"a" * 70_000 + b"\r\n"
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_MOST_INFORMATIONAL = 32

_INFORMATIONAL = (
    Row("100 first", "", whole=True, opens=answers(_100, WHOLE)),
    Row("103 first", "", whole=True, opens=answers(_103 + _103, BREATH, WHOLE)),
    Row("32 times 103", "", whole=True, opens=answers(_103 * _MOST_INFORMATIONAL + WHOLE)),
    Row("33 times 103", "bad_body", opens=answers(_103 * (_MOST_INFORMATIONAL + 1) + WHOLE)),
    Row("100 for ever", "bad_body", opens=answers(flood(_100))),
    Row("103 for ever", "bad_body", opens=answers(flood(_103))),
    Row("slow 103 for ever", "first_token_timeout", waits=True, opens=answers(flood(_103, 0.15))),
    Row("103, then silence", "first_token_timeout", waits=True, opens=answers(_103, until_gone)),
    Row("103, then the end", "truncated_stream", opens=answers(_103)),
    Row("half a 103", "truncated_stream", opens=answers(_103[:30])),
    Row("huge 103", "bad_body", opens=answers(_103[:-2] + _HUGE + b"\r\n", WHOLE)),
    Row("101", "bad_body", opens=answers(_101, until_gone)),
)

_BROKEN_OFF = (STREAM + chunk(PART), BREATH, LAST_CHUNK)
_STREAMED = (STREAM + chunk(STORY) + LAST_CHUNK,)
_ANSWERED = (_JSON + chunk(ANSWER) + LAST_CHUNK,)
_TRAILERS = b"X-Checksum: 5\r\nContent-Encoding: gzip\r\nRetry-After: 99\r\n\r\n"
_MALFORMED = b"no trailer\r\n\r\n"

_AFTER_STREAMS = (
    Row("trailers", "", whole=True, opens=answers(*_STREAMED, _TRAILERS)),
    Row("malformed trailers", "", whole=True, opens=answers(*_STREAMED, _MALFORMED)),
    Row("huge trailers", "", whole=True, opens=answers(*_STREAMED, flood(_HUGE))),
    Row("trailers that stop", "", whole=True, opens=answers(*_STREAMED, b"X-", until_gone)),
)
_AFTER_PARTS = (
    Row(
        "a part, trailers",
        "truncated_stream",
        part_seen=True,
        opens=answers(*_BROKEN_OFF, _TRAILERS),
    ),
    Row(
        "a part, malformed trailers",
        "truncated_stream",
        part_seen=True,
        opens=answers(*_BROKEN_OFF, _MALFORMED),
    ),
    Row(
        "a part, huge trailers",
        "truncated_stream",
        part_seen=True,
        opens=answers(*_BROKEN_OFF, flood(_HUGE)),
    ),
    Row(
        "a part, trailers that stop",
        "idle_timeout",
        waits=True,
        part_seen=True,
        opens=answers(*_BROKEN_OFF, b"X-", until_gone),
    ),
)
_AFTER_JSON = (
    Row("JSON, trailers", "", whole=True, opens=answers(*_ANSWERED, _TRAILERS)),
    Row("JSON, malformed trailers", "bad_body", opens=answers(*_ANSWERED, _MALFORMED)),
    Row("JSON, huge trailers", "bad_body", opens=answers(*_ANSWERED, flood(_HUGE))),
    Row(
        "JSON, trailers that stop",
        "first_token_timeout",
        waits=True,
        opens=answers(*_ANSWERED, b"X-", until_gone),
    ),
)

_REFUSALS = (
    ("413 Content Too Large", "payload_too_large"),
    ("429 Too Many Requests", "rate_limited"),
    ("401 Unauthorized", "auth"),
    ("503 Service Unavailable", "overloaded"),
)
_EARLY = tuple(
    Row(
        f"early {status[:3]}{' over TLS' if tls else ''}",
        error_class,
        large=True,
        opens=answers(
            sized(b'{"error": "no"}', status.encode(), b"Connection: close"), tls=tls, early=True
        ),
    )
    for tls in (None, good_tls)
    for status, error_class in _REFUSALS
) + tuple(
    Row(
        f"early answer{' over TLS' if tls else ''}",
        "",
        whole=True,
        large=True,
        opens=answers(UNTIL_CLOSE + STORY, tls=tls, early=True),
    )
    for tls in (None, good_tls)
)

HTTP_ROWS = (*_INFORMATIONAL, *_AFTER_STREAMS, *_AFTER_PARTS, *_AFTER_JSON, *_EARLY)
