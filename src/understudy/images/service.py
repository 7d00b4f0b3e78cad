"""Everything about images in one room: taking them in, finding them again, forgetting them."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from yarl import URL

from understudy.clock import DAY_S
from understudy.config.settings import Vision
from understudy.images.address_guard import Resolve, system_resolve
from understudy.images.fetch import ImageFetcher
from understudy.images.intake import ImageIntake, ImageSource, TakenImages
from understudy.images.normalise import ImageLimits
from understudy.images.store import ImageStore
from understudy.llm.messages import ImagePart

_FORGET_EVERY_S = 3600.0
_MAX_LINKS = 4
# Phones begin a message with a capital letter, also where it is a link.
_LINK = re.compile(r"https?://[^\s<>\"'`\]\[{}|\\^]{4,2000}", re.IGNORECASE)


class ImageService:
    """Takes in what platforms find. With vision switched off it takes nothing and says nothing."""

    def __init__(
        self, store: ImageStore, settings: Callable[[], Vision], resolve: Resolve = system_resolve
    ) -> None:
        self.store = store
        self._settings = settings
        self._resolve = resolve
        self._intake: tuple[Vision, ImageIntake] | None = None
        self._replaced: list[ImageIntake] = []

    async def take(self, sources: Sequence[ImageSource], text: str = "") -> TakenImages:
        """Take in `sources`, and what the links in `text` turn out to be where that is allowed."""
        settings = self._settings()
        if not settings.enabled:
            return TakenImages()
        found = (*sources, *(links_in(text) if settings.allow_urls else ()))
        return await self._intake_for(settings).take(found) if found else TakenImages()

    async def find(self, digest: str) -> ImagePart | None:
        """A stored image by its digest, until it has expired."""
        return await self.store.get(digest, digest[:8])

    async def keep_forgetting(self) -> None:
        """Remove what has expired, every hour, until cancelled."""
        while True:
            await self.store.expire()
            await asyncio.sleep(_FORGET_EVERY_S)

    async def aclose(self) -> None:
        if self._intake is not None:
            self._replaced.append(self._intake[1])
        for intake in self._replaced:
            await intake.aclose()

    def _intake_for(self, settings: Vision) -> ImageIntake:
        if self._intake is not None and self._intake[0] == settings:
            return self._intake[1]
        if self._intake is not None:
            # It may still be fetching; it is closed at the end.
            self._replaced.append(self._intake[1])
        limits = ImageLimits(settings.max_bytes, settings.max_pixels, settings.long_edge)
        fetcher = ImageFetcher(
            timeout_s=settings.fetch_timeout_seconds,
            max_bytes=settings.max_bytes,
            allowed_hosts=settings.allow_hosts,
            resolve=self._resolve,
        )
        intake = ImageIntake(fetcher, self.store, limits, max_images=settings.max_images)
        self._intake = settings, intake
        return intake


@asynccontextmanager
async def open_images(
    folder: Path,
    settings: Callable[[], Vision],
    wall: Callable[[], float],
    resolve: Resolve = system_resolve,
) -> AsyncGenerator[ImageService]:
    """The room, with what has expired removed every hour as long as it is open."""
    keep_s = settings().keep_days * DAY_S
    room = ImageService(ImageStore(folder, keep_s=keep_s, wall=wall), settings, resolve)
    forgetting = asyncio.create_task(room.keep_forgetting())
    try:
        yield room
    finally:
        forgetting.cancel()
        await asyncio.wait({forgetting})
        await room.aclose()


def links_in(text: str) -> tuple[ImageSource, ...]:
    """Links of a text that may turn out to be images; a few at most, each once."""
    found = dict.fromkeys(match[0].rstrip(".,;:!?)*_~") for match in _LINK.finditer(text))
    return tuple(
        ImageSource(_name_of(link), url=link, only_if_image=True)
        for link in list(found)[:_MAX_LINKS]
    )


def _name_of(link: str) -> str:
    try:
        url = URL(link)
    except ValueError:
        return "link"
    return url.name or url.host or "link"
