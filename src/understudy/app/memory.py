"""Connects the memory with the conversation and the model servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.conversation.dependencies import new_id
from understudy.conversation.remembered import Memory, NoMemory
from understudy.memory.commands import MemoryCommands
from understudy.memory.conversation_memory import ConversationMemory
from understudy.memory.store import MemoryStore
from understudy.memory.summarizer import Summarizer, SummaryRules
from understudy.routing.candidates import Candidate

if TYPE_CHECKING:
    from understudy.app.bot import Bot


@dataclass(frozen=True, slots=True)
class MemorySupport:
    """The memory of a bot with a database; `store` is None where no text is stored."""

    memory: Memory
    commands: MemoryCommands
    store: MemoryStore | None = None
    summarizer: Summarizer | None = None


WITHOUT_MEMORY = MemorySupport(NoMemory(), MemoryCommands(None, None))


@asynccontextmanager
async def open_memory(bot: "Bot", store: MemoryStore | None) -> AsyncGenerator[MemorySupport]:
    """While it is open, summaries are made in the background."""
    if store is None:
        yield WITHOUT_MEMORY
        return
    summarizer = Summarizer(store, bot.prompts.reply, lambda: _rules(bot), new_id, bot.clocks.wall)
    memory = ConversationMemory(store, summarizer, lambda: bot.settings().memory)
    try:
        yield MemorySupport(
            memory, MemoryCommands(store, summarizer, bot.clocks.wall), store, summarizer
        )
    finally:
        await summarizer.aclose()


def _rules(bot: "Bot") -> SummaryRules:
    settings = bot.settings()
    order = _order(bot)
    used = [c for c in bot.models.router.candidates if c.off is None]
    return SummaryRules(
        enabled=settings.memory.summary.enabled,
        order=order,
        max_tokens=settings.memory.summary.max_tokens,
        gives_way=any(c.local for c in used if any(map(c.answers_to, order))),
        may_spend=bot.guard.may_spend,
        bot_name=settings.persona.name,
    )


def _order(bot: "Bot") -> tuple[str, ...]:
    """The configured order; else the conversation's, with local and free candidates first."""
    settings = bot.settings()
    name = settings.memory.summary.order
    if name is not None:
        return settings.orders[name]
    ordered = sorted(bot.models.router.candidates, key=lambda c: not _is_free(bot, c))
    return tuple(candidate.name for candidate in ordered)


def _is_free(bot: "Bot", candidate: Candidate) -> bool:
    return candidate.local or bot.models.prices.is_free(
        candidate.provider, candidate.engine, candidate.model
    )
