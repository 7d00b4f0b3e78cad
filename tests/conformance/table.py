"""Fault by sink: what a router must make of it, and the means to measure what it does."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from conformance.subject import Outcome, Sink, Site, Subject, Wish
from understudy.rehearsal.server import RehearsalServer

FALLBACK = "The understudy says the whole line instead."
MakeSubject = Callable[[Site], Subject]


@dataclass(frozen=True, slots=True)
class Row:
    fault: str
    error_class: str
    waits: bool = False
    """Found out only when the limit has passed."""
    image: bool = False
    may_trim_prompt: bool = True
    part_seen: bool = False
    """Breaks off after text: an append-only sink keeps the part and hears of the error."""
    whole: bool = False
    """Odd, but the primary's answer is whole."""

    def wish(self, sink: Sink) -> Wish:
        return Wish(sink, image=self.image, may_trim_prompt=self.may_trim_prompt)


ROWS = (
    Row("e500", "server_error"),
    Row("e503", "overloaded"),
    Row("e401", "auth"),
    Row("e402", "quota"),
    Row("e404img", "unsupported_input", image=True),
    Row("ctx", "context_overflow", may_trim_prompt=False),
    Row("html", "bad_body"),
    Row("err200", "rate_limited"),
    Row("empty", "empty_reply"),
    Row("nochoices", "empty_reply"),
    Row("firsterr", "server_error"),
    Row("roleerr", "server_error"),
    Row("e429:4", "rate_limited"),
    Row("e429long", "rate_limited"),
    Row("e429bare", "rate_limited"),
    Row("e429decimal", "rate_limited"),
    Row("e429date", "rate_limited"),
    Row("e400", "bad_request"),
    Row("e403", "auth"),
    Row("e404", "model_gone"),
    Row("e408", "server_error"),
    Row("e413", "payload_too_large"),
    Row("e422", "bad_request"),
    Row("e502", "server_error"),
    Row("e520", "server_error"),
    Row("e529", "overloaded"),
    Row("loading", "loading"),
    Row("redirect", "bad_body"),
    Row("reset", "truncated_stream"),
    Row("thinkonly", "empty_reply"),
    Row("leak", "garbage"),
    Row("silent", "first_token_timeout", waits=True),
    Row("hdrstall", "first_token_timeout", waits=True),
    Row("rolestall", "first_token_timeout", waits=True),
    Row("comments", "first_token_timeout", waits=True),
    Row("cut", "truncated_stream", part_seen=True),
    Row("cleancut", "truncated_stream", part_seen=True),
    Row("miderr", "server_error", part_seen=True),
    Row("halfframe", "truncated_stream", part_seen=True),
    Row("bareerr", "server_error", part_seen=True),
    Row("garbage", "garbage", part_seen=True),
    Row("replaced", "garbage", part_seen=True),
    Row("midstall", "idle_timeout", waits=True, part_seen=True),
    Row("badjson", "", whole=True),
    Row("slow", "", whole=True),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the table's limits are."""

    first_token_s: float
    word_s: float
    at_once_s: float
    """What "at once" may take."""
    late_s: float
    """How late a limit may fire."""


_WAITED_FOR = frozenset(row.fault for row in ROWS if row.waits)
FULL = Pace(first_token_s=3.0, word_s=0.7, at_once_s=0.2, late_s=0.2)
PATIENT = Pace(first_token_s=20.0, word_s=0.03, at_once_s=20.0, late_s=20.0)
"""For test runs: order, calls and text are exact; the limits suit any machine."""
SHORT = Pace(first_token_s=0.6, word_s=0.03, at_once_s=20.0, late_s=20.0)
"""The same for faults that are found out by waiting for a limit."""


def scaled(fault: str) -> Pace:
    """The pace of a fault in test runs: a limit is short only where it is meant to pass."""
    return SHORT if fault in _WAITED_FOR else PATIENT


@dataclass(frozen=True, slots=True)
class Measured:
    row: Row
    sink: Sink
    primary_calls: int
    fallback_calls: int
    outcome: Outcome
    complaints: tuple[str, ...] = field(default=())


@dataclass(slots=True)
class Stage:
    """Two servers and the router over them."""

    primary: RehearsalServer
    fallback: RehearsalServer
    subject: Subject


@asynccontextmanager
async def stage(
    make: MakeSubject, fault: str, pace: Pace, *, alone: bool = False, commit_s: float = 45.0
) -> AsyncGenerator[Stage, None]:
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(RehearsalServer(fault))
        fallback = await stack.enter_async_context(RehearsalServer(f"say:{FALLBACK}"))
        second = None if alone else fallback.base_url
        site = Site(primary.base_url, second, pace.first_token_s, commit_s)
        subject = await stack.enter_async_context(make(site))
        yield Stage(primary, fallback, subject)


async def warm_up(make: MakeSubject) -> None:
    """The first request of a process pays for imports; no figure should."""
    async with stage(make, "ok", FULL) as on:
        await on.subject.ask(Wish(Sink.HELD))


async def measure(make: MakeSubject, row: Row, sink: Sink, pace: Pace) -> Measured:
    fault = f"slow:{pace.word_s}" if row.fault == "slow" else row.fault
    async with stage(make, fault, pace) as on:
        outcome = await on.subject.ask(row.wish(sink))
        measured = Measured(row, sink, on.primary.calls, on.fallback.calls, outcome)
    return Measured(
        row,
        sink,
        measured.primary_calls,
        measured.fallback_calls,
        outcome,
        tuple(_complaints(measured, pace)),
    )


def _complaints(seen: Measured, pace: Pace) -> list[str]:
    row, outcome = seen.row, seen.outcome
    kept_part = row.part_seen and seen.sink is Sink.APPEND_ONLY
    whole = row.whole
    wanted_calls = (1, 0) if kept_part or whole else (1, 1)
    checks = {
        f"calls are not {wanted_calls}": (seen.primary_calls, seen.fallback_calls) != wanted_calls,
        "the text is not the fallback's": not (kept_part or whole) and outcome.text != FALLBACK,
        "the text is not the primary's": whole and outcome.text in ("", FALLBACK),
        "the part is gone or mixed": kept_part and (not outcome.text or FALLBACK in outcome.text),
        "the sink hears no error": kept_part and outcome.failed != row.error_class,
        "the sink hears an error": not kept_part and outcome.failed != "",
        "the record is wrong": outcome.record not in ((), _record(row, kept_part=kept_part)),
        "bad frames are not counted": row.fault == "badjson" and outcome.bad_frames != 1,
        "it took too long": _time(row, outcome, seen.sink) > _limit(row, pace),
        "it gave up early": row.waits and outcome.took_s < pace.first_token_s,
    }
    return [complaint for complaint, holds in checks.items() if holds]


def _record(row: Row, *, kept_part: bool) -> tuple[str, ...]:
    if row.whole:
        return ("ok",)
    return (row.error_class,) if kept_part else (row.error_class, "ok")


def _time(row: Row, outcome: Outcome, sink: Sink) -> float:
    """To the first visible text; where text had come before it broke, to the end."""
    if row.fault == "slow" and sink is Sink.HELD:
        return 0.0
    if row.part_seen or outcome.first_visible_s is None:
        return outcome.took_s
    return outcome.first_visible_s


def _limit(row: Row, pace: Pace) -> float:
    if row.fault == "slow":
        return pace.word_s + pace.at_once_s
    return pace.first_token_s + pace.late_s if row.waits else pace.at_once_s
