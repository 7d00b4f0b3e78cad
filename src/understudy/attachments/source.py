"""Where the bytes of an attached file come from, and how they are fetched."""

from collections.abc import Collection
from dataclasses import dataclass

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.address_guard import Resolve, system_resolve

_FETCH_S = 10.0


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file as a platform found it: its bytes, or a link to them."""

    name: str
    data: bytes | None = None
    url: str | None = None
    size: int | None = None
    """In bytes, as the platform claims; an oversized file is refused before it is fetched."""


async def bytes_of(
    source: FileSource,
    max_bytes: int,
    allowed_hosts: Collection[str],
    resolve: Resolve = system_resolve,
) -> bytes:
    """The bytes of a file of any kind; `allowed_hosts` may have addresses that are not public.

    Raises ImageRefused, which the fetcher uses for files of every kind.
    """
    size = len(source.data) if source.data is not None else source.size or 0
    if size > max_bytes:
        raise ImageRefused(ImageRefusal.TOO_MANY_BYTES, f"it is larger than {max_bytes / 1e6:g} MB")
    if source.data is not None:
        return source.data
    # It imports aiohttp, which takes long.
    from understudy.images.fetch import ImageFetcher

    fetcher = ImageFetcher(
        timeout_s=_FETCH_S,
        max_bytes=max_bytes,
        allowed_hosts=allowed_hosts,
        resolve=resolve,
        accept="*/*",
    )
    try:
        return await fetcher.fetch(source.url or "")
    finally:
        await fetcher.aclose()
