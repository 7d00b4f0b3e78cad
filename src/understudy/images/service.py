"""The image service: accepts the images of messages, finds stored ones, removes expired ones."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from yarl import URL

from understudy.clock import DAY_S
from understudy.config.settings import Vision
from understudy.errors import ImageRefused
from understudy.images.address_guard import Resolve, system_resolve
from understudy.images.intake import DECODER_LIMITS, ImageIntake, ImageSource, TakenImages, decoded
from understudy.images.limits import ImageLimits
from understudy.images.store import ImageStore
from understudy.llm.messages import ImagePart
from understudy.workers.pool import WorkerPool

_EXPIRE_EVERY_S = 3600.0
_MAX_LINKS = 4
# Phones capitalise the first letter of a message, also in a link.
_LINK = re.compile(r"https?://[^\s<>\"'`\]\[{}|\\^]{4,2000}", re.IGNORECASE)


class ImageService:
    """Accepts the images that platforms find. With `vision.enabled` off it accepts none and says
    nothing."""

    def __init__(
        self, store: ImageStore, settings: Callable[[], Vision], resolve: Resolve = system_resolve
    ) -> None:
        self.store = store
        self._settings = settings
        self._resolve = resolve
        self._intake: tuple[Vision, ImageIntake] | None = None
        self._replaced: list[ImageIntake] = []
        self._decoders = WorkerPool("images", DECODER_LIMITS)

    async def take(self, sources: Sequence[ImageSource], text: str = "") -> TakenImages:
        """Accept `sources`, and images behind links in `text` if `vision.allow_urls` is on."""
        settings = self._settings()
        if not settings.enabled:
            return TakenImages()
        found = (*sources, *(links_in(text) if settings.allow_urls else ()))
        return await self._intake_for(settings).take(found) if found else TakenImages()

    async def find(self, digest: str) -> ImagePart | None:
        """A stored image by its digest, until it has expired."""
        return await self.store.get(digest, digest[:8])

    async def small(self, data: bytes, name: str, edge: int) -> ImagePart | None:
        """An image of the operator without metadata, at most `edge` pixels wide and high; None for
        one that cannot be read."""
        settings = self._settings()
        limits = ImageLimits(settings.max_bytes, settings.max_pixels, edge)
        try:
            return await decoded(self._decoders, data, name, limits)
        except ImageRefused:
            return None

    async def expire_hourly(self) -> None:
        """Remove what has expired, every hour, until cancelled."""
        while True:
            await self.store.expire()
            await asyncio.sleep(_EXPIRE_EVERY_S)

    async def aclose(self) -> None:
        if self._intake is not None:
            self._replaced.append(self._intake[1])
        for intake in self._replaced:
            await intake.aclose()
        await self._decoders.aclose()

    def _intake_for(self, settings: Vision) -> ImageIntake:
        if self._intake is not None and self._intake[0] == settings:
            return self._intake[1]
        if self._intake is not None:
            # It may still fetch; `aclose` closes it.
            self._replaced.append(self._intake[1])
        # Here, because most starts fetch no image and aiohttp takes long to import.
        from understudy.images.fetch import ImageFetcher

        limits = ImageLimits(settings.max_bytes, settings.max_pixels, settings.long_edge)
        fetcher = ImageFetcher(
            timeout_s=settings.fetch_timeout_seconds,
            max_bytes=settings.max_bytes,
            allowed_hosts=settings.allow_hosts,
            resolve=self._resolve,
        )
        intake = ImageIntake(
            fetcher, self.store, limits, self._decoders, max_images=settings.max_images
        )
        self._intake = settings, intake
        return intake


@asynccontextmanager
async def open_images(
    folder: Path,
    settings: Callable[[], Vision],
    wall: Callable[[], float],
    resolve: Resolve = system_resolve,
) -> AsyncGenerator[ImageService]:
    """The service; while it is open, expired images are removed every hour."""
    keep_s = settings().keep_days * DAY_S
    service = ImageService(ImageStore(folder, keep_s=keep_s, wall=wall), settings, resolve)
    expiring = asyncio.create_task(service.expire_hourly())
    try:
        yield service
    finally:
        expiring.cancel()
        await asyncio.wait({expiring})
        await service.aclose()


def links_in(text: str) -> tuple[ImageSource, ...]:
    """The first links of a text, each once, as sources that may not be images."""
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
