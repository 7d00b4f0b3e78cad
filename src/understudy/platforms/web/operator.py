"""The operator's page: candidates with cooldowns, attempts as they end, usage over time, the trace
of any reply, and the actions that need no restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from understudy.errors import ConfigError, StorageError
from understudy.platforms.web.api import ApiError, json_routes, read_json
from understudy.platforms.web.attempt_feed import AttemptFeed
from understudy.platforms.web.audit import audit
from understudy.platforms.web.event_stream import PING_S, event
from understudy.platforms.web.serializers import Json, attempt_row, reply_row
from understudy.platforms.web.templates import PageContext, page
from understudy.routing.ledger import LedgerReader, UsagePoint
from understudy.routing.records import AttemptRecord

POLL_S = 0.5
"""How often the candidates are compared with what was sent: cooldowns end without an attempt."""

_NEAR_S = 0.5
LEVELS = ("debug", "info", "warning", "error")
_SPANS = {"hour": (3600, 60), "day": (86_400, 1800), "month": (30 * 86_400, 86_400)}
"""(seconds back, seconds per point)"""


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One candidate's present state."""

    provider: str
    label: str
    model: str
    engine: str
    state: Literal["usable", "cooldown", "probing", "off"]
    reason: str = ""
    """In words, the cause of the cooldown, or why it is off."""
    until: float | None = None
    """Wall clock at which the cooldown ends."""
    running: int = 0
    """Running attempts."""
    waiting: int = 0
    """Requests in the queue of its server."""
    address: str = ""
    context_length: int | None = None
    vision: bool | None = None


@dataclass(frozen=True, slots=True)
class ServerTest:
    """The result of a real request to one candidate."""

    model: str
    ok: bool
    state: str
    advice: str
    first_output_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class OperatorActions:
    """What the operator can do from the page."""

    reload: Callable[[], Awaitable[str]]
    """Read the configuration again and return the result as a sentence. Raises ConfigError."""
    reset: Callable[[str | None], None]
    """End the cooldowns of one provider, or of all."""
    level: Callable[[], str]
    set_level: Callable[[str], None]
    test: Callable[[str], Awaitable[Sequence[ServerTest]]]
    """Probe the models of a provider, and ask each for a short reply."""


@dataclass(frozen=True, slots=True)
class OperatorDependencies:
    """What the page reads and changes."""

    candidates: Callable[[], Sequence[CandidateView]]
    ledger: LedgerReader
    feed: AttemptFeed
    actions: OperatorActions
    clock: Callable[[], float]
    page_context: Callable[[], PageContext]


