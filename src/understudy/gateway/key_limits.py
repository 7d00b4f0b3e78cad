"""What each key may use per minute and per day. Pure: the caller owns the clock."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from understudy.clock import DAY_S, MINUTE_S
from understudy.gateway.auth import KeyQuota, key_user
from understudy.routing.quotas import Charge, Unit, window
from understudy.routing.records import AttemptRecord, Origin, ReplyRecord

Reserve = Callable[[str, Origin, Sequence[Charge]], Awaitable[Charge | None]]
"""`QuotaGuard.charge`."""


@dataclass(slots=True)
class _Used:
    """Use within the current minute and the current day (UTC) of the wall clock."""

    minute: int = -1
    day: int = -1
    minute_requests: int = 0
    day_requests: int = 0
    minute_tokens: int = 0
    day_tokens: int = 0

    def advance(self, now: float) -> None:
        """Start the windows that `now` is in."""
        minute = int(now // MINUTE_S)
        if minute == self.minute:
            return  # and so in the same day
        self.minute, self.minute_requests, self.minute_tokens = minute, 0, 0
        day = int(now // DAY_S)
        if day != self.day:
            self.day, self.day_requests, self.day_tokens = day, 0, 0

    def exhausted_until(self, key: KeyQuota) -> float | None:
        """Wall clock at which every limit has room again; `None` where all have now."""
        until = None
        requests, tokens = key.requests_per_minute, key.tokens_per_minute
        if (requests is not None and self.minute_requests >= requests) or (
            tokens is not None and self.minute_tokens >= tokens
        ):
            until = float((self.minute + 1) * MINUTE_S)
        requests, tokens = key.requests_per_day, key.tokens_per_day
        if (requests is not None and self.day_requests >= requests) or (
            tokens is not None and self.day_tokens >= tokens
        ):
            until = float((self.day + 1) * DAY_S)
        return until


class KeyLimits:
    """Counts the use of all keys since the start of the process.

    An observer of the router: tokens are counted when a reply ends, so replies that run when a
    limit is reached are finished.
    """

    def __init__(self) -> None:
        self.reserve: Reserve | None = None
        """Set where other processes serve the same keys; these counts are not used then."""
        self.expected_tokens: Callable[[], float] = lambda: 0.0
        self._by_user: dict[str, _Used] = {}

    async def acquire(
        self, key: KeyQuota | None, request_id: str, origin: Origin, now: float
    ) -> float | None:
        """As `take`, among all processes, and for requests without a key too.

        Tokens are reserved too; the guard corrects them when the reply ends.
        """
        if self.reserve is None:
            return None if key is None else self.take(key, now)
        charges = [] if key is None else self._charges(key, now)
        full = await self.reserve(request_id, origin, charges)
        return None if full is None else max(0.0, full.ends_at - now)

    def _charges(self, key: KeyQuota, now: float) -> list[Charge]:
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

    def take(self, key: KeyQuota, now: float) -> float | None:
        """Count one request and return `None`, or return the seconds to wait for room."""
        user = key_user(key.name)
        used = self._by_user.get(user)
        if used is None:
            used = self._by_user[user] = _Used()
        used.advance(now)
        until = used.exhausted_until(key)
        if until is not None:
            return until - now
        used.minute_requests += 1
        used.day_requests += 1
        return None

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Tokens are counted by the reply: it sums those of all its attempts."""

    def reply_ended(self, record: ReplyRecord) -> None:
        used = self._by_user.get(record.origin.user)
        if used is not None and record.usage is not None:
            now = record.ts + record.t_total_ms / 1000
            tokens = record.usage.input_tokens + record.usage.output_tokens
            used.advance(now)
            used.minute_tokens += tokens
            used.day_tokens += tokens
