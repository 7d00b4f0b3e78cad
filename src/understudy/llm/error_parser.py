"""Every shape in which servers send errors → one flat set of facts. Untrusted, so never trusted."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from understudy.errors import NOT_JSON

_NO_OBJECT: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What an error said. Absent is `None` or empty; texts are the server's own."""

    message: str = ""
    code: str | None = None
    types: tuple[str, ...] = ()
    """Every typed name found, the most telling first, in lower case."""
    status: int | None = None
    """The status that the body itself names."""
    parameter: str | None = None
    n_ctx: int | None = None
    prompt_tokens: int | None = None
    retry_after: object = None
    retry_details: tuple[str, ...] = ()
    reset: object = None
    """An epoch, a number of seconds or an ISO date at which a limit is lifted."""
    limit_source: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    """Limit headers that were copied into the body."""
    moderated: bool = False
    is_json: bool = True


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body of any known shape; never raises."""
    text = body.strip()
    try:
        found: object = msgspec.json.decode(text)
    except NOT_JSON:
        return ErrorFacts(message=text[:2000].decode("utf-8", "replace"), is_json=False)
    return facts_of(found)


def facts_of(found: object) -> ErrorFacts:
    """Read an already decoded error."""
    if isinstance(found, list):  # Google wraps its error in an array
        found = found[0] if found else None
    if isinstance(found, str):
        return ErrorFacts(message=found[:4000])
    root = _object(found)
    node = _node(root)
    meta = _object(node.get("metadata"))
    availability = _object(node.get("availability"))
    details = _validation(node, root)
    return ErrorFacts(
        message=_message(node, meta, details),
        code=_text(meta.get("provider_code")) or _text(node.get("code")),
        types=_types(node, meta, availability, details),
        status=_status(node, root),
        parameter=_text(node.get("param")) or _last_location(details),
        n_ctx=_whole(node.get("n_ctx")),
        prompt_tokens=_whole(node.get("n_prompt_tokens")),
        retry_after=availability.get("retry_after", node.get("retry_after")),
        retry_details=tuple(
            _string(d.get("retryDelay")) for d in _objects(node.get("details")) if "retryDelay" in d
        ),
        reset=node.get("quota_reset_timestamp"),
        limit_source=_string(meta.get("limit_source")),
        headers=tuple((k, _text(v) or "") for k, v in _object(meta.get("headers")).items()),
        moderated="flagged_input" in meta or bool(meta.get("reasons")),
    )


def _node(root: dict[str, object]) -> dict[str, object]:
    """Find the innermost object that describes the error."""
    for choice in _objects(root.get("choices")):
        if not root.get("error") and choice.get("error"):
            return _node(choice)
    for key in ("error", "detail"):
        inner = root.get(key)
        if isinstance(inner, str):
            return {**root, "message": inner}
        if isinstance(inner, dict):
            return {str(k): v for k, v in inner.items()}
    return root


def _validation(node: dict[str, object], root: dict[str, object]) -> list[dict[str, object]]:
    """Find a list of validation failures: FastAPI's `detail`, Mistral's `message.detail`."""
    inner = _object(node.get("message"))
    return [*_objects(root.get("detail")), *_objects(inner.get("detail"))]


def _message(
    node: dict[str, object], meta: dict[str, object], details: list[dict[str, object]]
) -> str:
    parts = [_string(node.get("message")), _string(node.get("msg"))]
    raw = meta.get("raw")  # "Provider returned error" says nothing; what it wraps does
    if raw is not None:
        parts.append(raw if isinstance(raw, str) else msgspec.json.encode(raw).decode())
    parts += [_string(d.get("msg")) for d in details]
    return " ".join(part for part in parts if part)[:4000]


def _types(
    node: dict[str, object],
    meta: dict[str, object],
    availability: dict[str, object],
    details: list[dict[str, object]],
) -> tuple[str, ...]:
    found = (
        meta.get("error_type"),
        node.get("error_type"),
        availability.get("code"),
        node.get("type"),
        node.get("code"),
        node.get("status"),
        *(d.get("type") for d in details),
    )
    return tuple(t.lower() for t in found if isinstance(t, str) and t and not t.isdigit())


def _status(node: dict[str, object], root: dict[str, object]) -> int | None:
    for value in (
        node.get("http_status"),
        node.get("code"),
        node.get("status"),
        root.get("status"),
    ):
        number = _whole(value)
        if number is not None and 400 <= number < 600:
            return number
    return None


def _last_location(details: Iterable[dict[str, object]]) -> str | None:
    for detail in details:
        where = detail.get("loc")
        if isinstance(where, list) and where and detail.get("type") == "extra_forbidden":
            return _text(where[-1])
    return None


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else _NO_OBJECT


def _objects(value: object) -> list[dict[str, object]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text(value: object) -> str | None:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value) or None
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


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
