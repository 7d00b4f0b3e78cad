"""The bot as `understudy run` composes it, on the double of Discord: a process to be killed.

Started as `python whole_bot.py API GATEWAY CONFIG`; the token is in the environment.
"""

import asyncio
import os
import sys
from pathlib import Path

from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from understudy.app.running import running, until_told_to_stop
from understudy.config.load import load_config
from understudy.observability.logs import Logs


async def main(api: str, gateway: str, config: str) -> None:
    Route.BASE = api
    DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)
    loaded = load_config(Path(config), os.environ)
    async with running(loaded, Logs(loaded.settings.logging, sys.stderr)) as everything:
        await until_told_to_stop(everything.discord)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
