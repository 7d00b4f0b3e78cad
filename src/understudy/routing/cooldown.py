"""Cooldowns: which endpoints, keys and models are skipped, until when, and who may probe them.

Pure: time and randomness are passed in. Cooldowns skip candidates; they never change the order.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Protocol

import msgspec

from understudy.errors import ErrorClass, HoldScope, ProviderError
from understudy.routing.candidates import Candidate, ScopeKey
from understudy.routing.failure_policy import Opens, Rule
from understudy.routing.records import BreakerChange

_WINDOW_S = 60.0
_CALM_S = 300.0
"""The level decreases by one for each such time without an opening."""
_JITTER = 0.2
_RETRY_AFTER_S = (1.0, 3600.0)


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A scope that is skipped, and why."""

    key: ScopeKey
    until: float
    cause: ErrorClass


class Availability(msgspec.Struct, frozen=True):
    """Whether a candidate may be tried now."""

    hold: Cooldown | None = None
    probes: tuple[ScopeKey, ...] = ()
    """Half-open scopes: their hold has expired and the next attempt probes them."""


AVAILABLE = Availability()


class CooldownSharing(Protocol):
    """Connects the board of one process with those of others. Must not block or raise."""

    def opened(self, cooldown: Cooldown) -> None:
        """A scope was opened here, or is open for longer."""
        ...

    def closed(self, keys: Iterable[ScopeKey]) -> None:
        """Scopes that were open are closed here."""
        ...

    def probing(self, keys: Iterable[ScopeKey], until: float) -> None:
        """A request has begun to probe; it may take until then."""
        ...

    def released(self, keys: Iterable[ScopeKey]) -> None:
        """A probe ended without a finding."""
        ...

    def may_probe(self, key: ScopeKey) -> bool:
        """Whether this process may probe a half-open scope. False requests it from the others."""
        ...


_ASKING_S = 0.2
"""How long a half-open scope stays open while other processes are asked for the probe."""


@dataclass(slots=True)
class _Breaker:
    in_a_row: int = 0
    samples: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=50))
    """(when, failed) of the last minute."""
    last_ten: deque[bool] = field(default_factory=lambda: deque(maxlen=10))
    until: float | None = None
    """`None` while closed."""
    cause: ErrorClass = ErrorClass.INTERNAL
    level: int = 0
    opened: float = 0.0
    leased_until: float = 0.0

    def state(self, now: float) -> State:
        if self.until is None:
            return State.CLOSED
        if now < self.until:
            return State.OPEN
        return State.HALF_OPEN

    def held_until(self, now: float) -> float | None:
        if self.until is None:
            return None
        until = max(self.until, self.leased_until)
        return until if now < until else None

    def count(self, now: float, *, failed: bool) -> None:
        self.in_a_row = self.in_a_row + 1 if failed else 0
        self.samples.append((now, failed))
        self.last_ten.append(failed)

    def is_full(self, opens: Opens, now: float) -> bool:
        match opens:
            case Opens.AT_ONCE:
                return True
            case Opens.PAIR:
                return self.in_a_row >= 2
            case Opens.STREAK:
                recent = [failed for when, failed in self.samples if now - when <= _WINDOW_S]
                often = len(recent) >= 5 and sum(recent) * 2 >= len(recent)
                return self.in_a_row >= 3 or often
            case Opens.THREE_OF_TEN:
                return sum(self.last_ten) >= 3
            case Opens.NEVER:
                return False


