"""Permissions that the bot lacks, in words. Without discord.py, for `doctor`."""

from collections.abc import Iterable

VIEW = 1 << 10
SEND = 1 << 11
READ_HISTORY = 1 << 16
SEND_IN_THREADS = 1 << 38

_MOST_NAMES = 5
_EFFECTS = (
    (
        READ_HISTORY,
        "Read Message History",
        "answers there do not refer to their questions, and what is replied to may be missing",
    ),
    (SEND_IN_THREADS, "Send Messages in Threads", "it is silent in threads there"),
)


def missing_permissions(channels: Iterable[tuple[str, int]]) -> list[str]:
    """A sentence for each permission that is missing where the bot can see and write.

    `channels`: name and permission bits. A channel where the bot may not write is none of its own.
    """
    used = [(name, may) for name, may in channels if may & VIEW and may & SEND]
    found = []
    for bit, permission, effect in _EFFECTS:
        names = [f"#{name}" for name, may in used if not may & bit]
        if names:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            where = ", ".join(names[:_MOST_NAMES]) + more
            found.append(f"I lack the permission {permission} in {where}: {effect}.")
    return found
