"""Connects images with the conversation: intake on arrival, selection for prompts, captions."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.app.background_order import free_first
from understudy.config.settings import Vision
from understudy.conversation.captions import Captioner
from understudy.conversation.dependencies import new_id
from understudy.conversation.follow_ups import FollowUpModels
from understudy.conversation.images import ImageSelector
from understudy.conversation.messages import ImageRef
from understudy.images.intake import ImageSource
from understudy.images.service import ImageService, open_images

if TYPE_CHECKING:
    from understudy.app.bot import Bot

Intake = tuple[tuple[ImageRef, ...], tuple[str, ...]]
"""Accepted images, and notes for the user about the rejected ones."""


class ImageSupport:
    """Connects the image service with the conversation and the platforms."""

    def __init__(
        self, service: ImageService, captioner: Captioner, settings: Callable[[], Vision]
    ) -> None:
        self.service = service
        self.selector = ImageSelector(service.store, settings)
        self.captioner = captioner
        self._settings = settings

    async def take(self, sources: Sequence[ImageSource], text: str = "") -> Intake:
        if sources and not self._settings().enabled:
            return (), ("I can't look at images here: vision is switched off.",)
        taken = await self.service.take(sources, text)
        return taken.refs, taken.notes


@asynccontextmanager
async def open_image_support(bot: "Bot", folder: Path) -> AsyncGenerator[ImageSupport]:
    """`folder` stores the images; it is created with the first one."""
    models = FollowUpModels(
        bot.prompts.reply,
        partial(free_first, bot),
        lambda: bot.vision().enabled and bot.vision().caption,
        bot.guard.may_spend,
        new_id,
    )
    async with open_images(folder, bot.vision, bot.clocks.wall) as service:
        captioner = Captioner(service.store, models)
        try:
            yield ImageSupport(service, captioner, bot.vision)
        finally:
            await captioner.aclose()
