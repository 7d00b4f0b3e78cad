"""What each key may use per minute and per day. Pure: the caller owns the clock."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from understudy.clock import DAY_S, MINUTE_S
from understudy.config.settings import GatewayKey
from understudy.gateway.auth import key_user
from understudy.routing.quotas import Charge, Unit, window
from understudy.routing.records import AttemptRecord, Origin, ReplyRecord

Reserve = Callable[[str, Origin, Sequence[Charge]], Awaitable[Charge | None]]
"""`QuotaGuard.charge`."""


@dataclass(slots=True)
class _Window:
    """Use within one span of the wall clock; a day is a day in UTC."""

    span_s: int
    number: int = -1
    used: int = 0

    def full_until(self, limit: int | None, now: float) -> float | None:
        """Wall clock at which there is room again, `None` when there is room now."""
        self._turn(now)
        if limit is None or self.used < limit:
            return None
        return float((self.number + 1) * self.span_s)

    def add(self, amount: int, now: float) -> None:
        self._turn(now)
        self.used += amount

    def _turn(self, now: float) -> None:
        number = int(now // self.span_s)
        if number != self.number:
            self.number, self.used = number, 0


@dataclass(slots=True)
class _Used:
    minute_requests: _Window = field(default_factory=lambda: _Window(MINUTE_S))
    day_requests: _Window = field(default_factory=lambda: _Window(DAY_S))
    minute_tokens: _Window = field(default_factory=lambda: _Window(MINUTE_S))
    day_tokens: _Window = field(default_factory=lambda: _Window(DAY_S))


class KeyLimits:
    """The use of all keys since the start of the program.

    An observer of the router: tokens are counted when a reply ends, however it ends, so replies
    that are running when the limit is reached still end well.
    """

    def __init__(self) -> None:
        self.reserve: Reserve | None = None
        """Set where other processes serve the same keys; these counts are not used then."""
        self.expected_tokens: Callable[[], float] = lambda: 0.0
        self._by_user: dict[str, _Used] = {}

    async def acquire(
        self, key: GatewayKey | None, request_id: str, origin: Origin, now: float
    ) -> float | None:
        """Count one request and return None, or return the seconds to wait for room.

        With `reserve`, tokens are reserved too; the guard corrects them when the reply ends.
        """
        if self.reserve is None:
            return None if key is None else self.take(key, now)
        charges = [] if key is None else self._charges(key, now)
        full = await self.reserve(request_id, origin, charges)
        return None if full is None else max(0.0, full.ends_at - now)

    def _charges(self, key: GatewayKey, now: float) -> list[Charge]:
        tokens = self.expected_tokens()
        wanted = (
            (Unit.REQUESTS, 1.0, ("minute", MINUTE_S), key.requests_per_minute),
            (Unit.REQUESTS, 1.0, ("day", DAY_S), key.requests_per_day),
            (Unit.TOKENS, tokens, ("minute", MINUTE_S), key.tokens_per_minute),
            (Unit.TOKENS, tokens, ("day", DAY_S), key.tokens_per_day),
        )
        return [
            Charge(f"{key_user(key.name)}:{unit.value}", *window(*span, now), unit, amount, limit)
            for unit, amount, span, limit in wanted
            if limit is not None
        ]

    def take(self, key: GatewayKey, now: float) -> float | None:
        """Count one request and return `None`, or return the seconds to wait for room."""
        used = self._by_user.setdefault(key_user(key.name), _Used())
        full = [
            until
            for window, limit in (
                (used.minute_requests, key.requests_per_minute),
                (used.day_requests, key.requests_per_day),
                (used.minute_tokens, key.tokens_per_minute),
                (used.day_tokens, key.tokens_per_day),
            )
            if (until := window.full_until(limit, now)) is not None
        ]
        if full:
            return max(full) - now
        used.minute_requests.add(1, now)
        used.day_requests.add(1, now)
        return None

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Tokens are counted by the reply: it sums those of all its attempts."""

    def reply_ended(self, record: ReplyRecord) -> None:
        used = self._by_user.get(record.origin.user)
        if used is not None and record.usage is not None:
            now = record.ts + record.t_total_ms / 1000
            tokens = record.usage.input_tokens + record.usage.output_tokens
            used.minute_tokens.add(tokens, now)
            used.day_tokens.add(tokens, now)
