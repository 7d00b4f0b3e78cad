"""The pauses between attempts to reconnect to Discord's gateway."""

from typing import Literal

import discord
import structlog
from discord.backoff import ExponentialBackoff

_log = structlog.get_logger()
_MAX_S = 30.0


class ReconnectDelay(ExponentialBackoff[Literal[False]]):
    """At most 30 s, and short again after each session.

    discord.py's own pauses grow to 1,024 s, and a good connection does not reset them: the second
    of two short outages kept a bot away for minutes.
    """

    def __init__(self, shard_id: int) -> None:
        super().__init__()
        self._shard_id = shard_id

    def delay(self) -> float:
        pause_s = min(super().delay(), _MAX_S)
        _log.warning("discord.reconnecting", shard=self._shard_id, pause_s=round(pause_s, 1))
        return pause_s


def reset_delay(client: discord.AutoShardedClient, shard_id: int) -> None:
    """Give the shard new pauses; to be called for each session that begins or is resumed."""
    shard = client.get_shard(shard_id)
    if shard is not None:
        # discord.py has no setting for them.
        shard._parent._backoff = ReconnectDelay(shard_id)  # noqa: SLF001
