"""Connects images with the conversation: intake on arrival, selection for prompts, captions."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from understudy.config.settings import Vision
from understudy.conversation.dependencies import new_id
from understudy.conversation.images import Captioner, ImageSelector
from understudy.conversation.messages import ImageRef
from understudy.images.intake import ImageSource
from understudy.images.service import ImageService, open_images
from understudy.routing.request import Reply

Intake = tuple[tuple[ImageRef, ...], tuple[str, ...]]
"""Accepted images, and notes for the user about the rejected ones."""


class ImageSupport:
    """Connects the image service with the conversation and the platforms."""

    def __init__(self, service: ImageService, captioner: Captioner, settings: Callable[[], Vision]):
        self.service = service
        self.selector = ImageSelector(service.store, settings)
        self._captioner = captioner
        self._settings = settings

    def saw(self, images: Sequence[ImageRef], platform: str) -> None:
        """Schedule captions for images of a delivered reply; later prompts use them."""
        settings = self._settings()
        if images and settings.enabled and settings.caption:
            self._captioner.schedule(images, platform)

    async def take(self, sources: Sequence[ImageSource], text: str = "") -> Intake:
        if sources and not self._settings().enabled:
            return (), ("I can't look at images here: vision is switched off.",)
        taken = await self.service.take(sources, text)
        return taken.refs, taken.notes


@asynccontextmanager
async def open_image_support(
    folder: Path, settings: Callable[[], Vision], reply: Reply, wall: Callable[[], float]
) -> AsyncGenerator[ImageSupport]:
    """`folder` stores the images; it is created with the first one."""
    async with open_images(folder, settings, wall) as service:
        captioner = Captioner(service.store, reply, new_id)
        try:
            yield ImageSupport(service, captioner, settings)
        finally:
            await captioner.aclose()
