"""The eyes of a bot: images taken in at arrival, shown to models that see, captioned for later."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from understudy.config.settings import Vision
from understudy.conversation.dependencies import new_id
from understudy.conversation.images import Answering, Captioner, ImageSelector
from understudy.conversation.messages import ImageRef
from understudy.images.intake import ImageSource
from understudy.images.service import ImageService, open_images

Taken = tuple[tuple[ImageRef, ...], tuple[str, ...]]
"""Images that were taken in, and notes for the person about the others."""


class ImageSupport:
    """Joins the room of images with the conversation and the platforms."""

    def __init__(self, room: ImageService, captioner: Captioner, settings: Callable[[], Vision]):
        self.room = room
        self.eyes = ImageSelector(room.store, settings)
        self._captioner = captioner
        self._settings = settings

    def saw(self, images: Sequence[ImageRef], platform: str) -> None:
        """A delivered reply has seen these: later prompts will want words for them."""
        settings = self._settings()
        if images and settings.enabled and settings.caption:
            self._captioner.wish(images, platform)

    async def take(self, sources: Sequence[ImageSource], text: str = "") -> Taken:
        if sources and not self._settings().enabled:
            return (), ("I can't look at images here: vision is switched off.",)
        taken = await self.room.take(sources, text)
        return taken.refs, taken.notes


@asynccontextmanager
async def open_sight(
    folder: Path, settings: Callable[[], Vision], reply: Answering, wall: Callable[[], float]
) -> AsyncGenerator[ImageSupport]:
    """`folder` is where images are kept; it is made when the first one comes."""
    async with open_images(folder, settings, wall) as room:
        captioner = Captioner(room.store, reply, new_id)
        try:
            yield ImageSupport(room, captioner, settings)
        finally:
            await captioner.aclose()
