"""The whole bot on a double of Discord, with models that say what a test wants."""

import asyncio
import time
from contextlib import suppress
from typing import Self

from conversation_driver import Models, dependencies
from conversation_driver import settings as quick_settings
from discord_double.double import DiscordDouble
from discord_double.payloads import Json
from understudy.config.settings import Discord, Settings
from understudy.conversation.inbox import InboxStore
from understudy.conversation.message_router import MessageRouter
from understudy.platforms.discord.bot import DiscordBot
from understudy.platforms.discord.client import Pace, Parts
from understudy.platforms.discord.command_context import CommandContext
from understudy.platforms.discord.inbound import PLATFORM, FetchImages
from understudy.platforms.discord.presence import Presence

SWIFT = Pace(identify_s=0.0, guilds_s=0.1, restart_s=0.05)
QUICK_EDITS = Discord(edit_interval_seconds=0.05, first_edit_seconds=0.05, first_edit_chars=40)


class BotSetup:
    """One running process of the bot; several may share a double and a store."""

    def __init__(
        self,
        double: DiscordDouble,
        store: InboxStore | None = None,
        settings: Settings | None = None,
        pace: Pace = SWIFT,
        fetch_images: FetchImages | None = None,
        **context: object,
    ) -> None:
        self.double = double
        self.models = Models()
        self.settings = settings or quick_settings(discord=QUICK_EDITS)
        out = dependencies(self.models, store, settings=self.settings)
        self.router = MessageRouter(out)
        kept = (self.router.store, self.router.preferences, self.router.forget)
        made = CommandContext(*kept, **context)  # type: ignore[arg-type]
        seen = (Presence(), time.time, fetch_images, pace)
        parts = Parts(self.router, lambda: self.settings, made, *seen)
        self.bot = DiscordBot(parts, double.token)
        self.running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.router.register(PLATFORM, self.bot.open, self.bot.context)
        await self.router.start()
        before = set(self.double.gateway.sessions)
        self.running = asyncio.create_task(self.bot.run())
        await self.double.until(lambda: set(self.double.gateway.sessions) - before)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.models.gate.set()
        await self.router.aclose(grace_s=1)
        if self.running is not None:
            self.running.cancel()
            with suppress(asyncio.CancelledError):
                await self.running

    async def answer_to(self, message: Json) -> Json:
        """The finished answer to a message."""

        def finished() -> Json | None:
            found = self.double.answers_to(message)
            labels = [b["label"] for m in self.double.sent() for b in buttons(m)]
            return found[0] if found and "Stop" not in labels else None

        made = await self.double.until(finished)
        assert made is not None
        return made


def buttons(message: Json) -> list[Json]:
    return [button for row in message["components"] for button in row.get("components", [])]
