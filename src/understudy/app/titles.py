"""Connects the titles of conversations with the models and the spending limits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from understudy.conversation.dependencies import new_id
from understudy.conversation.inbox import InboxStore
from understudy.conversation.titles import TitleMaker, TitleModels

if TYPE_CHECKING:
    from understudy.app.bot import Bot


@asynccontextmanager
async def open_titles(bot: "Bot", store: InboxStore) -> AsyncGenerator[TitleMaker]:
    def order() -> tuple[str, ...]:
        prices = bot.models.prices
        candidates = sorted(
            bot.models.router.candidates,
            key=lambda c: not prices.is_free(c.provider, c.engine, c.model),
        )
        return tuple(candidate.name for candidate in candidates)

    models = TitleModels(
        bot.prompts.reply, order, lambda: bot.settings().web.titles, bot.guard.may_spend, new_id
    )
    titles = TitleMaker(store, models)
    try:
        yield titles
    finally:
        await titles.aclose()
