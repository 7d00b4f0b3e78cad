"""Opens what reads the images, files and voice messages that people send."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.app.images import open_image_support
from understudy.attachments.reader import open_attachments
from understudy.config.rules import servers
from understudy.speech.service import open_voice_reader

if TYPE_CHECKING:
    from understudy.app.bot import Bot


async def open_media(bot: "Bot", image_folder: Path, stack: AsyncExitStack) -> None:
    """Set the readers of `bot`; `stack` closes them."""
    bot.images = await stack.enter_async_context(open_image_support(bot, image_folder))
    bot.attachments = await stack.enter_async_context(
        open_attachments(lambda: bot.settings().attachments, lambda: bot.vision().allow_hosts)
    )
    bot.voices = await stack.enter_async_context(
        open_voice_reader(
            lambda: bot.settings().speech,
            lambda: {path[-1]: server for path, server in servers(bot.settings().model)},
            bot.images.service.store,
            lambda: bot.vision().allow_hosts,
        )
    )
