"""Interfaces of the usage ledger: writing what replies used and cost, and reading it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from understudy.clock import DAY_S
from understudy.routing.records import AttemptRecord, Outcome, ReplyRecord


def start_of_day(wall: float) -> float:
    """Start of the day in UTC, from which limits per day count."""
    return wall - wall % DAY_S


def start_of_next_day(wall: float) -> float:
    return start_of_day(wall) + DAY_S


class Grouping(StrEnum):
    PROVIDER = "provider"
    MODEL = "model"
    """The model that answered, where the server names it; else the requested one."""
    USER = "user"
    CHANNEL = "channel"
    PURPOSE = "purpose"
    """`reply`, or work of the bot itself: `summary`, `caption`, `title`."""
    DAY = "day"
    """UTC."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Totals of one group of attempts. Sums of known values; `None` where none is known."""

    key: str
    replies: int
    """Attempts whose text was delivered, partial replies included."""
    attempts: int
    """Attempts however they ended; skips are not counted."""
    failures: int
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cache_read_tokens: int | None
    estimated_tokens: int
    """Input and output tokens that are estimated, because no server reported them."""
    cost_usd: float | None
    unknown_costs: int
    """Attempts that used tokens or may have been billed, at an unknown price."""
    first_output_ms: float | None
    """Mean time to the first output of the attempts that had any."""
    total_ms: float | None
    """Mean of the attempts that ended well."""


@dataclass(frozen=True, slots=True)
class UsagePoint:
    """One provider in one span of time, for plots."""

    start: float
    """Wall clock."""
    row: UsageRow


class Spent(msgspec.Struct, frozen=True):
    """What one user, or all users together, used."""

    replies: int = 0
    """Delivered replies; a reply that failed does not count as a request."""
    tokens: int = 0
    """Input and output of all attempts, estimated ones included."""
    usd: float = 0.0
    """As far as it is known."""


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts are wanted: those before `until` that have every word."""

    until: float
    """Wall clock; not included."""
    words: tuple[str, ...] = ()
    """Parts of server, model, error, platform, user, channel or reply id, in any case."""
    outcome: Outcome | None = None


class LedgerWriter(Protocol):
    async def add(self, ended: Sequence[ReplyRecord]) -> None:
        """Store replies with all their attempts in one transaction; stored ones are unchanged.
        Raises StorageError; then none was stored."""
        ...

    async def prune(self, before: float) -> int:
        """Delete replies that started before `before`; returns how many."""
        ...


class LedgerReader(Protocol):
    """All times are wall clock; `since` is included, `until` is not."""

    async def usage(self, by: Grouping, since: float, until: float) -> tuple[UsageRow, ...]:
        """Ordered by cost, then by tokens, highest first; days in order."""
        ...

    async def series(self, since: float, until: float, step_s: int) -> tuple[UsagePoint, ...]:
        """Per provider and span of `step_s` seconds, in order of time; empty spans are absent."""
        ...

    async def spent(self, since: float) -> dict[str, Spent]:
        """Per user; requests without a user count under the empty name."""
        ...

    async def reply(self, reply_id: str) -> tuple[ReplyRecord, ...]:
        """Every run of that reply, oldest first: a late answer is a second run."""
        ...

    async def attempts(
        self, wanted: AttemptFilter, limit: int, skip: int
    ) -> tuple[AttemptRecord, ...]:
        """Newest first, without the first `skip`."""
        ...

    async def recent(self, limit: int) -> tuple[ReplyRecord, ...]:
        """The newest replies, newest first."""
        ...
