"""The operator's page: candidates and their cooldowns, attempts as they happen, usage over time,
the story of any reply, and the few switches that need no restart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from understudy.errors import ConfigError, StorageError
from understudy.platforms.web.api import Refused, answered, read_json
from understudy.platforms.web.attempt_feed import AttemptFeed
from understudy.platforms.web.live import PING_S, event
from understudy.platforms.web.serializers import Json, attempt_row, reply_row
from understudy.platforms.web.templates import PageContext, page
from understudy.routing.ledger import LedgerReader, UsagePoint
from understudy.routing.records import AttemptRecord

LOOK_S = 0.5
"""How often the board is looked at anew: cooldowns end without an attempt."""

_NEAR_S = 0.5
LEVELS = ("debug", "info", "warning", "error")
_SPANS = {"hour": (3600, 60), "day": (86_400, 1800), "month": (30 * 86_400, 86_400)}
"""Seconds back, and seconds per point."""


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One candidate as it stands right now."""

    provider: str
    label: str
    model: str
    engine: str
    state: Literal["usable", "resting", "probing", "off"]
    reason: str = ""
    """In words, why it rests or is off."""
    until: float | None = None
    """Wall clock at which it may be tried again."""
    running: int = 0
    """Attempts under way."""


@dataclass(frozen=True, slots=True)
class OperatorActions:
    """What the operator can do from the page."""

    reload: Callable[[], Awaitable[str]]
    """Read the configuration again; what came of it in a sentence. Raises ConfigError."""
    reset: Callable[[str | None], None]
    """End the cooldowns of one provider, or of all."""
    level: Callable[[], str]
    set_level: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class OperatorDependencies:
    """All that the page reads and moves."""

    candidates: Callable[[], Sequence[CandidateView]]
    ledger: LedgerReader
    feed: AttemptFeed
    switches: OperatorActions
    clock: Callable[[], float]
    face: Callable[[], PageContext]


class OperatorPages:
    def __init__(self, desk: OperatorDependencies) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
            ("GET", "/operator", self.show),
            ("GET", "/api/operator/events", self.events),
            ("GET", "/api/operator/usage", self.usage),
            ("GET", "/api/operator/replies/{reply}", self.reply),
            ("POST", "/api/operator/reload", self.reload),
            ("POST", "/api/operator/reset", self.reset),
            ("POST", "/api/operator/level", self.set_level),
        )
        return [Route(path, answered(call), methods=[method]) for method, path, call in table]

    async def show(self, _request: Request) -> Response:
        return page("operator", name=self._desk.face().name)

    async def events(self, _request: Request) -> Response:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = watch(self._desk)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def usage(self, request: Request) -> Response:
        span = request.query_params.get("span", "hour")
        if span not in _SPANS:
            raise Refused(400, f"span is one of: {', '.join(_SPANS)}")
        back_s, step_s = _SPANS[span]
        until = (self._desk.clock() // step_s + 1) * step_s
        points = await self._desk.ledger.series(until - back_s, until, step_s)
        return JSONResponse(
            {"since": until - back_s, "until": until, "step": step_s, "series": _series(points)}
        )

    async def reply(self, request: Request) -> Response:
        runs = await self._desk.ledger.reply(str(request.path_params["reply"])[:80])
        if not runs:
            raise Refused(404, "No reply with that id is in the ledger.")
        stories = [
            {**reply_row(run), "attempts": [attempt_row(one) for one in run.attempts]}
            for run in runs
        ]
        return JSONResponse({"runs": stories})

    async def reload(self, _request: Request) -> Response:
        try:
            return JSONResponse({"said": await self._desk.switches.reload()})
        except ConfigError as error:
            raise Refused(409, f"The old configuration stays: {error}") from error

    async def reset(self, request: Request) -> Response:
        provider = (await read_json(request)).get("provider")
        known = [candidate.provider for candidate in self._desk.candidates()]
        if provider is not None and provider not in known:
            raise Refused(404, "There is no such provider.")
        self._desk.switches.reset(str(provider) if provider is not None else None)
        return JSONResponse({"said": f"{provider or 'Every provider'} may be tried again."})

    async def set_level(self, request: Request) -> Response:
        level = (await read_json(request)).get("level")
        if level not in LEVELS:
            raise Refused(400, f"The log level is one of: {', '.join(LEVELS)}")
        self._desk.switches.set_level(str(level))
        return JSONResponse({"said": f"Logging from {str(level).upper()} up."})


@dataclass(frozen=True, slots=True)
class _Board:
    candidates: Sequence[CandidateView]
    level: str

    def is_like(self, other: "_Board | None") -> bool:
        """Ends of rests come from two clocks, so they differ a little each time they are asked."""
        if other is None or self.level != other.level:
            return False
        if len(self.candidates) != len(other.candidates):
            return False
        return all(map(_is_like, self.candidates, other.candidates))


def _is_like(one: CandidateView, other: CandidateView) -> bool:
    near = abs((one.until or 0.0) - (other.until or 0.0)) < _NEAR_S
    return near and replace(one, until=None) == replace(other, until=None)


async def watch(desk: OperatorDependencies) -> AsyncIterator[bytes]:
    """The event stream of one operator's page: the board when it changes, rows as they come."""
    told: _Board | None = None
    number, quiet_s = 0, 0.0
    yield event("start", {"now": desk.clock()})
    for row in await _before(desk):
        yield event("row", row)
    with desk.feed.listening() as changed:
        while not desk.feed.closed:
            changed.clear()
            news = desk.feed.since(number)
            number = desk.feed.count
            for row in news:
                yield event("row", row)
            board = _Board(tuple(desk.candidates()), desk.switches.level())
            if not board.is_like(told):
                told = board
                yield event("board", {**asdict(board), "now": desk.clock()})
            quiet_s = 0.0 if news else quiet_s + LOOK_S
            if quiet_s >= PING_S:
                quiet_s = 0.0
                yield b": here\n\n"
            await _changed_within(changed, LOOK_S)


async def _before(desk: OperatorDependencies) -> list[Json]:
    """Attempts of the last replies before this process: its own are in the feed."""
    if desk.feed.count:
        return []
    try:
        replies = await desk.ledger.recent(20)
    except StorageError:
        return []
    attempts = sorted((one for reply in replies for one in reply.attempts), key=_began)
    return [{"kind": "attempt", **attempt_row(attempt)} for attempt in attempts]


def _began(attempt: AttemptRecord) -> float:
    return attempt.ts


async def _changed_within(changed: asyncio.Event, seconds: float) -> None:
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
                "latency": row.first_output_ms,
                "failures": row.failures,
                "attempts": row.attempts,
            }
        )
    return series
