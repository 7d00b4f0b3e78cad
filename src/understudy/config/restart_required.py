"""Settings whose changes take effect only after a restart."""

from operator import attrgetter

from understudy.config.settings import Settings

_FIXED = (
    "conversation.persist",
    "discord.enabled",
    "discord.token",
    "discord.message_content",
    "discord.shards",
    "web.enabled",
    "web.host",
    "web.port",
    "web.token",
    "web.chat_token",
    "web.allowed_hosts",
    "gateway.enabled",
    "gateway.host",
    "gateway.port",
    "storage.url",
    "run.workers",
    "logging.format",
    "telemetry.enabled",
    "telemetry.endpoint",
    "telemetry.timeout_seconds",
)


def restart_required(started: Settings, now: Settings) -> list[str]:
    """The keys that changed since the process started and need a restart."""
    return [key for key in _FIXED if attrgetter(key)(started) != attrgetter(key)(now)]
