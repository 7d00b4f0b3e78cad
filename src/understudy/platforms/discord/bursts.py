"""Images beside a mention: people send them as messages of their own, before or after it."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import discord

_WINDOW = timedelta(seconds=8)
"""As long as the message router lets a burst last."""
_MAX_AUTHORS = 2000
_MAX_MESSAGES = 10


@dataclass(slots=True)
class _Burst:
    addressed_at: datetime | None = None
    skipped: list[discord.Message] = field(default_factory=list)


class RecentBursts:
    """The last messages of each author in each channel, by Discord's time of sending."""

    def __init__(self) -> None:
        self._bursts: OrderedDict[tuple[int, int], _Burst] = OrderedDict()

    def is_addressed(self, message: discord.Message) -> bool:
        """Whether the author has addressed the bot shortly before this message."""
        at = self._of(message).addressed_at
        return at is not None and timedelta() <= message.created_at - at < _WINDOW

    def record_skipped(self, message: discord.Message) -> None:
        """A message whose images are fetched only if the author addresses the bot soon."""
        burst = self._of(message)
        burst.skipped = [*burst.skipped, message][-_MAX_MESSAGES:]

    def record_addressed(self, message: discord.Message) -> list[discord.Message]:
        """The skipped messages of the burst that this message belongs to, each only once."""
        burst = self._of(message)
        burst.addressed_at = message.created_at
        found, burst.skipped = burst.skipped, []
        return [other for other in found if message.created_at - other.created_at < _WINDOW]

    def _of(self, message: discord.Message) -> _Burst:
        key = (message.channel.id, message.author.id)
        burst = self._bursts.setdefault(key, _Burst())
        self._bursts.move_to_end(key)
        while len(self._bursts) > _MAX_AUTHORS:
            self._bursts.popitem(last=False)
        return burst