class OperatorPages:
    def __init__(self, deps: OperatorDependencies) -> None:
        self._deps = deps
        self._testing: set[str] = set()

    def routes(self) -> list[Route]:
        return json_routes(
            ("GET", "/operator", self.show),
            ("GET", "/api/operator/events", self.events),
            ("GET", "/api/operator/usage", self.usage),
            ("GET", "/api/operator/replies/{reply}", self.reply),
            ("POST", "/api/operator/reload", self.reload),
            ("POST", "/api/operator/reset", self.reset),
            ("POST", "/api/operator/level", self.set_level),
            ("POST", "/api/operator/test", self.test),
        )

    async def show(self, _request: Request) -> Response:
        return page("operator", name=self._deps.page_context().name)

    async def events(self, _request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = event_stream(self._deps)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def usage(self, request: Request) -> Response:
        span = request.query_params.get("span", "hour")
        if span not in _SPANS:
            raise ApiError(400, f"span is one of: {', '.join(_SPANS)}")
        back_s, step_s = _SPANS[span]
        until = (self._deps.clock() // step_s + 1) * step_s
        points = await self._deps.ledger.series(until - back_s, until, step_s)
        return JSONResponse(
            {"since": until - back_s, "until": until, "step": step_s, "series": _series(points)}
        )

    async def reply(self, request: Request) -> Response:
        runs = await self._deps.ledger.reply(str(request.path_params["reply"])[:80])
        if not runs:
            raise ApiError(404, "No reply with that id is in the ledger.")
        traces = [
            {**reply_row(run), "attempts": [attempt_row(one) for one in run.attempts]}
            for run in runs
        ]
        return JSONResponse({"runs": traces})

    async def reload(self, request: Request) -> Response:
        audit(request, "reload")
        try:
            return JSONResponse({"said": await self._deps.actions.reload()})
        except ConfigError as error:
            raise ApiError(409, f"The configuration was not changed: {error}") from error

    async def reset(self, request: Request) -> Response:
        provider = (await read_json(request)).get("provider")
        known = [candidate.provider for candidate in self._deps.candidates()]
        if provider is not None and provider not in known:
            raise ApiError(404, "There is no such provider.")
        audit(request, "reset", str(provider or "all"))
        self._deps.actions.reset(str(provider) if provider is not None else None)
        return JSONResponse({"said": f"Cooldowns ended: {provider or 'all providers'}."})

    async def set_level(self, request: Request) -> Response:
        level = (await read_json(request)).get("level")
        if level not in LEVELS:
            raise ApiError(400, f"The log level is one of: {', '.join(LEVELS)}")
        audit(request, "level", str(level))
        self._deps.actions.set_level(str(level))
        return JSONResponse({"said": f"Log level: {level}."})

    async def test(self, request: Request) -> Response:
        """Test one provider; a second test of it has to wait for the first."""
        provider = (await read_json(request)).get("provider")
        if provider not in {candidate.provider for candidate in self._deps.candidates()}:
            raise ApiError(404, "There is no such provider.")
        if provider in self._testing:
            raise ApiError(409, "A test of this server is running.")
        audit(request, "test", str(provider))
        self._testing.add(str(provider))
        try:
            results = await self._deps.actions.test(str(provider))
        finally:
            self._testing.discard(str(provider))
        return JSONResponse({"results": [asdict(result) for result in results]})


@dataclass(frozen=True, slots=True)
class _Status:
    candidates: Sequence[CandidateView]
    level: str

    def is_same(self, other: "_Status | None") -> bool:
        """The ends of cooldowns are computed from two clocks, so they vary a little."""
        if other is None or self.level != other.level:
            return False
        if len(self.candidates) != len(other.candidates):
            return False
        return all(map(_is_same, self.candidates, other.candidates))


def _is_same(one: CandidateView, other: CandidateView) -> bool:
    near = abs((one.until or 0.0) - (other.until or 0.0)) < _NEAR_S
    return near and replace(one, until=None) == replace(other, until=None)


async def event_stream(deps: OperatorDependencies) -> AsyncIterator[bytes]:
    """The event stream of one operator's page: candidates when they change, rows as they end."""
    sent: _Status | None = None
    number, quiet_s = 0, 0.0
    yield event("start", {"now": deps.clock()})
    for row in await _stored_attempts(deps):
        yield event("row", row)
    with deps.feed.subscribe() as changed:
        while not deps.feed.closed:
            changed.clear()
            rows = deps.feed.since(number)
            number = deps.feed.count
            for row in rows:
                yield event("row", row)
            status = _Status(tuple(deps.candidates()), deps.actions.level())
            if not status.is_same(sent):
                sent = status
                yield event("board", {**asdict(status), "now": deps.clock()})
            quiet_s = 0.0 if rows else quiet_s + POLL_S
            if quiet_s >= PING_S:
                quiet_s = 0.0
                yield b": ping\n\n"
            await _wait(changed, POLL_S)


async def _stored_attempts(deps: OperatorDependencies) -> list[Json]:
    """Attempts of the last replies from the ledger, until the feed has rows of this process."""
    if deps.feed.count:
        return []
    try:
        replies = await deps.ledger.recent(20)
    except StorageError:
        return []
    attempts = sorted((one for reply in replies for one in reply.attempts), key=_began)
    return [{"kind": "attempt", **attempt_row(attempt)} for attempt in attempts]


def _began(attempt: AttemptRecord) -> float:
    return attempt.ts


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return


def _series(points: Sequence[UsagePoint]) -> dict[str, list[Json]]:
    """Points by provider."""
    series: dict[str, list[Json]] = {}
    for point in points:
        row = point.row
        known = [tokens for tokens in (row.input_tokens, row.output_tokens) if tokens is not None]
        series.setdefault(row.key, []).append(
            {
                "at": point.start,
                "tokens": sum(known) if known else None,
                "cost": row.cost_usd,
                "unknown_costs": row.unknown_costs,
                "latency": row.first_output_ms,
                "failures": row.failures,
                "attempts": row.attempts,
            }
        )
    return series
