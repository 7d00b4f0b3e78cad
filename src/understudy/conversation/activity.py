"""The short memory of manners: what happened in each channel, and by each author, lately."""

from collections import deque
from dataclasses import dataclass, field

from understudy.clock import MINUTE_S
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.messages import Inbound

_BOT_PAUSE_S = 600.0
"""How long other bots get no answer after the loop breaker has tripped."""
_IDLE_S = 3600.0
"""After this long a channel has nothing left to remember."""


@dataclass(slots=True)
class ChannelActivity:
    """What happened lately in one channel, as far as it matters here."""

    replied_at: float | None = None
    replied_to: str | None = None
    followed_up: int = 0
    """Messages answered in conversation mode since somebody last addressed the bot."""
    general_at: float | None = None
    bot_replies: int = 0
    """Replies to bots in a row, with no person in between."""
    bots_paused_until: float = 0.0
    answered: deque[float] = field(default_factory=deque)
    """When messages were let through in the last minute."""
    bursts: dict[str, float] = field(default_factory=dict)
    """Who addressed the bot and may still be writing, since when."""
    offline_at: float | None = None
    """When it was last said here that no provider answers."""
    seen_at: float = 0.0


class ActivityTracker:
    """The short memory of participation: every channel's and every author's last minutes.

    Starts empty with the process; at worst a cooldown is forgotten by a restart.
    """

    def __init__(self) -> None:
        self._channels: dict[Channel, ChannelActivity] = {}
        self._authors: dict[tuple[str, str], deque[float]] = {}

    def channel(self, channel: Channel) -> ChannelActivity:
        return self._channels.setdefault(channel, ChannelActivity())

    def author(self, inbound: Inbound) -> deque[float]:
        return self._authors.setdefault((inbound.place.platform, inbound.author.id), deque())

    def took(self, inbound: Inbound, decision: Decision, now: float) -> None:
        """Note a message that was stored with this decision."""
        mood = self.channel(Channel.of(inbound.place))
        mood.seen_at = now
        if not inbound.author.is_bot:
            mood.bot_replies = 0
        if decision.reason == "bot_loop" and mood.bots_paused_until <= now:
            mood.bots_paused_until, mood.bot_replies = now + _BOT_PAUSE_S, 0
        if not decision.answer or decision.reason == "burst":
            return
        if decision.directed:
            mood.bursts[inbound.author.id] = now
        mood.answered.append(now)
        self.author(inbound).append(now)
        if inbound.author.is_bot:
            mood.bot_replies += 1
        if inbound.addressed is not None:
            mood.followed_up = 0
        elif decision.reason == "conversation":
            mood.followed_up += 1

    def claimed(self, channel: Channel, author_id: str) -> None:
        """Note that this author's burst is over: what follows stands on its own."""
        self.channel(channel).bursts.pop(author_id, None)

    def replied(self, channel: Channel, author_id: str, now: float, *, directed: bool) -> None:
        mood = self.channel(channel)
        mood.replied_at, mood.replied_to = now, author_id
        if not directed:
            mood.general_at = now

    def may_say_offline(self, channel: Channel, now: float) -> bool:
        """At most once a minute: an outage must not flood a channel."""
        said_at = self.channel(channel).offline_at
        return said_at is None or now - said_at >= MINUTE_S

    def said_offline(self, channel: Channel, now: float) -> None:
        self.channel(channel).offline_at = now

    def forget_idle(self, now: float) -> None:
        """Drop what no rule can ask for any more."""
        self._channels = {c: m for c, m in self._channels.items() if now - m.seen_at < _IDLE_S}
        self._authors = {
            key: times
            for key, times in self._authors.items()
            if times and now - times[-1] < MINUTE_S
        }
