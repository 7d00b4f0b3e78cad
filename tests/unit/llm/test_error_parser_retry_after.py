"""Every way to say "come back later" becomes seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.llm.error_parser import ErrorFacts, retry_after_s

NOON = 1_795_435_200.0  # 2026-11-23 12:00:00 UTC


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "Mon, 23 Nov 2026 12:01:00 GMT"}, 60.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ms-retry-after-ms": "4000"}, 4.0),
        ({"x-ratelimit-reset": "1795435230000"}, 30.0),
        ({"x-ratelimit-reset": "1795435230"}, 30.0),
        ({"x-ratelimit-reset": "12"}, 12.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-requests": "1500ms"}, 1.5),
        ({"retry-after": "99999"}, 3600.0),
        ({"retry-after": "0.2"}, 1.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 11:59:00 GMT"}, None),
        ({}, None),
    ],
)
def test_headers_of_every_form_are_understood(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_s(headers, ErrorFacts(), NOON) == seconds


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        (ErrorFacts(retry_after=7), 7.0),
        (ErrorFacts(retry_after="7"), 7.0),
        (ErrorFacts(retry_details=("17s",)), 17.0),
        (ErrorFacts(reset="2026-11-23T12:10:00+00:00"), 600.0),
        (ErrorFacts(reset="2026-11-23T12:10:00"), 600.0),
        (ErrorFacts(headers=(("X-RateLimit-Reset", "1795435260000"),)), 60.0),
        (ErrorFacts(retry_after=True), None),
        (ErrorFacts(reset="tomorrow"), None),
    ],
)
def test_bodies_say_it_too(facts: ErrorFacts, seconds: float | None) -> None:
    assert retry_after_s({}, facts, NOON) == seconds


def test_a_header_comes_before_the_body() -> None:
    assert retry_after_s({"retry-after": "5"}, ErrorFacts(retry_after=50), NOON) == 5.0


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ms-retry-after-ms", "x-ratelimit-reset", "ratelimit-reset"]
)
SAID = st.one_of(
    st.text(),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.from_regex(r"\d{1,400}(ms|s|m|h|d)", fullmatch=True),
)


@pytest.mark.slow
@given(st.dictionaries(NAMES, SAID), SAID | st.floats() | st.none() | st.lists(st.integers()), SAID)
def test_whatever_a_server_says_the_wait_is_between_a_second_and_an_hour_or_unknown(
    headers: dict[str, str], in_body: object, reset: str
) -> None:
    facts = ErrorFacts(retry_after=in_body, retry_details=(reset,), reset=reset)

    wait = retry_after_s(headers, facts, NOON)

    assert wait is None or 1.0 <= wait <= 3600.0
