"""Whether the bot answers a message: a pure function that returns a reason."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from understudy.clock import MINUTE_S
from understudy.config.settings import Participation, QuietHours
from understudy.conversation.activity import ActivityTracker, ChannelActivity
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.messages import Addressed, Inbound, Place

_BURST_S = 8.0
"""For at most this long the next messages of an author who addressed the bot join the burst."""


@dataclass(frozen=True, slots=True)
class AuthorStatus:
    """Mute and opt-out as they apply to one message."""

    muted_until: float = 0.0
    opted_out: bool = False


def decide(
    inbound: Inbound,
    settings: Participation,
    tracker: ActivityTracker,
    status: AuthorStatus,
    now: float,
    chance: Callable[[], float],
) -> Decision:
    """Whether to answer. The first rule that applies wins; `chance` returns numbers below 1."""
    channel = tracker.channel(Channel.of(inbound.place))
    refusal = _refusal(inbound, settings, channel, status, now)
    if refusal:
        return Decision(answer=False, reason=refusal)
    decision = _evaluate(inbound, settings, channel, now, chance)
    if not decision.answer or decision.reason == "burst":
        return decision
    if inbound.unlimited:
        return decision
    for reason, times, limit in (
        ("user_rate_limit", tracker.author(inbound), settings.user_per_minute),
        ("address_rate_limit", tracker.address(inbound), settings.user_per_minute),
        ("channel_rate_limit", channel.answered, settings.channel_per_minute),
    ):
        if _last_minute(times, now) >= limit:
            return Decision(answer=False, reason=reason, retry_at=times[-limit] + MINUTE_S)
    return decision


def _refusal(
    inbound: Inbound,
    settings: Participation,
    activity: ChannelActivity,
    status: AuthorStatus,
    now: float,
) -> str | None:
    if status.opted_out:
        return "opted_out"
    if status.muted_until > now:
        return "muted"
    if inbound.author.is_bot:
        return _bot_refusal(inbound, settings, activity, now)
    if not inbound.text.strip() and not inbound.images and inbound.addressed is None:
        return "empty"
    return None


def _bot_refusal(
    inbound: Inbound, settings: Participation, activity: ChannelActivity, now: float
) -> str | None:
    if not settings.answer_bots:
        return "bot"
    if inbound.addressed is None:
        return "bot_unaddressed"
    looping = activity.bots_paused_until > now or activity.bot_replies >= settings.max_bot_replies
    return "bot_loop" if looping else None


def _evaluate(
    inbound: Inbound,
    settings: Participation,
    channel: ChannelActivity,
    now: float,
    chance: Callable[[], float],
) -> Decision:
    """The decision before rate limits."""
    listed = takes_part(inbound.place, settings)
    if inbound.addressed not in (None, Addressed.NAME):
        return Decision(answer=True, reason=inbound.addressed.value, directed=True)
    if inbound.addressed is Addressed.NAME and listed:
        return Decision(answer=True, reason=Addressed.NAME.value, directed=True)
    if now - channel.bursts.get(inbound.author.id, -_BURST_S) < _BURST_S:
        return Decision(answer=True, reason="burst", directed=True)
    if not listed:
        return Decision(answer=False, reason="not_addressed")
    return _evaluate_unaddressed(inbound, settings, channel, now, chance)


def _evaluate_unaddressed(
    inbound: Inbound,
    settings: Participation,
    activity: ChannelActivity,
    now: float,
    chance: Callable[[], float],
) -> Decision:
    """The decision for a message that does not address the bot."""
    if inbound.to_others:
        return Decision(answer=False, reason="to_others")
    if in_quiet_hours(settings.quiet_hours, now):
        return Decision(answer=False, reason="quiet_hours")
    if _in_conversation(inbound, settings, activity, now):
        return Decision(answer=True, reason="conversation", directed=True)
    return _by_chance(inbound, settings, activity, now, chance)


def _by_chance(
    inbound: Inbound,
    settings: Participation,
    activity: ChannelActivity,
    now: float,
    chance: Callable[[], float],
) -> Decision:
    if activity.general_at is not None and now - activity.general_at < settings.cooldown_seconds:
        return Decision(answer=False, reason="cooldown")
    if chance() < _chance_in(inbound, settings.channel_chance, settings.chance):
        return Decision(answer=True, reason="chance")
    return Decision(answer=False, reason="chance")


def _chance_in(inbound: Inbound, by_channel: Mapping[str, float], default: float) -> float:
    place = inbound.place
    for channel_id in (place.channel_id, place.parent_id):
        if channel_id is not None and channel_id in by_channel:
            return by_channel[channel_id]
    return default


def takes_part(place: Place, settings: Participation) -> bool:
    """Whether this is a listed channel, or a thread of one, where the bot may reply unasked."""
    return place.channel_id in settings.channels or (
        place.parent_id is not None and place.parent_id in settings.channels
    )


def _in_conversation(
    inbound: Inbound, settings: Participation, activity: ChannelActivity, now: float
) -> bool:
    mode = settings.conversation_mode
    return (
        activity.replied_at is not None
        and activity.replied_to == inbound.author.id
        and now - activity.replied_at < mode.window_seconds
        and activity.followed_up < mode.max_messages
    )


def _last_minute(times: deque[float], now: float) -> int:
    while times and now - times[0] >= MINUTE_S:
        times.popleft()
    return len(times)


def in_quiet_hours(hours: QuietHours, now: float) -> bool:
    """Whether `now` lies between start and end (`HH:MM`), also across midnight."""
    start, end = _clock(hours.start), _clock(hours.end)
    if start is None or end is None or start == end:
        return False
    local = datetime.fromtimestamp(now, _zone(hours.timezone)).time()
    return start <= local < end if start < end else local >= start or local < end


def _clock(text: str) -> time | None:
    try:
        return time.fromisoformat(text)
    except ValueError:
        return None


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC
