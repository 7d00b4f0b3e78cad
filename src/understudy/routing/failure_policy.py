"""What the router does about each class of failure: a table and its lookups. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from understudy.errors import ErrorClass, HoldScope, ProviderError
from understudy.routing.records import (
    AttemptRecord,
    OfflineReason,
    Outcome,
    SkipReason,
)


class Opens(Enum):
    """How many failures open a scope."""

    NEVER = "never"
    AT_ONCE = "at_once"
    PAIR = "pair"
    """At the second in a row; for a local engine at the first."""
    STREAK = "streak"
    """At the third in a row, or when half of at least five within a minute failed."""
    THREE_OF_TEN = "three_of_ten"


@dataclass(frozen=True, slots=True)
class Rule:
    scope: HoldScope | None = None
    opens: Opens = Opens.NEVER
    hold_s: float = 0.0
    cap_s: float = 120.0
    grows: bool = True
    """Doubles from one opening to the next."""
    transient: bool = False
    """May pass by itself: worth a forced attempt, or a retry after a short wait."""
    restarts: bool = False
    """An editable reply interrupted by it may restart with the next candidate."""
    alerts: bool = False
    """Only the operator can fix it."""
    local_hold_s: float | None = None


_E, _K, _M = HoldScope.ENDPOINT, HoldScope.KEY, HoldScope.MODEL
_UNREACHABLE = Rule(_E, Opens.PAIR, 15, transient=True, restarts=True, local_hold_s=5)
_NONE = Rule()
_PASSING = Rule(transient=True, restarts=True)

RULES: Mapping[ErrorClass, Rule] = {
    ErrorClass.CONNECT_REFUSED: _UNREACHABLE,
    ErrorClass.DNS: _UNREACHABLE,
    ErrorClass.TLS: _UNREACHABLE,
    ErrorClass.CONNECT_TIMEOUT: Rule(
        _E, Opens.STREAK, 15, transient=True, restarts=True, local_hold_s=5
    ),
    ErrorClass.STALE_CONNECTION: _PASSING,
    # One is enough: each further one would cost another user the whole first-token budget.
    ErrorClass.FIRST_TOKEN_TIMEOUT: Rule(_M, Opens.AT_ONCE, 10, transient=True, restarts=True),
    ErrorClass.IDLE_TIMEOUT: Rule(_M, Opens.STREAK, 10, transient=True, restarts=True),
    ErrorClass.TOTAL_TIMEOUT: Rule(_M, Opens.STREAK, 10, transient=True, restarts=True),
    ErrorClass.TRUNCATED_STREAM: Rule(_E, Opens.STREAK, 5, transient=True, restarts=True),
    ErrorClass.BAD_FRAME: Rule(_E, Opens.STREAK, 5, grows=False, transient=True, restarts=True),
    ErrorClass.BAD_BODY: Rule(_E, Opens.STREAK, 15, transient=True, restarts=True),
    ErrorClass.SERVER_ERROR: Rule(_M, Opens.STREAK, 5, transient=True, restarts=True),
    ErrorClass.OVERLOADED: Rule(_M, Opens.AT_ONCE, 5, transient=True, restarts=True),
    ErrorClass.LOADING: Rule(_E, Opens.AT_ONCE, 2, grows=False, transient=True, restarts=True),
    ErrorClass.RATE_LIMITED: Rule(_K, Opens.AT_ONCE, 10, cap_s=300, restarts=True),
    ErrorClass.QUOTA: Rule(_K, Opens.AT_ONCE, 900, cap_s=900, grows=False, alerts=True),
    ErrorClass.AUTH: Rule(_K, Opens.AT_ONCE, 600, cap_s=600, grows=False, alerts=True),
    ErrorClass.MODEL_GONE: Rule(_M, Opens.AT_ONCE, 1800, cap_s=1800, grows=False, alerts=True),
    ErrorClass.UNSUPPORTED_INPUT: _NONE,
    ErrorClass.UNSUPPORTED_PARAM: _NONE,
    ErrorClass.PAYLOAD_TOO_LARGE: _NONE,
    ErrorClass.CONTEXT_OVERFLOW: _NONE,
    ErrorClass.BAD_REQUEST: _NONE,
    ErrorClass.CONTENT_POLICY: _NONE,
    ErrorClass.REFUSAL: _NONE,
    ErrorClass.EMPTY_REPLY: Rule(_M, Opens.THREE_OF_TEN, 10),
    ErrorClass.REASONING_EXHAUSTED: _NONE,
    ErrorClass.GARBAGE: Rule(_M, Opens.THREE_OF_TEN, 10, restarts=True),
    ErrorClass.RESPONSE_TOO_LARGE: _NONE,
    ErrorClass.POOL_TIMEOUT: _PASSING,
    ErrorClass.QUEUE_TIMEOUT: _NONE,
    ErrorClass.CANCELLED: _NONE,
    ErrorClass.INTERNAL: _NONE,
}

STOPS = frozenset((ErrorClass.REFUSAL, ErrorClass.CANCELLED))
"""Classes after which no other candidate is tried."""


def rule_for(error: ProviderError, *, local: bool, useful_output: bool) -> Rule:
    """Return the rule for one failure of one candidate."""
    rule = RULES[error.error_class]
    if error.provider_code == ECHO:
        return Rule(restarts=True)
    if error.error_class is ErrorClass.TOTAL_TIMEOUT and useful_output:
        return Rule(transient=rule.transient, restarts=rule.restarts)
    if error.error_class is ErrorClass.QUOTA and error.affordable_tokens is not None:
        return _NONE
    scope = rule.scope if rule.scope is None or error.scope is None else error.scope
    return Rule(
        scope,
        Opens.AT_ONCE if local and rule.opens is Opens.PAIR else rule.opens,
        rule.local_hold_s if local and rule.local_hold_s is not None else rule.hold_s,
        rule.cap_s,
        rule.grows,
        rule.transient,
        rule.restarts,
        rule.alerts,
    )


ECHO = "echo"
"""The provider code of a reply that only repeats the question or the previous reply."""


_GROUPS: dict[OfflineReason, frozenset[ErrorClass]] = {
    OfflineReason.BUSY: frozenset((ErrorClass.QUEUE_TIMEOUT, ErrorClass.POOL_TIMEOUT)),
    OfflineReason.ALL_RATE_LIMITED: frozenset((ErrorClass.RATE_LIMITED,)),
    OfflineReason.CONFIG: frozenset((ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.MODEL_GONE)),
    OfflineReason.REJECTED: frozenset(
        (ErrorClass.BAD_REQUEST, ErrorClass.UNSUPPORTED_PARAM, ErrorClass.CONTENT_POLICY)
    ),
    OfflineReason.NO_CAPABLE: frozenset(
        (
            ErrorClass.UNSUPPORTED_INPUT,
            ErrorClass.PAYLOAD_TOO_LARGE,
        )
    ),
    OfflineReason.TOO_LONG: frozenset((ErrorClass.CONTEXT_OVERFLOW,)),
}
_SKIPS: dict[SkipReason, OfflineReason] = {
    SkipReason.BUDGET: OfflineReason.BUDGET,
    SkipReason.CAPABILITY: OfflineReason.NO_CAPABLE,
    SkipReason.CONTEXT: OfflineReason.TOO_LONG,
    SkipReason.NO_KEY: OfflineReason.CONFIG,
}
_MOST_TELLING = (
    OfflineReason.BUSY,
    OfflineReason.ALL_DOWN,
    OfflineReason.ALL_RATE_LIMITED,
    OfflineReason.BUDGET,
    OfflineReason.REJECTED,
    OfflineReason.TOO_LONG,
    OfflineReason.NO_CAPABLE,
    OfflineReason.CONFIG,
)
"""Causes that pass by themselves come first, the soonest before all: a key that was never set
must not hide a server that is down."""


def offline_reason(
    records: Iterable[AttemptRecord], *, out_of_time: bool, at_fault: bool
) -> OfflineReason:
    """`at_fault`: the request itself was refused. Each candidate's last record counts."""
    if at_fault:
        return OfflineReason.REJECTED
    last = {record.candidate: record for record in records}
    reasons = {reason for record in last.values() if (reason := _reason(record)) is not None}
    if out_of_time:
        return OfflineReason.BUSY if reasons == {OfflineReason.BUSY} else OfflineReason.DEADLINE
    return next((r for r in _MOST_TELLING if r in reasons), OfflineReason.CONFIG)


def _reason(record: AttemptRecord) -> OfflineReason | None:
    if record.skip_reason is SkipReason.DISABLED:
        return None
    if record.outcome is Outcome.SKIPPED and record.skip_reason in _SKIPS:
        return _SKIPS[record.skip_reason]
    for reason, classes in _GROUPS.items():
        if record.error_class in classes:
            return reason
    return OfflineReason.ALL_DOWN
