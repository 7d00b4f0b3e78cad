"""Fault by way to a reply: what a router must make of it, and the means to measure what it does."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from conformance.raw_primary import TEXT
from conformance.row import Primary, Row
from conformance.subject import Outcome, Sink, Site, Subject, Wish
from understudy.rehearsal.server import RehearsalServer

FALLBACK = "The understudy says the whole line instead."
MakeSubject = Callable[[Site], Subject]


@dataclass(frozen=True, slots=True)
class Way:
    """How a reply is asked for: of whom, and for which sink."""

    name: str
    make: MakeSubject
    sink: Sink
    is_program: bool = False
    """Whether it is asked for by a program, and not for people to read."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the table's limits are."""

    first_token_s: float
    word_s: float
    at_once_s: float
    """What "at once" may take."""
    late_s: float
    """How late a limit may fire."""
    connect_s: float = 100.0
    idle_s: float = 100.0


FULL = Pace(first_token_s=3.0, word_s=0.7, at_once_s=0.2, late_s=0.2, connect_s=1.0, idle_s=3.0)
PATIENT = Pace(first_token_s=100.0, word_s=0.03, at_once_s=60.0, late_s=60.0)
"""For test runs: order, calls and text are exact; the limits suit any machine."""
SHORT = replace(PATIENT, first_token_s=0.6)
"""The same for faults that are found out by waiting for the first token."""
SHORT_IDLE, SHORT_CONNECT = replace(PATIENT, idle_s=0.6), replace(PATIENT, connect_s=0.4)


def scaled(row: Row) -> Pace:
    """The pace of a row in test runs: a limit is short only where it is meant to pass."""
    if row.connects:
        return SHORT_CONNECT
    if row.waits:
        return SHORT_IDLE if row.part_seen else SHORT
    return PATIENT


@dataclass(frozen=True, slots=True)
class Measured:
    row: Row
    way: Way
    primary_calls: int
    fallback_calls: int
    outcome: Outcome
    complaints: tuple[str, ...] = field(default=())

    @property
    def is_whole(self) -> bool:
        """Whether the primary's answer is a reply."""
        return self.row.whole or (self.row.for_people and self.way.is_program)


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
        fallback = await stack.enter_async_context(_fallback())
        subject = make(_site(primary, None if alone else fallback, pace, commit_s))
        yield Stage(primary, fallback, await stack.enter_async_context(subject))


def _fallback() -> RehearsalServer:
    return RehearsalServer(f"say:{FALLBACK}")


def _site(
    primary: Primary, fallback: RehearsalServer | None, pace: Pace, commit_s: float = 45.0
) -> Site:
    second = None if fallback is None else fallback.base_url
    return Site(primary.base_url, second, pace.first_token_s, pace.idle_s, pace.connect_s, commit_s)


async def warm_up(make: MakeSubject) -> None:
    """The first request of a process pays for imports; no figure should."""
    async with stage(make, "ok", FULL) as on:
        await on.subject.ask(Wish(Sink.HELD))


async def measure(way: Way, row: Row, pace: Pace) -> Measured:
    fault = f"slow:{pace.word_s}" if row.fault == "slow" else row.fault
    async with AsyncExitStack() as stack:
        opened = RehearsalServer(fault) if row.opens is None else row.opens()
        primary: Primary = await stack.enter_async_context(opened)
        fallback = await stack.enter_async_context(_fallback())
        subject = await stack.enter_async_context(way.make(_site(primary, fallback, pace)))
        outcome = await subject.ask(row.wish(way.sink))
        seen = Measured(row, way, primary.calls, fallback.calls, outcome)
    return replace(seen, complaints=tuple(_complaints(seen, pace)))


def _complaints(seen: Measured, pace: Pace) -> list[str]:
    row, outcome, sink = seen.row, seen.outcome, seen.way.sink
    kept_part = row.part_seen and sink is Sink.APPEND_ONLY
    whole = seen.is_whole
    wanted_calls = (int(row.reached), 0 if kept_part or whole else 1)
    checks = {
        f"calls are not {wanted_calls}": (seen.primary_calls, seen.fallback_calls) != wanted_calls,
        "the text is not the fallback's": not (kept_part or whole) and outcome.text != FALLBACK,
        "the text is not the primary's": whole and not _is_primarys(row, outcome.text, whole=True),
        "the part is gone or mixed": kept_part and not _is_primarys(row, outcome.text, whole=False),
        "the sink hears no error": kept_part and outcome.failed != row.error_class,
        "the sink hears an error": not kept_part and outcome.failed != "",
        "the record is wrong": outcome.record not in ((), _record(seen, kept_part=kept_part)),
        "bad frames are not counted": row.fault == "badjson" and outcome.bad_frames != 1,
        "it took too long": _time(row, outcome, sink) > _limit(row, pace),
        "it gave up early": outcome.took_s < _least(row, pace),
    }
    return [complaint for complaint, holds in checks.items() if holds]


def _is_primarys(row: Row, text: str, *, whole: bool) -> bool:
    """Whether this is the primary's text; what a rehearsal server says is different each time."""
    if row.opens is None:
        return bool(text) and FALLBACK not in text
    return text == TEXT if whole else bool(text) and TEXT.startswith(text)


def _record(seen: Measured, *, kept_part: bool) -> tuple[str, ...]:
    row = seen.row
    if seen.is_whole:
        return ("ok",)
    return (row.error_class,) if kept_part else (row.error_class, "ok")


def _time(row: Row, outcome: Outcome, sink: Sink) -> float:
    """To the first visible text; where text had come before it broke, to the end."""
    if row.fault == "slow" and sink is Sink.HELD:
        return 0.0
    if row.part_seen or outcome.first_visible_s is None:
        return outcome.took_s
    return outcome.first_visible_s


def _least(row: Row, pace: Pace) -> float:
    if row.connects:
        return pace.connect_s
    if not row.waits:
        return 0.0
    return pace.idle_s if row.part_seen else pace.first_token_s


def _limit(row: Row, pace: Pace) -> float:
    if row.fault == "slow":
        return pace.word_s + pace.at_once_s
    waited = _least(row, pace)
    return waited + (pace.late_s if waited else pace.at_once_s)
