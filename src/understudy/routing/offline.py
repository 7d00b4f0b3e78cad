"""Why nobody answered, in the one word that decides what people are told. Pure."""

from collections.abc import Iterable

from understudy.errors import ErrorClass
from understudy.routing.records import AttemptRecord, OfflineReason, Outcome, SkipReason

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
            ErrorClass.CONTEXT_OVERFLOW,
            ErrorClass.PAYLOAD_TOO_LARGE,
        )
    ),
}
_SKIPS: dict[SkipReason, OfflineReason] = {
    SkipReason.BUDGET: OfflineReason.BUDGET,
    SkipReason.CAPABILITY: OfflineReason.NO_CAPABLE,
    SkipReason.CONTEXT: OfflineReason.NO_CAPABLE,
    SkipReason.NO_KEY: OfflineReason.CONFIG,
}
_MOST_TELLING = (
    OfflineReason.BUSY,
    OfflineReason.ALL_DOWN,
    OfflineReason.ALL_RATE_LIMITED,
    OfflineReason.BUDGET,
    OfflineReason.REJECTED,
    OfflineReason.NO_CAPABLE,
    OfflineReason.CONFIG,
)
"""What passes by itself comes first, and what passes soonest before that: a key nobody ever set
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
