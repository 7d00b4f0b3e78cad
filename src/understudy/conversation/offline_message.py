"""The offline message, and when to retry after every provider failed."""

from datetime import timedelta

from understudy.clock import MINUTE_S
from understudy.config.settings import Offline
from understudy.routing.records import OfflineReason

_SOON_S = 10.0
_HOUR_S = 3600.0


def offline_text(settings: Offline, reason: OfflineReason, wait_s: float | None) -> str:
    """The configured text for this reason; `{when}` becomes the time until the soonest recovery.

    Other braces are kept: the text is not a template language.
    """
    template: str = getattr(settings, reason.value)
    return template.replace("{when}", in_words(wait_s))


def in_words(wait_s: float | None) -> str:
    """A wait in words: `in about 2 minutes`."""
    if wait_s is None:
        return "in a little while"
    if wait_s <= _SOON_S:
        return "in a moment"
    if wait_s < MINUTE_S:
        return "in less than a minute"
    if wait_s < _HOUR_S:
        return _count(wait_s / MINUTE_S, "minute")
    if wait_s < timedelta(days=1).total_seconds():
        return _count(wait_s / _HOUR_S, "hour")
    return "tomorrow" if wait_s < timedelta(days=2).total_seconds() else "in a few days"


def _count(amount: float, unit: str) -> str:
    # Rounded up, so that the person does not come back too early.
    count = int(-(-amount // 1))
    return f"in about {count} {unit}{'' if count == 1 else 's'}"


_PERMANENT = (OfflineReason.NO_CAPABLE, OfflineReason.TOO_LONG)
_LEAST_WAIT_S = 5.0
_UNKNOWN_WAIT_S = 60.0


def next_try_at(
    reason: OfflineReason, recovery_at: float | None, give_up_at: float, now: float
) -> float | None:
    """When to retry: at the soonest known recovery, but before `give_up_at`; None when no retry can
    succeed."""
    if reason is OfflineReason.REJECTED:
        return None
    if reason in _PERMANENT and recovery_at is None:
        # The same servers would refuse again; a server in cooldown may be able to answer.
        return None
    at = now + _UNKNOWN_WAIT_S if recovery_at is None else max(recovery_at, now + _LEAST_WAIT_S)
    return at if at < give_up_at else None
