"""Recent activity per channel and author: rate limits, bursts, bot loops."""

from collections import deque
from dataclasses import dataclass, field

from understudy.clock import MINUTE_S
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.messages import Inbound

_BOT_PAUSE_S = 600.0
"""How long replies to other bots are suppressed after a bot loop was detected."""
_IDLE_S = 3600.0
"""Channels without a message for this long are dropped."""


@dataclass(slots=True)
class ChannelActivity:
    """Recent activity in one channel."""

    replied_at: float | None = None
    replied_to: str | None = None
    followed_up: int = 0
    """Messages answered in conversation mode since the bot was last addressed."""
    general_at: float | None = None
    bot_replies: int = 0
    """Consecutive replies to bots, reset by a message of a person."""
    bots_paused_until: float = 0.0
    answered: deque[float] = field(default_factory=deque)
    """Times of the messages accepted for a reply in the last minute."""
    bursts: dict[str, float] = field(default_factory=dict)
    """Author id → when that author addressed the bot; their burst may still go on."""
    offline_at: float | None = None
    """When the offline message was last sent here."""
    seen_at: float = 0.0


class ActivityTracker:
    """Activity of every channel and author, in memory: a restart clears it."""

    def __init__(self) -> None:
        self._channels: dict[Channel, ChannelActivity] = {}
        self._authors: dict[tuple[str, str], deque[float]] = {}

    def channel(self, channel: Channel) -> ChannelActivity:
        return self._channels.setdefault(channel, ChannelActivity())

    def author(self, inbound: Inbound) -> deque[float]:
        return self._authors.setdefault((inbound.place.platform, inbound.author.id), deque())

    def address(self, inbound: Inbound) -> deque[float]:
        """Empty where the platform knows no addresses."""
        if not inbound.address:
            return deque()
        # No author's id contains a blank.
        key = inbound.place.platform, f"address {inbound.address}"
        return self._authors.setdefault(key, deque())

    def record_message(self, inbound: Inbound, decision: Decision, now: float) -> None:
        """Record a message that was stored with this decision."""
        activity = self.channel(Channel.of(inbound.place))
        activity.seen_at = now
        if not inbound.author.is_bot:
            activity.bot_replies = 0
        if decision.reason == "bot_loop" and activity.bots_paused_until <= now:
            activity.bots_paused_until, activity.bot_replies = now + _BOT_PAUSE_S, 0
        if not decision.answer or decision.reason == "burst":
            return
        if decision.directed:
            activity.bursts[inbound.author.id] = now
        activity.answered.append(now)
        self.author(inbound).append(now)
        self.address(inbound).append(now)
        if inbound.author.is_bot:
            activity.bot_replies += 1
        if inbound.addressed is not None:
            activity.followed_up = 0
        elif decision.reason == "conversation":
            activity.followed_up += 1

    def record_claim(self, channel: Channel, author_id: str) -> None:
        """End this author's burst: their next message starts a new one."""
        self.channel(channel).bursts.pop(author_id, None)

    def record_reply(self, channel: Channel, author_id: str, now: float, *, directed: bool) -> None:
        activity = self.channel(channel)
        activity.replied_at, activity.replied_to = now, author_id
        if not directed:
            activity.general_at = now

    def may_send_offline(self, channel: Channel, now: float) -> bool:
        """True at most once a minute, so that an outage does not flood a channel."""
        sent_at = self.channel(channel).offline_at
        return sent_at is None or now - sent_at >= MINUTE_S

    def record_offline(self, channel: Channel, now: float) -> None:
        self.channel(channel).offline_at = now

    def forget_idle(self, now: float) -> None:
        """Drop channels and authors that no rule needs any more."""
        self._channels = {c: m for c, m in self._channels.items() if now - m.seen_at < _IDLE_S}
        self._authors = {
            key: times
            for key, times in self._authors.items()
            if times and now - times[-1] < MINUTE_S
        }
