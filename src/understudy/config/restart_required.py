"""Which settings only a new process can take over."""

from operator import attrgetter

from understudy.config.settings import Settings

_FIXED = (
    "conversation.persist",
    "discord.enabled",
    "discord.token",
    "discord.message_content",
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
    "logging.format",
    "telemetry.enabled",
    "telemetry.endpoint",
    "telemetry.timeout_seconds",
)


def at_next_start(started: Settings, now: Settings) -> list[str]:
    """The keys that differ from what this process was started with, and cannot be in force."""
    return [key for key in _FIXED if attrgetter(key)(started) != attrgetter(key)(now)]
