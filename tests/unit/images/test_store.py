"""Images on disk, until they expire."""

from pathlib import Path

import pytest

from understudy.images.store import ImageStore
from understudy.llm.messages import ImagePart

PART = ImagePart(b"bytes", "image/jpeg", 3, 2, "cat.jpg", "ab" * 32)


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def store(folder: Path, wall: Clock) -> ImageStore:
    return ImageStore(folder, keep_s=100, wall=wall)


def open_to_others(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.stat().st_mode & 0o077]


async def test_a_stored_image_is_returned_under_the_requested_name(tmp_path: Path) -> None:
    images = store(tmp_path, Clock())
    await images.put(PART)

    found = await images.get(PART.digest, "dog.jpg")

    assert found == ImagePart(b"bytes", "image/jpeg", 3, 2, "dog.jpg", PART.digest)


async def test_folders_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    await store(tmp_path / "bot.db-images", Clock()).put(PART)

    assert open_to_others(tmp_path) == []


async def test_an_unknown_image_is_none(tmp_path: Path) -> None:
    assert await store(tmp_path, Clock()).get("cd" * 32, "a") is None


async def test_captions_are_found_by_the_same_digest(tmp_path: Path) -> None:
    images = store(tmp_path, Clock())
    assert await images.caption(PART.digest) is None

    await images.put_caption(PART.digest, "a cat on a wall")

    assert await images.caption(PART.digest) == "a cat on a wall"


async def test_unused_images_expire_and_used_ones_stay(tmp_path: Path) -> None:
    wall = Clock()
    images = store(tmp_path, wall)
    other = ImagePart(b"x", "image/png", 1, 1, "x", "cd" * 32)
    await images.put(PART)
    await images.put(other)
    wall.now += 90
    await images.get(PART.digest, "a")
    wall.now += 20

    assert await images.expire() == 2
    assert await images.get(PART.digest, "a") is not None
    assert await images.get(other.digest, "x") is None


async def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    await store(tmp_path, Clock()).put(PART)

    assert open_to_others(tmp_path) == []


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "AB" * 32, "ab" * 32 + "\n"])
async def test_a_digest_is_never_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="sha256"):
        await store(tmp_path, Clock()).get(digest, "a")
