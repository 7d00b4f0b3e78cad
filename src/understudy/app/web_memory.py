"""Connects the memory with the chat page."""

from understudy.app.bot import Bot
from understudy.conversation.inbox import Channel
from understudy.memory import command_line
from understudy.memory.store import Family, NoteScope
from understudy.platforms.web.chat import PLATFORM
from understudy.platforms.web.memory import MemoryActions

_MAX_HITS = 500


def memory_actions(bot: Bot) -> MemoryActions:
    """Notes belong to the browser, summaries to the conversation."""

    async def run(line: str, channel: Channel, browser: str) -> str:
        scope = NoteScope(PLATFORM, "", browser)
        return await command_line.run(bot.memory.commands, line, channel, scope)

    async def search(browser: str, words: str) -> list[tuple[Channel, str]]:
        assert bot.memory.store is not None
        hits = await bot.memory.store.search(Family(PLATFORM, browser), words, _MAX_HITS)
        return [(hit.channel, hit.line.text) for hit in hits]

    return MemoryActions(command_line.NAMES, run, search if bot.memory.store else None)
