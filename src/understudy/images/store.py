"""Normalised images on disk, found by content hash, with their captions, until they expire."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from understudy.files import replace_file
from understudy.llm.messages import ImagePart

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class _Metadata:
    """The metadata that is stored beside the bytes of an image."""

    media_type: str
    width: int
    height: int


class ImageStore:
    """A folder owned by this program: `ab/abc….bin`, `.json` and, once captioned, `.txt`.

    A file's modification time is the time of its last use; `expire` removes unused images.
    """

    def __init__(self, folder: Path, *, keep_s: float, wall: Callable[[], float]) -> None:
        self._folder = folder
        self._keep_s = keep_s
        self._wall = wall

    async def put(self, image: ImagePart) -> None:
        await asyncio.to_thread(self._put, image)

    async def get(self, digest: str, name: str) -> ImagePart | None:
        """The image, or `None` where it has expired."""
        return await asyncio.to_thread(self._get, digest, name)

    async def caption(self, digest: str) -> str | None:
        return await asyncio.to_thread(self._caption, digest)

    async def put_caption(self, digest: str, caption: str) -> None:
        await asyncio.to_thread(self._write, self._path(digest, ".txt"), caption.encode())

    async def expire(self) -> int:
        """Remove files that are too old; returns how many."""
        return await asyncio.to_thread(self._expire)

    def _path(self, digest: str, suffix: str) -> Path:
        if not _DIGEST.match(digest):
            raise ValueError("an image is named by its sha256 in hexadecimal")
        return self._folder / digest[:2] / f"{digest}{suffix}"

    def _put(self, image: ImagePart) -> None:
        metadata = _Metadata(image.media_type, image.width, image.height)
        self._write(self._path(image.digest, ".json"), json.dumps(asdict(metadata)).encode())
        self._write(self._path(image.digest, ".bin"), image.data)

    def _get(self, digest: str, name: str) -> ImagePart | None:
        try:
            metadata = _Metadata(**json.loads(self._path(digest, ".json").read_bytes()))
            data = self._path(digest, ".bin").read_bytes()
        except FileNotFoundError:
            return None
        now = self._wall()
        for suffix in (".bin", ".json"):
            os.utime(self._path(digest, suffix), (now, now))
        return ImagePart(data, metadata.media_type, metadata.width, metadata.height, name, digest)

    def _caption(self, digest: str) -> str | None:
        try:
            return self._path(digest, ".txt").read_text("utf-8")
        except FileNotFoundError:
            return None

    def _write(self, path: Path, data: bytes) -> None:
        """Write atomically, so that readers never see a partial file; mode 0600."""
        # `parents=True` makes the folders above with the default mode, so each is made by itself.
        for made in (self._folder, path.parent):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        now = self._wall()
        os.utime(temporary, (now, now))
        replace_file(Path(temporary), path)

    def _expire(self) -> int:
        oldest = self._wall() - self._keep_s
        old = [
            path
            for path in self._folder.glob("??/*")
            if path.is_file() and path.stat().st_mtime < oldest
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)
