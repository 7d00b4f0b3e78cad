"""What is said when every provider failed, and when it is worth another try."""

from datetime import timedelta

from understudy.clock import MINUTE_S
from understudy.config.settings import Offline
from understudy.routing.records import OfflineReason

_SOON_S = 10.0
_HOUR_S = 3600.0


def offline_text(settings: Offline, reason: OfflineReason, wait_s: float | None) -> str:
    """The operator's words for this reason; `{when}` becomes the time until the soonest recovery.

    Other braces stay as they are: the text is the operator's, not a template language.
    """
    template: str = getattr(settings, reason.value)
    return template.replace("{when}", in_words(wait_s))


def in_words(wait_s: float | None) -> str:
    """A wait as people say it: `in 2 minutes`."""
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
    # Rounded up: who comes back too early is disappointed twice.
    whole = int(-(-amount // 1))
    return f"in about {whole} {unit}{'' if whole == 1 else 's'}"


_LEAST_WAIT_S = 5.0
_UNKNOWN_WAIT_S = 60.0


def next_try_at(
    reason: OfflineReason, recovery_at: float | None, give_up_at: float, now: float
) -> float | None:
    """When to try for a late answer: at the soonest recovery known, but before `give_up_at`; None
    when there is nothing to wait for."""
    if reason is OfflineReason.REJECTED:
        return None
    if reason is OfflineReason.NO_CAPABLE and recovery_at is None:
        # The same servers could only say the same; one that rests may be able to.
        return None
    at = now + _UNKNOWN_WAIT_S if recovery_at is None else max(recovery_at, now + _LEAST_WAIT_S)
    return at if at < give_up_at else None
