"""A bot in a process of its own, so that it can be killed: SQLite, message router, Discord, and
models that repeat what they were asked, word by word.

Started as `python bot_process.py '{"api": ..., "gateway": ..., "token": ..., "database": ...,
"clock_ahead_s": ...}'`.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from discord.gateway import DiscordWebSocket
from discord.http import Route
from yarl import URL

from conversation_driver import FIT
from conversation_driver import settings as quick_settings
from discord_double.bot_setup import QUICK_EDITS, SWIFT
from reply_events import RouterEvent, play
from sample_records import answered, reply
from understudy.config.settings import Participation
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import Preferences
from understudy.llm.messages import TextDelta, TextPart
from understudy.platforms.discord.bot import DiscordBot
from understudy.platforms.discord.client import Parts
from understudy.platforms.discord.command_context import CommandContext
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.presence import Presence
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.storage.stores import open_storage

_WORDS = 40


async def _repeat(request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
    """Answer the last question `qN` of the prompt."""
    return await play(_words(request), sink)


async def _words(request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
    parts = request.build(FIT).request.messages[-1].parts
    said = "".join(part.text for part in parts if isinstance(part, TextPart))
    question = re.findall(r"q\d+", said)[-1]
    text = ""
    for word in [f"about {question}:", *(f"word{n}" for n in range(_WORDS)), f"end of {question}"]:
        yield TextDelta(word + " ")
        text += word + " "
        await asyncio.sleep(0.005)
    record = reply(answered(request_id=request.id), request_id=request.id)
    yield ReplyEnded(record, text.strip(), "stop")


async def main(api: str, gateway: str, token: str, database: str, clock_ahead_s: float) -> None:
    Route.BASE = api
    DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)
    settings = quick_settings(
        discord=QUICK_EDITS.model_copy(update={"catch_up_messages": 100, "catch_up_minutes": 60.0}),
        participation=Participation(channel_per_minute=100_000, user_per_minute=100_000),
    )

    def now() -> float:
        return time.time() + clock_ahead_s

    async with open_storage(Path(database), persist=True) as kept:
        preferences = Preferences(kept.preferences)
        router = MessageRouter(
            Dependencies(
                kept.inbox,
                preferences,
                _repeat,
                lambda: settings,
                lambda: Personas(settings.persona, Library()),
                now=now,
            )
        )
        context = CommandContext(kept.inbox, preferences, router.forget)
        parts = Parts(router, lambda: settings, context, Presence(), now, pace=SWIFT)
        bot = DiscordBot(parts, token)
        router.register(PLATFORM, bot.open)
        await router.start()
        await bot.run()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
