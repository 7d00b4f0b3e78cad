"""Turns any image into a small safe one: upright, first frame only, no metadata.

`normalise` blocks and uses much CPU and memory: callers run it off the event loop.
"""

import hashlib
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.heic import install_decoder, is_heic
from understudy.images.limits import ImageLimits
from understudy.llm.messages import ImagePart

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
_JPEG_QUALITY = 85
_DEEP = ("I;16", "I;16B", "I")
"""The modes in which Pillow opens a PNG of 16-bit greys."""
_RESIZABLE = ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr")
# The smallest limit of the hosted servers: 4 MB of base64, which is 3 MB of bytes.
_MAX_ENCODED = 3_000_000
# Encoders write 10 to 20 scans. Each scan of a progressive JPEG passes over all of its pixels.
_MAX_SCANS = 40
_SCAN = b"\xff\xda"


def normalise(data: bytes, name: str, limits: ImageLimits) -> ImagePart:
    """Decode `data` by its content, not its name; raises ImageRefused.

    The header's number of pixels is checked before anything is decoded.
    """
    limits.check_bytes(len(data))
    with warnings.catch_warnings():
        # Pillow warns about damaged metadata, and about sizes that `max_pixels` limits anyway.
        warnings.simplefilter("ignore")
        try:
            return _decoded(data, name, limits)
        except ImageRefused:
            raise
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise _unreadable(error) from None
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError):
            # Which exception Pillow raises depends on the format and on where the damage is.
            raise ImageRefused(ImageRefusal.DAMAGED, "it is damaged") from None


def normalised_or_refused(
    data: bytes, name: str, limits: tuple[int, int, int]
) -> tuple[str, str, ImagePart | None]:
    """`normalise` for a child process: reason and text of a refusal, both empty beside an image.

    `limits` are the fields of ImageLimits in their order.
    """
    try:
        return "", "", normalise(data, name, ImageLimits(*limits))
    except ImageRefused as refused:
        return refused.reason.value, str(refused), None


def _unreadable(error: Exception) -> ImageRefused:
    if isinstance(error, Image.DecompressionBombError):
        return ImageRefused(ImageRefusal.TOO_MANY_PIXELS, "it has too many pixels")
    return ImageRefused(ImageRefusal.NOT_AN_IMAGE, "it is not an image that can be read")


def _formats(data: bytes) -> tuple[str, ...]:
    if not is_heic(data):
        return _FORMATS
    if not install_decoder():
        raise ImageRefused(
            ImageRefusal.HEIC, "it is a HEIC picture, which I cannot read; JPEG or PNG works"
        )
    return ("HEIF",)


def _decoded(data: bytes, name: str, limits: ImageLimits) -> ImagePart:
    with Image.open(io.BytesIO(data), formats=_formats(data)) as source:
        width, height = source.size
        limits.check_pixels(width, height)
        edge = limits.long_edge
        if source.format == "JPEG":
            if data.count(_SCAN) > _MAX_SCANS:
                raise ImageRefused(
                    ImageRefusal.TOO_COSTLY, "it takes too much time or memory to decode"
                )
            # libjpeg decodes at 1/2, 1/4 or 1/8 of the size: less memory and time.
            source.draft(None, (edge, edge))
        flat = _flat(_small(source, edge))
    encoded, media_type = _encoded(flat)
    return ImagePart(
        data=encoded,
        media_type=media_type,
        width=flat.width,
        height=flat.height,
        name=name,
        digest=hashlib.sha256(encoded).hexdigest(),
    )


def _small(source: Image.Image, edge: int) -> Image.Image:
    """Shrunk first: each copy of the full-size image would need its whole memory."""
    image = source
    if image.mode in _DEEP:
        # Image.convert would clip every grey above 255 to white.
        image = image.point(lambda grey: grey / 256).convert("L")
    elif image.mode not in _RESIZABLE:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _flat(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where at least one pixel is transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        lowest = rgba.getchannel("A").getextrema()[0]
        return rgba if lowest != 255 else rgba.convert("RGB")
    return image.convert("RGB")


def _encoded(image: Image.Image) -> tuple[bytes, str]:
    if image.mode == "RGBA":
        png = _saved(image, "PNG", optimize=False)
        if len(png) <= _MAX_ENCODED:
            return png, "image/png"
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        image = paper
    return _saved(image, "JPEG", quality=_JPEG_QUALITY), "image/jpeg"


def _saved(image: Image.Image, format_name: str, **options: int) -> bytes:
    out = io.BytesIO()
    # Only the pixels are copied to a new image: no colour profile, comment or location.
    clean = Image.frombytes(image.mode, image.size, image.tobytes())
    clean.save(out, format_name, **options)
    return out.getvalue()
