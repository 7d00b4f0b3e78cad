"""The files that the process may have open, and who gets how many: connections are files too."""

import resource
from dataclasses import dataclass

from understudy.http_server.server import ACCEPTED_AT_ONCE

_OTHERS = 128 + 2 * ACCEPTED_AT_ONCE
"""For the database, Discord, images, probes and whatever else there is, and for connections that
are let in only to be hung up on."""
_ENOUGH = 65_536


@dataclass(frozen=True, slots=True)
class Shares:
    clients: int
    """Connections of the gateway's clients."""
    requests: int
    """Requests that the gateway answers at a time, each with a connection to a model server."""
    visitors: int
    """Connections of the page's visitors."""


def shares(files: int) -> Shares:
    left = max(5, files - _OTHERS)
    # Past these numbers it is memory that connections cost too much of.
    return Shares(
        clients=min(10_000, left * 2 // 5),
        requests=min(10_000, left * 2 // 5),
        visitors=min(2_000, left // 5),
    )


def open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft


def allow_more() -> None:
    """Raise the limit as far as this process may: the usual 1,024 are for programs that use
    select(2), which this one does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
