"""Accepts the images of a message when it arrives: fetches, normalises and stores each."""

import asyncio
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import structlog

from understudy.conversation.messages import ImageRef
from understudy.errors import ImageRefusal, ImageRefused, WorkerKilled, WorkFailed
from understudy.images.limits import ImageLimits
from understudy.images.store import ImageStore
from understudy.llm.messages import ImagePart
from understudy.workers.pool import WorkerLimits, WorkerPool

_log = structlog.get_logger()
_DECODE = "understudy.images.normalise:normalised_or_refused"
DECODER_LIMITS = WorkerLimits(workers=2, deadline_s=8.0, memory_mb=256, together_mb=300)
"""40 million pixels with transparency, the largest image by default, take 210 MB."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image as a platform found it: its bytes, or a link to them."""

    name: str
    data: bytes | None = None
    url: str | None = None
    size: int | None = None
    """In bytes, as the platform claims; an oversized image is refused before it is fetched."""
    only_if_image: bool = False
    """A link from the text: it is dropped without a note where it is not an image."""


@dataclass(frozen=True, slots=True)
class TakenImages:
    refs: tuple[ImageRef, ...] = ()
    notes: tuple[str, ...] = ()
    """For the person, one for each image that was left out."""


class Fetcher(Protocol):
    """Fetches the bytes behind links; `ImageFetcher`."""

    async def fetch(self, link: str, *, from_text: bool = False) -> bytes:
        """Raises ImageRefused."""
        ...

    async def aclose(self) -> None: ...


class ImageIntake:
    """The only place where image bytes enter the program. `decoders` decode them."""

    def __init__(
        self,
        fetcher: Fetcher,
        store: ImageStore,
        limits: ImageLimits,
        decoders: WorkerPool,
        *,
        max_images: int,
    ) -> None:
        self._fetcher = fetcher
        self._store = store
        self._limits = limits
        self._max_images = max_images
        self._decoders = decoders

    async def take(self, sources: Sequence[ImageSource]) -> TakenImages:
        """Never raises for an image: each is accepted, or left out with a note."""
        chosen = sources[: self._max_images]
        taken = await asyncio.gather(*(self._take_one(source) for source in chosen))
        notes = [note for _, note in taken if note]
        spare = sum(not source.only_if_image for source in sources[self._max_images :])
        if spare:
            verb = "was" if spare == 1 else "were"
            notes.append(f"{self._max_images} images per message; {spare} {verb} not sent.")
        return TakenImages(tuple(ref for ref, _ in taken if ref), tuple(notes))

    async def aclose(self) -> None:
        await self._fetcher.aclose()

    async def _take_one(self, source: ImageSource) -> tuple[ImageRef | None, str]:
        try:
            image = await self._normalised(source)
        except ImageRefused as refused:
            _log.info("image.refused", reason=refused.reason.value)
            if source.only_if_image:
                return None, ""
            return None, f"I couldn't take in {source.name}: {refused}."
        await self._store.put(image)
        return (
            ImageRef(image.digest, image.media_type, image.width, image.height, image.name),
            "",
        )

    async def _normalised(self, source: ImageSource) -> ImagePart:
        self._limits.check_bytes(source.size or 0)
        data = source.data
        if data is None:
            data = await self._fetcher.fetch(source.url or "", from_text=source.only_if_image)
        return await decoded(self._decoders, data, source.name, self._limits)


async def decoded(decoders: WorkerPool, data: bytes, name: str, limits: ImageLimits) -> ImagePart:
    """Normalise an image in a child process. Raises ImageRefused."""
    try:
        reason, text, image = await decoders.run(
            _DECODE, data, name, astuple(limits), kind=tuple[str, str, ImagePart | None]
        )
    except (WorkerKilled, WorkFailed):
        raise ImageRefused(
            ImageRefusal.TOO_COSTLY, "it takes too much time or memory to decode"
        ) from None
    if image is None:
        raise ImageRefused(ImageRefusal(reason), text)
    return image
