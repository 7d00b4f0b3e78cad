"""Accepting the images of a message: which are stored, which left out, with which notes."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from understudy.images.fetch import ImageFetcher
from understudy.images.intake import DECODER_LIMITS, ImageIntake, ImageSource
from understudy.images.limits import ImageLimits
from understudy.images.store import ImageStore
from understudy.workers.pool import WorkerLimits, WorkerPool


@pytest.fixture
async def decoders() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool("images", DECODER_LIMITS)
    yield pool
    await pool.aclose()


def intake(folder: Path, decoders: WorkerPool, max_images: int = 3) -> ImageIntake:
    return ImageIntake(
        ImageFetcher(timeout_s=1, max_bytes=100_000),
        ImageStore(folder, keep_s=100, wall=lambda: 1.0),
        ImageLimits(max_bytes=100_000, max_pixels=1_000_000, long_edge=64),
        decoders,
        max_images=max_images,
    )


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (80, 40), colour).save(out, "PNG")
    return out.getvalue()


async def test_an_image_is_normalised_and_stored(tmp_path: Path, decoders: WorkerPool) -> None:
    taken = await intake(tmp_path, decoders).take([ImageSource("cat.png", data=png())])

    (ref,) = taken.refs
    assert (ref.name, ref.media_type, ref.width, ref.height) == ("cat.png", "image/jpeg", 64, 32)
    assert taken.notes == ()
    assert list(tmp_path.glob(f"??/{ref.digest}.bin"))


async def test_a_bad_image_gets_a_note_and_the_good_one_is_stored(
    tmp_path: Path, decoders: WorkerPool
) -> None:
    sources = [ImageSource("page.png", data=b"<html>"), ImageSource("cat.png", data=png())]

    taken = await intake(tmp_path, decoders).take(sources)

    assert [ref.name for ref in taken.refs] == ["cat.png"]
    assert taken.notes == ("I couldn't take in page.png: it is not an image that can be read.",)


async def test_a_link_in_the_text_that_is_no_image_is_dropped_without_a_note(
    tmp_path: Path, decoders: WorkerPool
) -> None:
    sources = [ImageSource("link", url="http://127.0.0.1/a", only_if_image=True)]

    taken = await intake(tmp_path, decoders).take(sources)

    assert taken.refs == ()
    assert taken.notes == ()


async def test_an_image_announced_as_too_large_is_not_fetched(
    tmp_path: Path, decoders: WorkerPool
) -> None:
    sources = [ImageSource("huge.png", url="https://nowhere.invalid/a.png", size=10**9)]

    taken = await intake(tmp_path, decoders).take(sources)

    assert taken.notes == ("I couldn't take in huge.png: it is larger than 0.1 MB.",)


async def test_a_note_counts_the_images_beyond_the_limit(
    tmp_path: Path, decoders: WorkerPool
) -> None:
    sources = [ImageSource(f"{colour}.png", data=png(colour)) for colour in ("red", "blue", "lime")]

    taken = await intake(tmp_path, decoders, max_images=2).take(sources)

    assert [ref.name for ref in taken.refs] == ["red.png", "blue.png"]
    assert taken.notes == ("2 images per message; 1 was not sent.",)


async def test_an_image_whose_decoder_is_killed_gets_a_note(tmp_path: Path) -> None:
    hasty = WorkerPool("images", WorkerLimits(deadline_s=0.0))

    taken = await intake(tmp_path, hasty).take([ImageSource("cat.png", data=png())])

    assert taken.notes == (
        "I couldn't take in cat.png: it takes too much time or memory to decode.",
    )
    await hasty.aclose()
