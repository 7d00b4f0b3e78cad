"""Enforces `limits`: what one user, and all users together, may use per day (UTC)."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import structlog

from understudy.clock import DAY_S, MINUTE_S
from understudy.config.settings import Limits
from understudy.errors import StorageError
from understudy.routing.ledger import LedgerReader, Spent, start_of_day, start_of_next_day
from understudy.routing.records import REPLY, AttemptRecord, Origin, ReplyOutcome, ReplyRecord

_log = structlog.get_logger()
_SHOWN = (ReplyOutcome.DELIVERED, ReplyOutcome.PARTIAL)
_NOTHING = Spent()
_ALL = "all:usd"
_STALE_S = 900.0
"""A reservation whose reply left no record is returned after this long."""
_LEARNING = 0.2
_MOST_NETWORKS = 10_000


class Unit(StrEnum):
    REQUESTS = "requests"
    TOKENS = "tokens"
    USD = "usd"


@dataclass(frozen=True, slots=True)
class Charge:
    """An amount in one scope and window of time: a reservation, or its correction."""

    scope: str
    window: str
    ends_at: float
    """Wall clock."""
    unit: Unit
    amount: float
    limit: float | None = None
    """Refuse the charge once this much was used; None adds it in any case."""
    only_if_shown: bool = False
    """Returned when the reply was not delivered."""


class QuotaStore(Protocol):
    """Sums of charges that all processes share."""

    async def reserve(self, charges: Sequence[Charge]) -> Charge | tuple[float, ...]:
        """Add every charge and return the new totals, or add none and return the one whose limit
        is reached. Raises StorageError."""
        ...

    def settle(self, corrections: Sequence[Charge]) -> None:
        """Add corrections soon. Must not block or raise."""
        ...


def window(name: str, span_s: int, now: float) -> tuple[str, float]:
    """The name of the current window of this length, and its end."""
    number = int(now // span_s)
    return f"{name} {number}", float((number + 1) * span_s)


class QuotaGuard:
    """An observer that counts today's use, starting with what the ledger has stored.

    Alone, it counts in memory. With `shared`, each request reserves before it starts: a request,
    and the mean tokens and cost of a reply; `reply_ended` corrects the reservation. Costs that no
    server reports cannot be counted. Replies that run when a limit is reached are finished.
    """

    def __init__(self, limits: Callable[[], Limits], wall: Callable[[], float] = time.time) -> None:
        self.shared: QuotaStore | None = None
        self._limits = limits
        self._wall = wall
        self._day = -1
        self._by_user: dict[str, Spent] = {}
        """Users, and the networks of `note_network`."""
        self._networks: OrderedDict[str, str] = OrderedDict()
        self._usd = 0.0
        self._reserved: dict[str, tuple[float, tuple[Charge, ...]]] = {}
        self._totals: dict[tuple[str, str], float] = {}
        self._mean_tokens = 500.0
        self._mean_usd = 0.01

    async def recall(self, ledger: LedgerReader) -> None:
        """Load what was used today before the process started. Raises StorageError."""
        self._load(await ledger.spent(start_of_day(self._wall())))

    def used_today(self) -> tuple[Charge, ...]:
        """What `recall` loaded, as rows of a shared store."""
        day, ends_at = self._today()
        rows = [Charge(_ALL, day, ends_at, Unit.USD, self._usd)]
        for user, spent in self._by_user.items():
            amounts = (spent.replies, spent.tokens, spent.usd)
            for unit, amount in zip(Unit, amounts, strict=True):
                rows.append(Charge(_scope(user, unit), day, ends_at, unit, amount))
        return tuple(rows)

    def note_network(self, user: str, network: str) -> None:
        """All users of one network together have the limits of one user; empty: none.

        Where a user writes from is known until the process ends, and only its digest is stored.
        """
        self._networks.pop(user, None)
        if network:
            self._networks[user] = _network_name(network)
            if len(self._networks) > _MOST_NETWORKS:
                self._networks.popitem(last=False)

    async def reserve_message(self, user: str, network: str, most: int) -> float | None:
        """Count a message in the minute of a user and of their network at all processes; the wall
        clock at which another one fits where `most` came already, or None."""
        if self.shared is None:
            return None
        minute, ends_at = window("minute", MINUTE_S, self._wall())
        counted = [user, *([_network_name(network)] if network else [])]
        try:
            totals = await self.shared.reserve(
                [Charge(f"messages:{x}", minute, ends_at, Unit.REQUESTS, 1, most) for x in counted]
            )
        except StorageError as error:
            _log.warning("quotas.not_reserved", error=str(error))
            return None
        return totals.ends_at if isinstance(totals, Charge) else None

    async def reserve(self, request_id: str, origin: Origin) -> float | None:
        """Reserve a reply to a user; the wall clock until which their quota is used up, or None."""
        if self.shared is None or not origin.user:
            return self.limited_until(origin.user)
        full = await self.charge(request_id, origin, self._user_charges(origin.user))
        return None if full is None else full.ends_at

    async def charge(
        self, request_id: str, origin: Origin, charges: Sequence[Charge]
    ) -> Charge | None:
        """Reserve these charges and the money; the charge that is refused, or None.

        While the database cannot be used, the limits count in this process alone.
        """
        assert self.shared is not None
        self._return_stale(request_id)
        wanted = (*charges, *self._money(origin))
        if not wanted:
            return None
        try:
            totals = await self.shared.reserve(wanted)
        except StorageError as error:
            _log.warning("quotas.not_reserved", error=str(error))
            return None
        if isinstance(totals, Charge):
            return totals
        self._reserved[request_id] = (self._wall(), wanted)
        for charge, total in zip(wanted, totals, strict=True):
            self._totals[charge.scope, charge.window] = total - charge.amount
        return None

    def expect(self, unit: Unit) -> float:
        """What a reply is likely to use."""
        return self._mean_tokens if unit is Unit.TOKENS else self._mean_usd

    def may_spend(self, origin: Origin) -> bool:
        """Whether candidates that cost money may be used for `origin`."""
        limits = self._limits()
        if limits.daily_usd is None and limits.per_user.usd_per_day is None:
            return True
        self._start_day()
        if limits.daily_usd is not None and self._used(_ALL, self._usd) >= limits.daily_usd:
            return False
        most = limits.per_user.usd_per_day
        return most is None or all(
            self._used(_scope(who, Unit.USD), self._of(who).usd) < most
            for who in self._counted(origin.user)
        )

    def limited_until(self, user: str) -> float | None:
        """When a user whose requests or tokens are used up may continue; None: at once."""
        self._start_day()
        limits = self._limits().per_user
        requests, tokens = limits.requests_per_day, limits.tokens_per_day
        used = [self._of(who) for who in self._counted(user)]
        over = (requests is not None and any(one.replies >= requests for one in used)) or (
            tokens is not None and any(one.tokens >= tokens for one in used)
        )
        return start_of_next_day(self._wall()) if over else None

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Counted with its reply."""

    def reply_ended(self, record: ReplyRecord) -> None:
        if self._wall() // DAY_S != self._day:
            self._start_day()
        usage, by_user = record.usage, self._by_user
        usd = record.cost_usd or 0.0
        tokens = usage.input_tokens + usage.output_tokens if usage else 0
        shown = record.outcome in _SHOWN
        # Titles, captions and notes are no requests of a person; their tokens and costs count.
        requests = shown and record.purpose == REPLY
        for who in self._counted(record.origin.user):
            used = by_user.get(who, _NOTHING)
            by_user[who] = Spent(used.replies + requests, used.tokens + tokens, used.usd + usd)
        self._usd += usd
        if shown:
            self._mean_tokens += _LEARNING * (tokens - self._mean_tokens)
            self._mean_usd += _LEARNING * (usd - self._mean_usd)
        if self._reserved:
            self._settle(record.request_id, {Unit.TOKENS: tokens, Unit.USD: usd}, shown=shown)
        if record.purpose != REPLY and self.shared is not None:
            self._add(record.origin, {Unit.TOKENS: tokens, Unit.USD: usd}, self.shared)

    def _add(self, origin: Origin, used: Mapping[Unit, float], shared: QuotaStore) -> None:
        """Add what a request of the bot's own has used: it reserves nothing."""
        charges = (*self._user_charges(origin.user), *self._money(origin))
        amounts = [(charge, used.get(charge.unit, 0.0)) for charge in charges]
        shared.settle([replace(c, amount=amount, limit=None) for c, amount in amounts if amount])

    def _user_charges(self, user: str) -> list[Charge]:
        limits = self._limits().per_user
        day, ends_at = self._today()
        charges = []
        for who in self._counted(user):
            if (most := limits.requests_per_day) is not None:
                scope, unit = _scope(who, Unit.REQUESTS), Unit.REQUESTS
                charges.append(Charge(scope, day, ends_at, unit, 1, most, only_if_shown=True))
            if (most := limits.tokens_per_day) is not None:
                scope, tokens = _scope(who, Unit.TOKENS), self.expect(Unit.TOKENS)
                charges.append(Charge(scope, day, ends_at, Unit.TOKENS, tokens, most))
        return charges

    def _money(self, origin: Origin) -> list[Charge]:
        """Added in any case: past the limit, the reply comes from candidates that are free."""
        limits = self._limits()
        day, ends_at = self._today()
        scopes = [] if limits.daily_usd is None else [_ALL]
        if limits.per_user.usd_per_day is not None:
            scopes += [_scope(who, Unit.USD) for who in self._counted(origin.user)]
        usd = self.expect(Unit.USD)
        return [Charge(scope, day, ends_at, Unit.USD, usd) for scope in scopes]

    def _settle(self, request_id: str, used: Mapping[Unit, float], *, shown: bool) -> None:
        _, charges = self._reserved.pop(request_id, (0.0, ()))
        corrections = []
        for charge in charges:
            actual = charge.amount if shown or not charge.only_if_shown else 0.0
            actual = used.get(charge.unit, actual)
            if actual != charge.amount:
                corrections.append(replace(charge, amount=actual - charge.amount, limit=None))
        if corrections and self.shared is not None:
            self.shared.settle(corrections)

    def _return_stale(self, again: str) -> None:
        """Return what replies without a record reserved, and an earlier try of `again`."""
        before = self._wall() - _STALE_S
        for key in [key for key, (at, _) in self._reserved.items() if key == again or at < before]:
            self._settle(key, {Unit.TOKENS: 0, Unit.USD: 0.0}, shown=False)

    def _counted(self, user: str) -> tuple[str, ...]:
        """Whose use a reply to this user is."""
        network = self._networks.get(user)
        return () if not user else (user,) if network is None else (user, network)

    def _used(self, scope: str, alone: float) -> float:
        if self.shared is None:
            return alone
        return self._totals.get((scope, self._today()[0]), 0.0)

    def _today(self) -> tuple[str, float]:
        return window("day", DAY_S, self._wall())

    def _of(self, user: str) -> Spent:
        return self._by_user.get(user, _NOTHING)

    def _load(self, spent: Mapping[str, Spent]) -> None:
        self._day = int(self._wall() // DAY_S)
        self._by_user = dict(spent)
        self._usd = sum(one.usd for one in spent.values())

    def _start_day(self) -> None:
        if int(self._wall() // DAY_S) != self._day:
            self._load({})
            today = self._today()[0]
            self._totals = {key: used for key, used in self._totals.items() if key[1] == today}


def _network_name(network: str) -> str:
    # No user's name contains a blank.
    return f"network {hashlib.blake2b(network.encode(), digest_size=12).hexdigest()}"


def _scope(user: str, unit: Unit) -> str:
    return f"user:{user}:{unit.value}"
