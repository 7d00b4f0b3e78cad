"""The bot as `understudy run` composes it, on the double of Discord: a process to be killed.

Started as `python whole_bot.py '{"api": ..., "gateway": ..., "config": ..., "clock": ...,
"most_pages": ..., "memory_mb": ..., "up": ..., "leftovers": ...}'`; `DISCORD_TOKEN` is set.
"""

import asyncio
import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from chaos.clock import reading
from understudy.app.run import running, wait_for_stop
from understudy.clock import Clock
from understudy.config.load import load_config
from understudy.observability.logs import Logs
from understudy.storage import sqlite_database

_TURNS, _TURN_S = 50, 0.05
"""Closing may take this long: discord.py lists servers for 2 s in any case."""


async def main(config: str, clock: str, up: str, leftovers: str) -> None:
    loaded = load_config(Path(config), os.environ)
    before = _sockets()
    with reading(Path(clock)) as ahead:
        clocks = Clock(
            lambda: time.time() + ahead().wall_s, lambda: time.monotonic() + ahead().steady_s
        )
        logs = Logs(loaded.settings.logging, sys.stderr)
        async with running(loaded, logs, clocks) as everything:
            # From the next turn of the loop on it listens to signals.
            asyncio.get_running_loop().call_soon(Path(up).touch)
            await wait_for_stop(everything.discord)
    Path(leftovers).write_text(json.dumps(await _left(before)))


async def _left(before: set[str]) -> dict[str, list[str]]:
    """Tasks and sockets beyond those of the start."""
    mine, left = asyncio.current_task(), {}
    for _ in range(_TURNS):
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        left = {
            "tasks": [str(task.get_coro()) for task in tasks],
            "sockets": sorted(_sockets() - before),
        }
        if not any(left.values()):
            break
        await asyncio.sleep(_TURN_S)
    return left


def _sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        # The one that lists this folder is closed by now.
        with suppress(OSError):
            if (path := str(entry.readlink())).startswith("socket:"):
                found.add(path)
    return found


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    Route.BASE = options.pop("api")
    DiscordWebSocket.DEFAULT_GATEWAY = URL(options.pop("gateway"))
    most = options.pop("memory_mb") * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    # A small disk, as SQLite sees it.
    small_disk = f"PRAGMA max_page_count = {options.pop('most_pages')}"
    sqlite_database._PRAGMAS += (small_disk,)
    asyncio.run(main(**options))
