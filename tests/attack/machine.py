"""Rows 13 and 14: a database that is locked, a disk that takes no more."""

import resource
import sqlite3
import time

from attack.client import Browser, ask_gateway
from attack.row import Scene

_LOCKED_S = 60.0
_MOST_BYTES = 300_000
_TOLD = (202, 503)
"""Accepted, or refused with a sentence for the person."""


def locked_database(scene: Scene) -> None:
    """Another program locks the database for a while."""
    with scene.program() as (program, _):
        browser = Browser(program.page)
        browser.say("First.")
        other = sqlite3.connect(program.folder / "data" / "bot.db")
        other.execute("BEGIN EXCLUSIVE")
        ends = time.monotonic() + _LOCKED_S
        during = browser.say("While it is locked.")
        reply = ask_gateway(program.gateway, "Hello?")
        time.sleep(max(0.0, ends - time.monotonic()))
        other.rollback()
        other.close()
        after = browser.say("Afterwards.")
    scene.add(
        {
            "untold": float(during.status not in _TOLD),
            "replies_missing": float((reply.status != 200) + (after.status != 202)),
        }
    )


def full_disk(scene: Scene) -> None:
    """No file may grow past 300 kB."""
    with scene.program() as (program, _):
        pid = program.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_MOST_BYTES, resource.RLIM_INFINITY))
        browser = Browser(program.page)
        statuses = [browser.say("x" * 30_000, chat=f"conversation-{at}").status for at in range(20)]
        reply = ask_gateway(program.gateway, "Hello?")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        ends, after = time.monotonic() + 20, 0
        while after != 202 and time.monotonic() < ends:
            after = browser.say("There is room again.").status
            time.sleep(0.5)
    scene.add(
        {
            "untold": float(sum(status not in _TOLD for status in statuses)),
            "never_full": float(503 not in statuses),
            "replies_missing": float((reply.status != 200) + (after != 202)),
        }
    )
