"""Normalising images of every format, damaged ones included."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.limits import ImageLimits
from understudy.images.normalise import normalise
from understudy.llm.messages import ImagePart

LIMITS = ImageLimits(max_bytes=2_000_000, max_pixels=4_000_000, long_edge=256)


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def opened(part: ImagePart) -> Image.Image:
    return Image.open(io.BytesIO(part.data))


def png_claiming(width: int, height: int, body: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> ImageRefusal:
    with pytest.raises(ImageRefused) as caught:
        normalise(data, "a.png", limits)
    return caught.value.reason


def test_a_large_picture_becomes_a_small_jpeg() -> None:
    part = normalise(encoded(Image.new("RGB", (1200, 600), "red"), "PNG"), "a.png", LIMITS)

    assert (part.media_type, part.width, part.height) == ("image/jpeg", 256, 128)
    assert opened(part).size == (256, 128)


def test_a_small_picture_keeps_its_size() -> None:
    part = normalise(encoded(Image.new("RGB", (20, 10)), "WEBP"), "a.webp", LIMITS)

    assert (part.width, part.height) == (20, 10)


def test_transparency_stays_and_is_a_png() -> None:
    part = normalise(encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 40)), "PNG"), "a", LIMITS)

    assert part.media_type == "image/png"
    assert opened(part).convert("RGBA").getpixel((4, 4)) == (255, 0, 0, 40)


def test_an_opaque_alpha_channel_is_no_transparency() -> None:
    part = normalise(encoded(Image.new("RGBA", (9, 9), "blue"), "PNG"), "a", LIMITS)

    assert part.media_type == "image/jpeg"


def test_a_picture_is_turned_upright_and_loses_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    exif[0x010E] = "taken at home"
    sideways = encoded(Image.new("RGB", (40, 20)), "JPEG", exif=exif, comment=b"secret place")

    part = normalise(sideways, "a.jpg", LIMITS)

    assert (part.width, part.height) == (20, 40)
    assert not opened(part).getexif()
    assert b"secret" not in part.data
    assert b"home" not in part.data


def test_png_text_is_removed() -> None:
    info = PngInfo()
    info.add_text("parameters", "a secret prompt")
    picture = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 9)), "PNG", pnginfo=info)

    assert b"secret" not in normalise(picture, "a.png", LIMITS).data


def test_an_animation_becomes_its_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

    red, green, _ = opened(normalise(gif, "a.gif", LIMITS)).convert("RGB").getpixel((8, 8))  # type: ignore[misc]

    assert red > 200
    assert green < 60


def test_cmyk_becomes_rgb() -> None:
    part = normalise(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "a", LIMITS)

    assert opened(part).mode == "RGB"


def test_the_format_is_read_from_the_content_not_the_name() -> None:
    part = normalise(encoded(Image.new("RGB", (8, 8)), "GIF"), "photo.jpg", LIMITS)

    assert part.media_type == "image/jpeg"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><body>404</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"\x00" * 64,
    ],
)
def test_bytes_that_are_not_an_image_are_refused(data: bytes) -> None:
    assert refusal(data) is ImageRefusal.NOT_AN_IMAGE


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    assert refusal(png_claiming(50_000, 50_000)) is ImageRefusal.TOO_MANY_PIXELS


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = zlib.compress(b"\x00" * 30_000_000, 9)

    assert refusal(png_claiming(3000, 3000, bomb)) is ImageRefusal.TOO_MANY_PIXELS


def test_a_text_bomb_inside_a_png_is_refused() -> None:
    text = b"Comment\x00\x00" + zlib.compress(bytes(80_000_000), 1)
    picture = encoded(Image.new("RGB", (8, 8)), "PNG")
    at = picture.index(b"IDAT") - 4

    data = picture[:at] + _chunk(b"zTXt", text) + picture[at:]

    assert refusal(data) in {ImageRefusal.DAMAGED, ImageRefusal.NOT_AN_IMAGE}


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_picture_cut_in_the_middle_is_refused(format_name: str) -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    whole = encoded(noise, format_name)

    assert refusal(whole[: len(whole) // 2]) in {
        ImageRefusal.DAMAGED,
        ImageRefusal.NOT_AN_IMAGE,
    }


def test_too_many_bytes_are_refused() -> None:
    assert refusal(b"\xff" * 2_000_001) is ImageRefusal.TOO_MANY_BYTES


def test_the_same_picture_has_the_same_digest() -> None:
    picture = encoded(Image.new("RGB", (30, 30), "teal"), "PNG")

    digests = {normalise(picture, name, LIMITS).digest for name in ("a.png", "b.png")}

    assert len(digests) == 1


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_gives_an_image_or_a_refusal(data: st.DataObject) -> None:
    format_name = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP"]))
    body = bytearray(encoded(Image.new("RGB", (24, 24), "teal"), format_name))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))

    try:
        part = normalise(bytes(body), "a", LIMITS)
    except ImageRefused:
        return
    assert max(part.width, part.height) <= LIMITS.long_edge


def test_sixteen_bit_greys_keep_their_shades() -> None:
    greys = b"".join(bytes((0, shade)) * 32 for shade in (0x10, 0x80, 0xF0))
    scan = Image.frombytes("I;16", (96, 32), greys * 32)

    seen = opened(normalise(encoded(scan, "PNG"), "scan.png", LIMITS)).convert("L")

    assert [seen.getpixel((x, 16)) for x in (16, 48, 80)] == [0x10, 0x80, 0xF0]


def test_a_jpeg_of_many_scans_is_refused_before_decoding() -> None:
    out = io.BytesIO()
    Image.new("L", (64, 64)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    last_scan = data[data.rindex(b"\xff\xda") : -2]

    with pytest.raises(ImageRefused) as refused:
        normalise(data[:-2] + last_scan * 1200 + data[-2:], "a.jpg", LIMITS)

    assert refused.value.reason is ImageRefusal.TOO_COSTLY
