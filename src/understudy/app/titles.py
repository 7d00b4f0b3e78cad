"""Connects the titles of conversations with the models and the spending limits."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from understudy.app.background_order import free_first
from understudy.conversation.dependencies import new_id
from understudy.conversation.follow_ups import FollowUpModels
from understudy.conversation.inbox import InboxStore
from understudy.conversation.titles import TitleMaker

if TYPE_CHECKING:
    from understudy.app.bot import Bot


@asynccontextmanager
async def open_titles(bot: "Bot", store: InboxStore) -> AsyncGenerator[TitleMaker]:
    models = FollowUpModels(
        bot.prompts.reply,
        partial(free_first, bot),
        lambda: bot.settings().web.titles,
        bot.guard.may_spend,
        new_id,
    )
    titles = TitleMaker(store, models)
    try:
        yield titles
    finally:
        await titles.aclose()
