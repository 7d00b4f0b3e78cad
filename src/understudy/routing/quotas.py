"""Keeps to `limits`: what one user, and everybody together, may use in a day (UTC)."""

import time
from collections.abc import Callable, Mapping

from understudy.clock import DAY_S
from understudy.config.settings import Limits
from understudy.routing.ledger import LedgerReader, Spent, start_of_day, start_of_next_day
from understudy.routing.records import AttemptRecord, Origin, ReplyOutcome, ReplyRecord

_SHOWN = (ReplyOutcome.DELIVERED, ReplyOutcome.PARTIAL)
_NOTHING = Spent()


class QuotaGuard:
    """An observer that counts what today's replies used, beginning with what the ledger holds.

    Money of unknown cost cannot be counted. Replies that run when a limit is reached end well.
    """

    def __init__(self, limits: Callable[[], Limits], wall: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._wall = wall
        self._day = -1
        self._by_user: dict[str, Spent] = {}
        self._usd = 0.0

    async def recall(self, ledger: LedgerReader) -> None:
        """Take over what was used today before the program started. Raises StorageError."""
        self._adopt(await ledger.spent(start_of_day(self._wall())))

    def may_spend(self, origin: Origin) -> bool:
        """Whether candidates that cost money may be asked on behalf of `origin`."""
        self._turn()
        limits = self._limits()
        if limits.daily_usd is not None and self._usd >= limits.daily_usd:
            return False
        most = limits.per_user.usd_per_day
        return most is None or not origin.user or self._of(origin.user).usd < most

    def limited_until(self, user: str) -> float | None:
        """When a user who has used up requests or tokens may go on; `None`: at once."""
        self._turn()
        limits, used = self._limits().per_user, self._of(user)
        requests, tokens = limits.requests_per_day, limits.tokens_per_day
        over = (requests is not None and used.replies >= requests) or (
            tokens is not None and used.tokens >= tokens
        )
        return start_of_next_day(self._wall()) if over and user else None

    def attempt_ended(self, record: AttemptRecord) -> None:
        """Counted with its reply."""

    def reply_ended(self, record: ReplyRecord) -> None:
        self._turn()
        user, usage = record.origin.user, record.usage
        used = self._of(user)
        usd = record.cost_usd or 0.0
        self._by_user[user] = Spent(
            replies=used.replies + (record.outcome in _SHOWN),
            tokens=used.tokens + (usage.input_tokens + usage.output_tokens if usage else 0),
            usd=used.usd + usd,
        )
        self._usd += usd

    def _of(self, user: str) -> Spent:
        return self._by_user.get(user, _NOTHING)

    def _adopt(self, spent: Mapping[str, Spent]) -> None:
        self._day = int(self._wall() // DAY_S)
        self._by_user = dict(spent)
        self._usd = sum(one.usd for one in spent.values())

    def _turn(self) -> None:
        if int(self._wall() // DAY_S) != self._day:
            self._adopt({})
