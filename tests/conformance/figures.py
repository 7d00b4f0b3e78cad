"""What shows only over several requests, or when the one who asked has left, as single figures."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from conformance.gateway_subject import WAYS
from conformance.slow_clients import CLIENTS, STREAMED, is_whole, never_read
from conformance.subject import Outcome, Sink, Wish
from conformance.table import FALLBACK, FULL, MakeSubject, Pace, Way, stage
from understudy.rehearsal.server import RehearsalServer

SHOWN, APPENDED = Wish(Sink.EDITABLE), Wish(Sink.APPEND_ONLY)
_READ_S = 0.05
DEAD = ("e500", "reset", "e503", "html", "silent", "e401")
PHASES = {
    "before headers": "silent",
    "between headers and first token": "hdrstall",
    "after the role": "rolestall",
    "in mid-stream": "midstall",
}
_PATIENT = Pace(first_token_s=100, word_s=0, at_once_s=1, late_s=1)


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    measured: float
    least: float
    most: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.least <= self.measured <= self.most

    def line(self) -> str:
        wanted = f"{self.least:g} to {self.most:g}" if self.least != self.most else f"{self.most:g}"
        verdict = "" if self.holds else "  !! not met"
        digits = {"s": ".3f", "MB": ".2f"}.get(self.unit, "g")
        measured = f"{self.measured:{digits}}"
        return f"{self.name:<72} {measured:>7} {self.unit:<2} wanted {wanted}{verdict}"


async def ten_requests(make: MakeSubject, fault: str, pace: Pace) -> tuple[int, list[Outcome]]:
    """How often a primary that always fails so is called for ten requests in a row."""
    async with stage(make, fault, pace) as on:
        outcomes = [await on.subject.ask(SHOWN) for _ in range(10)]
        return on.primary.calls, outcomes


async def fifty_at_half_open(make: MakeSubject, pace: Pace) -> tuple[int, list[Outcome]]:
    """How many of fifty who come at once, right after a hold has run out, call the primary."""
    async with stage(make, "e429:4, ok:0.05", pace) as on:
        await on.subject.ask(SHOWN)
        on.subject.pass_time(4.5)
        outcomes = await asyncio.gather(*(on.subject.ask(SHOWN) for _ in range(50)))
        return on.primary.calls - 1, outcomes


async def both_rate_limited(make: MakeSubject, pace: Pace, later: str = "e429:20") -> list[Outcome]:
    """Twice offline: found out, and known. The primary says 30 s, the fallback as `later` says."""
    async with stage(make, "e429long", pace) as on:
        on.fallback.play(later)
        return [await on.subject.ask(SHOWN) for _ in range(2)]


async def while_held(make: MakeSubject, pace: Pace) -> tuple[int, list[Outcome]]:
    """Ten requests while a primary has asked for 30 s of peace."""
    async with stage(make, "e429long", pace) as on:
        outcomes = [await on.subject.ask(SHOWN) for _ in range(10)]
        return on.primary.calls, outcomes


async def comments_only(make: MakeSubject, budget_s: float) -> tuple[Outcome, float]:
    """A primary that sends nothing but comments, for as long as it is let; until when it was."""
    pace = Pace(budget_s, word_s=0, at_once_s=1, late_s=1)
    async with stage(make, "comments", pace) as on:
        started = time.monotonic()
        outcome = await on.subject.ask(APPENDED)
        await on.primary.until(lambda seen: bool(seen.disconnects))
        return outcome, on.primary.disconnects[0].at - started


async def seen_leaving(way: Way, fault: str) -> float:
    """Seconds from the caller's leaving to the server's noticing it."""
    async with stage(way.make, fault, _PATIENT) as on:
        left = await on.subject.abandon(Wish(way.sink), _stalled(on.primary))
        await on.primary.until(lambda seen: bool(seen.disconnects))
        assert on.fallback.calls == 0
        return on.primary.disconnects[0].at - left


async def _stalled(server: RehearsalServer) -> None:
    """Wait until a server hangs, and all it had sent has surely been read."""
    await server.until(lambda seen: seen.stalls == 1)
    await asyncio.sleep(_READ_S)


async def figures(make: MakeSubject) -> AsyncGenerator[Figure, None]:
    """Every figure with the limits at their full length; takes about a minute."""
    for fault in DEAD:
        calls, outcomes = await ten_requests(make, fault, FULL)
        whole = all(outcome.text == FALLBACK for outcome in outcomes)
        yield Figure(f"calls of ten requests in a row to a dead primary ({fault})", calls, 1, 3)
        yield Figure(f"replies among them ({fault})", 10 * whole, 10, 10)
    calls, outcomes = await fifty_at_half_open(make, FULL)
    yield Figure("calls of fifty requests at once at half-open", calls, 1, 1)
    offline = await both_rate_limited(make, FULL, "e429long")
    for words, outcome in zip(("found out", "known"), offline, strict=True):
        yield Figure(
            f"offline, both rate-limited with Retry-After: 30, {words}", outcome.took_s, 0, 0.2, "s"
        )
        yield Figure("  and the soonest time it names", outcome.retry_in_s or 0, 29, 30, "s")
    calls, outcomes = await while_held(make, FULL)
    slowest = max(outcome.took_s for outcome in outcomes)
    yield Figure(
        "slowest of ten replies while Retry-After: 30 holds the primary", slowest, 0, 0.2, "s"
    )
    yield Figure("  and calls to the primary meanwhile", calls, 1, 1)
    outcome, let_s = await comments_only(make, 8.0)
    yield Figure(
        "reply although the primary sends comments for ever, budget 8 s",
        outcome.took_s,
        8,
        8.2,
        "s",
    )
    yield Figure("  and the primary is let to", let_s, 8, 8.3, "s")
    for phase, fault in PHASES.items():
        for way in WAYS:
            seconds = await seen_leaving(way, fault)
            yield Figure(f"a caller's leaving is seen {phase} ({way.name})", seconds, 0, 0.3, "s")
    for way in STREAMED:
        seen = await never_read(way)
        of = f"of {CLIENTS} clients that never read ({way.name})"
        yield Figure(f"sent to each {of}", seen.sent_mb, 0, 16, "MB")
        yield Figure("  and held by the process for each", seen.held_mb, 0, 1.5, "MB")
        yield Figure("  and whole replies of another client", is_whole(seen.other), 1, 1)
        yield Figure("  and when it has its reply", seen.other.took_s, 0, 0.2, "s")
        yield Figure("  and the end of the last stream after they left", seen.left_s, 0, 1, "s")
