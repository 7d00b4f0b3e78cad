"""Limits of open files, divided among clients, requests and visitors."""

import sys
from dataclasses import dataclass

from understudy.http_server.server import ACCEPTED_AT_ONCE
from understudy.llm.http.unread import MOST_AT_ONCE

_RESERVED = 128 + MOST_AT_ONCE + 2 * ACCEPTED_AT_ONCE
"""For the database, Discord, images, probes, large requests that are being sent, and connections
that are accepted only to be closed."""
_MAX_FILES = 65_536


@dataclass(frozen=True, slots=True)
class FileShares:
    clients: int
    """Connections of the gateway's clients."""
    requests: int
    """Concurrent requests of the gateway, each with a connection to a model server."""
    visitors: int
    """Connections of the page's visitors."""


def divide_files(files: int) -> FileShares:
    available = max(5, files - _RESERVED)
    # Beyond these numbers, memory limits the connections.
    return FileShares(
        clients=min(10_000, available * 2 // 5),
        requests=min(10_000, available * 2 // 5),
        visitors=min(2_000, available // 5),
    )


def open_file_limit() -> int:
    """The soft limit; a fixed one where the system has none that a program can read."""
    limits = _limits()
    if limits is None:
        return _MAX_FILES
    soft, _, unlimited = limits
    return _MAX_FILES if soft == unlimited else soft


def raise_open_file_limit() -> None:
    """Raise the soft limit to the hard limit. The default of 1,024 protects programs that use
    select(2), which this one does not."""
    limits = _limits()
    if limits is None or sys.platform == "win32":
        return
    import resource

    soft, hard, unlimited = limits
    wanted = _MAX_FILES if hard == unlimited else min(hard, _MAX_FILES)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _limits() -> tuple[int, int, int] | None:
    """The soft limit, the hard limit and the value for "none"; `None` on Windows."""
    if sys.platform == "win32":
        return None
    try:
        import resource
    except ImportError:
        return None
    return *resource.getrlimit(resource.RLIMIT_NOFILE), resource.RLIM_INFINITY
