"""When a server says to come back: every form of it → seconds. Pure; the wall clock is passed."""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from understudy.llm.error_parser import ErrorFacts

_LONGEST_S = 3600.0
_SHORTEST_S = 1.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RESETS = (
    "x-ratelimit-reset",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "ratelimit-reset",
)


def retry_after_s(headers: Mapping[str, str], facts: ErrorFacts, wall: float) -> float | None:
    """Return the wait in seconds, 1 s to 1 h, or `None` where nothing usable was said.

    `headers` has lower-case names; `wall` is seconds since the epoch.
    """
    for wait in _waits(headers, facts, wall):
        if wait is not None and math.isfinite(wait) and wait > 0:
            return min(max(wait, _SHORTEST_S), _LONGEST_S)
    return None


def _waits(headers: Mapping[str, str], facts: ErrorFacts, wall: float) -> Iterable[float | None]:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        yield _scaled(_number(headers.get(name)), 0.001)
    yield _seconds_or_date(headers.get("retry-after"), wall)
    yield _seconds_or_date(facts.retry_after, wall)
    for delay in facts.retry_details:
        yield _duration(delay)
    yield _moment(facts.reset, wall)
    copied = {name.lower(): value for name, value in facts.headers}
    for source in (headers, copied):
        for name in _RESETS:
            yield _moment(source.get(name), wall)


def _seconds_or_date(value: object, wall: float) -> float | None:
    number = _number(value)
    if number is not None or not isinstance(value, str):
        return number
    try:
        return parsedate_to_datetime(value).timestamp() - wall
    except (ValueError, TypeError, IndexError, OverflowError):
        return _moment(value, wall)


def _moment(value: object, wall: float) -> float | None:
    """A reset: seconds to go, an epoch in seconds or milliseconds, a duration, or an ISO date."""
    number = _number(value)
    if number is not None:
        if number > 1e11:
            return number / 1000 - wall
        return number - wall if number > 1e8 else number
    if not isinstance(value, str):
        return None
    return _duration(value) or _iso(value, wall)


def _iso(value: str, wall: float) -> float | None:
    try:
        then = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - wall


def _duration(value: str) -> float | None:
    """`6m0s`, `1h`, `250ms`: as Groq, OpenAI and Google write them."""
    text = value.strip().lower()
    pieces = _DURATION.findall(text)
    if not pieces or "".join(n + unit for n, unit in pieces) != text:
        return None
    return sum(float(n) * _UNITS_S[unit] for n, unit in pieces)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
