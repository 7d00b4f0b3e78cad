"""One of several instances as `understudy run` composes it, on the double of Discord.

Started as `python instance_process.py '{"api": ..., "gateway": ..., "config": ..., "up": ...}'`;
`DISCORD_TOKEN` is set.
"""

import asyncio
import faulthandler
import json
import os
import sys
from pathlib import Path

from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from understudy.app.run import running, wait_for_stop
from understudy.app.workers import Worker
from understudy.config.load import load_config
from understudy.observability.logs import Logs


async def main(config: str, up: str, workers: int) -> None:
    loaded = load_config(Path(config), os.environ)
    logs = Logs(loaded.settings.logging, sys.stderr)
    # Of two workers neither is the first here, so that none serves the page.
    worker = Worker(2, workers) if workers > 1 else Worker()
    async with running(loaded, logs, worker=worker) as everything:
        faulthandler.cancel_dump_traceback_later()
        asyncio.get_running_loop().call_soon(Path(up).touch)
        await wait_for_stop(everything.discord)


if __name__ == "__main__":
    # An instance that does not start says in its log what it waits for.
    faulthandler.dump_traceback_later(30)
    options = json.loads(sys.argv[1])
    Route.BASE = options.pop("api")
    DiscordWebSocket.DEFAULT_GATEWAY = URL(options.pop("gateway"))
    asyncio.run(main(**options))
