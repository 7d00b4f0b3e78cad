"""Connects the memory with the conversation and the model servers."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from understudy.app.background_order import free_first
from understudy.conversation.dependencies import new_id
from understudy.conversation.follow_ups import FollowUp
from understudy.conversation.orders import Order
from understudy.conversation.remembered import Memory, NoMemory
from understudy.memory.background import BackgroundModels, ModelRules
from understudy.memory.commands import MemoryCommands
from understudy.memory.conversation_memory import ConversationMemory
from understudy.memory.proposals import NoteProposer, ProposalRules, ShowProposal
from understudy.memory.store import MemoryStore
from understudy.memory.summarizer import Summarizer, SummaryRules

if TYPE_CHECKING:
    from understudy.app.bot import Bot


@dataclass(frozen=True, slots=True)
class MemorySupport:
    """The memory of a bot with a database; `store` is None where no text is stored."""

    memory: Memory
    commands: MemoryCommands
    store: MemoryStore | None = None
    summarizer: Summarizer | None = None
    proposer: NoteProposer | None = None

    def show_proposals(self, platform: str, show: ShowProposal | None) -> None:
        """How a platform shows proposed notes; without one, none are made there."""
        if self.proposer is None:
            return
        self.proposer.show.pop(platform, None)
        if show is not None:
            self.proposer.show[platform] = show

    @property
    def follow_ups(self) -> tuple[FollowUp, ...]:
        return () if self.proposer is None else (self.proposer.follow_up,)


WITHOUT_MEMORY = MemorySupport(NoMemory(), MemoryCommands(None, None))


@asynccontextmanager
async def open_memory(bot: "Bot", store: MemoryStore | None) -> AsyncGenerator[MemorySupport]:
    """While it is open, summaries and proposals of notes are made in the background."""
    if store is None:
        yield WITHOUT_MEMORY
        return
    models, now = BackgroundModels(bot.prompts.reply, new_id), bot.clocks.wall
    summarizer = Summarizer(store, models, partial(_summary_rules, bot), now)
    proposer = NoteProposer(store, models, partial(_proposal_rules, bot), new_id, now)
    memory = ConversationMemory(store, summarizer, models, lambda: bot.settings().memory)
    commands = MemoryCommands(store, summarizer, now)
    try:
        yield MemorySupport(memory, commands, store, summarizer, proposer)
    finally:
        await proposer.aclose()
        await summarizer.aclose()


def _summary_rules(bot: "Bot", own: Order) -> SummaryRules:
    settings = bot.settings()
    return SummaryRules(
        enabled=settings.memory.summary.enabled,
        models=_model_rules(bot, own),
        max_tokens=settings.memory.summary.max_tokens,
        bot_name=settings.persona.name,
    )


def _proposal_rules(bot: "Bot", own: Order) -> ProposalRules:
    if not bot.settings().memory.propose:
        return ProposalRules()
    return ProposalRules(enabled=True, models=_model_rules(bot, own))


def _model_rules(bot: "Bot", own: Order) -> ModelRules:
    name = bot.settings().memory.summary.order
    order = bot.settings().orders[name] if name is not None else free_first(bot, own)
    used = [c for c in bot.models.router.candidates if c.off is None]
    return ModelRules(
        order=order,
        gives_way=any(c.local for c in used if any(map(c.answers_to, order))),
        may_spend=bot.guard.may_spend,
    )