class CooldownBoard:
    """Every cooldown of the process by scope; it outlives the routers that share it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.sharing: CooldownSharing | None = None
        """Set where other processes use the same servers."""
        self.breakers: dict[ScopeKey, _Breaker] = {}
        """Of every scope that failed."""
        self.open: dict[ScopeKey, _Breaker] = {}
        """Those that are not closed."""

    def availability(
        self, keys: Iterable[ScopeKey], now: float, *, asking: bool = True
    ) -> Availability:
        """`asking` is False where no request depends on the result, as on a page."""
        if not self.open:
            return AVAILABLE
        hold: Cooldown | None = None
        probes: list[ScopeKey] = []
        for key in keys:
            breaker = self.open.get(key)
            if breaker is None:
                continue
            until = breaker.held_until(now)
            if until is None and (
                self.sharing is None or not asking or self.sharing.may_probe(key)
            ):
                probes.append(key)
                continue
            if until is None:
                until = now + _ASKING_S
            if hold is None or until > hold.until:
                hold = Cooldown(key, until, breaker.cause)
        return Availability(hold, tuple(probes))

    def lease(self, keys: Sequence[ScopeKey], until: float) -> None:
        """Reserve the probe of these scopes for one attempt; for all others they stay open."""
        for key in keys:
            self.breakers[key].leased_until = until
        if self.sharing is not None:
            self.sharing.probing(keys, until)

    def release(self, keys: Iterable[ScopeKey]) -> None:
        """Release the lease of a probe that had no result."""
        for key in keys:
            if key in self.breakers:
                self.breakers[key].leased_until = 0.0
                self._share_released(key)

    def succeed(self, keys: Iterable[ScopeKey], now: float) -> BreakerChange | None:
        """Close these scopes: a useful reply came through all of them."""
        change = None
        if not self.breakers:
            return None
        for key in keys:
            breaker = self.breakers.get(key)
            if breaker is None:
                continue
            breaker.count(now, failed=False)
            if breaker.until is not None:
                change = BreakerChange(key.scope, breaker.state(now), State.CLOSED, 0.0)
                self._share_closed([key])
            self._close(key, breaker)
        return change

    def count_failure(
        self,
        candidate: Candidate,
        error: ProviderError,
        rule: Rule,
        probes: Sequence[ScopeKey],
        now: float,
    ) -> BreakerChange | None:
        """Count a failed attempt of a candidate; `probes` are the scopes it was the probe of."""
        self.release(probes)
        if error.http_status is not None:
            # Whatever it answered, its machine is up.
            self.succeed([k for k in probes if k.scope is HoldScope.ENDPOINT], now)
        if rule.scope is None or rule.scope is HoldScope.REQUEST:
            return None
        return self.fail(
            candidate.scope_key(rule.scope),
            rule,
            error.error_class,
            now,
            retry_after_s=error.retry_after_s,
        )

    def fail(
        self,
        key: ScopeKey,
        rule: Rule,
        cause: ErrorClass,
        now: float,
        *,
        retry_after_s: float | None = None,
    ) -> BreakerChange | None:
        """Count one failure; a half-open scope opens again whatever its count."""
        breaker = self.breakers.setdefault(key, _Breaker())
        before = breaker.state(now)
        breaker.count(now, failed=True)
        breaker.leased_until = 0.0
        if before is State.CLOSED and not breaker.is_full(rule.opens, now):
            return None
        hold_s = self._hold_s(breaker, rule, now, retry_after_s)
        if before is not State.OPEN:
            # Attempts that ran at the same time raise the level once, not once each.
            breaker.level += 1
            breaker.opened = now
        breaker.until = max(breaker.until or 0.0, now + hold_s)
        breaker.cause = cause
        self.open[key] = breaker
        self._share_opened(key, breaker)
        return BreakerChange(key.scope, before, State.OPEN, hold_s)

    def restore(self, hold: Cooldown) -> None:
        """Open a scope as it was saved."""
        breaker = self.breakers.setdefault(hold.key, _Breaker())
        breaker.until, breaker.cause = max(breaker.until or 0.0, hold.until), hold.cause
        self.open[hold.key] = breaker

    def extend(self, key: ScopeKey, until: float) -> None:
        """Extend the hold of an open scope."""
        breaker = self.breakers.get(key)
        if breaker is not None and breaker.until is not None:
            breaker.until = max(breaker.until, until)
            self._share_opened(key, breaker)

    def close(self, key: ScopeKey) -> None:
        """Close a scope that another process has closed."""
        breaker = self.breakers.get(key)
        if breaker is not None:
            breaker.in_a_row = 0
            self._close(key, breaker)

    def state(self, key: ScopeKey, now: float) -> State:
        breaker = self.breakers.get(key)
        return State.CLOSED if breaker is None else breaker.state(now)

    def holds(self, now: float) -> tuple[Cooldown, ...]:
        """Everything that is not closed."""
        return tuple(
            Cooldown(key, max(b.until, now), b.cause)
            for key, b in self.open.items()
            if b.until is not None
        )

    def reset(self, key: ScopeKey | None = None) -> Sequence[ScopeKey]:
        """Reset one scope, or all. Returns the scopes that were reset."""
        keys = list(self.breakers) if key is None else [key] if key in self.breakers else []
        for known in keys:
            del self.breakers[known]
            self.open.pop(known, None)
        self._share_closed(keys)
        return keys

    def _close(self, key: ScopeKey, breaker: _Breaker) -> None:
        breaker.until, breaker.leased_until = None, 0.0
        self.open.pop(key, None)

    def _share_opened(self, key: ScopeKey, breaker: _Breaker) -> None:
        if self.sharing is not None and breaker.until is not None:
            self.sharing.opened(Cooldown(key, breaker.until, breaker.cause))

    def _share_closed(self, keys: Sequence[ScopeKey]) -> None:
        if self.sharing is not None and keys:
            self.sharing.closed(keys)

    def _share_released(self, key: ScopeKey) -> None:
        if self.sharing is not None:
            self.sharing.released([key])

    def _hold_s(
        self, breaker: _Breaker, rule: Rule, now: float, retry_after_s: float | None
    ) -> float:
        if retry_after_s is not None and retry_after_s > 0:
            low, high = _RETRY_AFTER_S
            return min(max(retry_after_s, low), high)
        if not rule.grows:
            return rule.hold_s
        calm = int((now - breaker.opened) // _CALM_S)
        breaker.level = max(breaker.level - calm, 0)
        jitter = 1 + _JITTER * (2 * self._random.random() - 1)
        return min(rule.hold_s * 2.0 ** min(breaker.level, 16) * jitter, rule.cap_s)
