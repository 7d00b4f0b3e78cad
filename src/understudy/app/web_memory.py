"""Connects the memory with the chat page."""

from understudy.app.bot import Bot
from understudy.conversation.inbox import Channel
from understudy.conversation.messages import Place
from understudy.conversation.orders import Order, order_for
from understudy.memory import command_line
from understudy.memory.command_line import Person
from understudy.memory.store import Family, NoteScope
from understudy.platforms.web.chat import PLATFORM
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.memory import MemoryActions

_MAX_HITS = 500


def memory_actions(bot: Bot, live: LiveConversations) -> MemoryActions:
    """Notes belong to the browser, summaries to the conversation."""

    commands = bot.memory.commands

    async def run(line: str, channel: Channel, browser: str) -> str:
        person = Person(_of(browser), lambda: forget(browser), _order_of(bot, channel))
        return await command_line.run(commands, line, channel, person)

    async def forget(browser: str) -> int:
        number = await bot.messages.forget(PLATFORM, browser)
        live.reset_of(browser)
        return number

    async def answer(browser: str, proposal_id: str, yes: bool) -> str:  # noqa: FBT001
        return await commands.answer(_of(browser), proposal_id, yes=yes)

    async def search(browser: str, words: str) -> list[tuple[Channel, str]]:
        assert bot.memory.store is not None
        hits = await bot.memory.store.search(Family(PLATFORM, browser), words, _MAX_HITS)
        return [(hit.channel, hit.line.text) for hit in hits]

    return MemoryActions(
        command_line.NAMES,
        run,
        search if bot.memory.store else None,
        lambda browser: commands.proposal(_of(browser)),
        answer,
    )


def _of(browser: str) -> NoteScope:
    return NoteScope(PLATFORM, "", browser)


def _order_of(bot: Bot, channel: Channel) -> Order:
    place = Place(PLATFORM, channel.id, private=True)
    preferences = bot.messages.preferences.now
    found = order_for(place, None, bot.settings(), preferences, bot.orders())
    return None if found is None else found.entries
