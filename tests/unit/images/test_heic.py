"""HEIC pictures: read with the extra [heic], refused by name without it, damaged ones refused."""

import asyncio
import io
import subprocess
import sys

import pillow_heif
import pytest
from PIL import Image, ImageStat

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.heic import is_heic
from understudy.images.intake import DECODER_LIMITS
from understudy.images.limits import ImageLimits
from understudy.images.normalise import normalise
from understudy.llm.messages import ImagePart
from understudy.workers.pool import WorkerPool

LIMITS = ImageLimits(max_bytes=10_000_000, max_pixels=40_000_000, long_edge=256)


def heic(image: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(image).save(out, **options)
    return out.getvalue()


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> ImageRefusal:
    with pytest.raises(ImageRefused) as caught:
        normalise(data, "a.heic", limits)
    return caught.value.reason


def test_a_heic_picture_becomes_a_small_jpeg() -> None:
    part = normalise(heic(Image.new("RGB", (640, 320), "red")), "IMG_1.HEIC", LIMITS)

    assert (part.media_type, part.width, part.height) == ("image/jpeg", 256, 128)
    red, green, blue = ImageStat.Stat(Image.open(io.BytesIO(part.data))).mean
    assert red > 240
    assert max(green, blue) < 20


def test_a_heic_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    small = ImageLimits(max_bytes=10_000_000, max_pixels=10_000, long_edge=256)

    assert refusal(heic(Image.new("RGB", (200, 100))), small) is ImageRefusal.TOO_MANY_PIXELS


@pytest.mark.parametrize("kept", [12, 40, 200, 400])
def test_a_heic_picture_that_is_cut_off_is_refused(kept: int) -> None:
    noise = Image.effect_noise((200, 200), 80).convert("RGB")

    assert refusal(heic(noise)[:kept]) in {ImageRefusal.DAMAGED, ImageRefusal.NOT_AN_IMAGE}


def test_other_containers_of_the_same_family_are_not_heic() -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "AVIF")

    assert is_heic(heic(Image.new("RGB", (64, 64))))
    assert not is_heic(out.getvalue())
    assert not is_heic(b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42")
    assert not is_heic(b"\xff\xff\xff\xffftypheic")


_WITHOUT = """
import sys
sys.modules["pillow_heif"] = None
from understudy.images.normalise import normalised_or_refused
print(normalised_or_refused(sys.stdin.buffer.read(), "a.heic", (10**7, 10**7, 256)))
"""


def test_without_the_extra_a_heic_picture_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        input=heic(Image.new("RGB", (64, 64))),
        capture_output=True,
        check=True,
    )

    assert done.stdout.decode().startswith("('heic', 'it is a HEIC picture, which I cannot read;")


@pytest.mark.slow
async def test_a_picture_of_12_megapixels_fits_the_limits_of_the_child_process() -> None:
    picture = heic(Image.new("RGB", (4032, 3024), "blue"), quality=10)
    decoders = WorkerPool("images", DECODER_LIMITS)
    try:
        reason, _, image = await asyncio.wait_for(
            decoders.run(
                "understudy.images.normalise:normalised_or_refused",
                picture,
                "a.heic",
                (10_000_000, 40_000_000, 1024),
                kind=tuple[str, str, ImagePart | None],
            ),
            60,
        )
    finally:
        await decoders.aclose()

    assert reason == ""
    assert image is not None
    assert image.width == 1024
