"""Which settings only a new process can take over."""

from understudy.config.section import Section
from understudy.config.settings import Settings

_FIXED = {
    "conversation": ("persist",),
    "discord": ("enabled", "token", "message_content"),
    "web": ("enabled", "host", "port", "token", "chat_token", "allowed_hosts"),
    "gateway": ("enabled", "host", "port"),
    "storage": ("url",),
    "logging": ("format",),
    "telemetry": ("enabled", "endpoint", "timeout_seconds"),
}


def at_next_start(started: Settings, now: Settings) -> list[str]:
    """The keys that differ from what this process was started with, and cannot be in force."""
    return [
        f"{name}.{key}"
        for name, keys in _FIXED.items()
        for key in keys
        if _value(started, name, key) != _value(now, name, key)
    ]


def _value(settings: Settings, name: str, key: str) -> object:
    section: Section = getattr(settings, name)
    return getattr(section, key)
