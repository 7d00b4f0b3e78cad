"""TLS that fails: certificates, handshakes, connections that end without the end of TLS."""

import ssl
from datetime import UTC, datetime, timedelta

from certificates import served_by
from conformance.raw_primary import (
    BREATH,
    PART,
    STORY,
    STREAM,
    UNTIL_CLOSE,
    WHOLE,
    accepts,
    answers,
    authority,
    chunk,
    garble,
    good_tls,
    reset,
    shakes_hands,
    unknown_tls,
    until_gone,
    vanish,
)
from conformance.row import Row


def _wrong_name() -> ssl.SSLContext:
    return served_by(authority(), "other.example.test")


def _expired() -> ssl.SSLContext:
    return served_by(authority(), "127.0.0.1", until=datetime.now(UTC) - timedelta(days=1))


def _wants_a_certificate() -> ssl.SSLContext:
    context = good_tls()
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _other_ciphers() -> ssl.SSLContext:
    context = good_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the certificate is no RSA one
    return context


_PLAIN = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
_ALERT = b"\x15\x03\x03\x00\x02\x02\x50"
"""A fatal alert: an error inside the server."""

_HANDSHAKES = (
    Row("TLS", "", whole=True, opens=answers(WHOLE, tls=good_tls)),
    *(
        Row(fault, "tls", reached=False, opens=answers(WHOLE, tls=context))
        for fault, context in (
            ("certificate of another name", _wrong_name),
            ("certificate that has run out", _expired),
            ("certificate of an unknown CA", unknown_tls),
        )
    ),
    *(
        Row(fault, "tls", reached=False, opens=shakes_hands(context))
        for fault, context in (
            ("client certificate wanted", _wants_a_certificate),
            ("no cipher in common", _other_ciphers),
        )
    ),
    Row("plain HTTP where TLS is", "tls", reached=False, opens=accepts(BREATH, _PLAIN)),
    Row("alert in the handshake", "tls", reached=False, opens=accepts(_ALERT, until_gone)),
    Row("end in the handshake", "connect_refused", reached=False, opens=accepts(BREATH)),
    Row("reset in the handshake", "connect_refused", reached=False, opens=accepts(BREATH, reset)),
    Row(
        "handshake that hangs",
        "connect_timeout",
        connects=True,
        reached=False,
        opens=accepts(until_gone),
    ),
)

_PART = STREAM + chunk(PART)
_BODIES = (
    Row(
        "no close_notify after the answer",
        "",
        whole=True,
        opens=answers(UNTIL_CLOSE + STORY, BREATH, vanish, tls=good_tls),
    ),
    *(
        Row(fault, error_class, part_seen=True, opens=answers(*moves, tls=good_tls))
        for fault, error_class, moves in (
            ("no close_notify in a chunk", "truncated_stream", (_PART[:-5], BREATH, vanish)),
            ("no close_notify", "truncated_stream", (UNTIL_CLOSE + PART, BREATH, vanish)),
            ("close_notify in the body", "truncated_stream", (_PART, BREATH)),
            ("reset in the body", "truncated_stream", (_PART, BREATH, reset)),
            ("garbled record", "truncated_stream", (_PART, BREATH, garble)),
        )
    ),
    Row(
        "no close_notify before the answer",
        "truncated_stream",
        opens=answers(BREATH, vanish, tls=good_tls),
    ),
    Row(
        "silence in the body",
        "idle_timeout",
        waits=True,
        part_seen=True,
        opens=answers(_PART, until_gone, tls=good_tls),
    ),
)

TLS_ROWS = (*_HANDSHAKES, *_BODIES)
