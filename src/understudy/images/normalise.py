"""Any picture in, one safe small picture out: upright, first frame, no metadata.

Blocking and heavy: callers run `normalise` in a thread.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

from understudy.errors import ImageRefusal, ImageRefused
from understudy.llm.messages import ImagePart

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
_JPEG_QUALITY = 85
_DEEP = ("I;16", "I;16B", "I")
"""What a PNG of 16-bit greys is opened as."""
_RESIZABLE = ("RGB", "RGBA", "L", "LA", "CMYK", "YCbCr")
# The safe common denominator of the hosted servers: 4 MB of base64 is 3 MB of bytes.
_MAX_ENCODED = 3_000_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    max_bytes: int
    max_pixels: int
    long_edge: int


def normalise(data: bytes, name: str, limits: ImageLimits) -> ImagePart:
    """Decode `data` by its content, whatever its name says; raises ImageRefused.

    Pixels are counted from the header, before anything is decoded.
    """
    if len(data) > limits.max_bytes:
        raise ImageRefused(
            ImageRefusal.TOO_MANY_BYTES, f"it is larger than {limits.max_bytes / 1e6:g} MB"
        )
    with warnings.catch_warnings():
        # Pillow warns of damaged metadata and of sizes that the limit below judges anyway.
        warnings.simplefilter("ignore")
        try:
            return _decoded(data, name, limits)
        except ImageRefused:
            raise
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise _unreadable(error) from None
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError):
            # What Pillow raises for damage depends on the format and on where it is.
            raise ImageRefused(ImageRefusal.DAMAGED, "it is damaged") from None


def _unreadable(error: Exception) -> ImageRefused:
    if isinstance(error, Image.DecompressionBombError):
        return ImageRefused(ImageRefusal.TOO_MANY_PIXELS, "it has too many pixels")
    return ImageRefused(ImageRefusal.NOT_AN_IMAGE, "it is not an image that can be read")


def _decoded(data: bytes, name: str, limits: ImageLimits) -> ImagePart:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as source:
        width, height = source.size
        if width * height > limits.max_pixels:
            raise ImageRefused(
                ImageRefusal.TOO_MANY_PIXELS,
                f"it has {width}×{height} pixels, more than can be taken",
            )
        edge = limits.long_edge
        if source.format == "JPEG":
            # Decodes at a half, quarter or eighth of the size: less memory, less time.
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
    """Shrunk before anything else: every copy of the full picture would cost its whole memory."""
    image = source
    if image.mode in _DEEP:
        # A plain conversion would cut every grey above 255 off to white.
        image = image.point(lambda grey: grey / 256).convert("L")
    elif image.mode not in _RESIZABLE:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=2.0)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _flat(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something really is transparent."""
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
    # The bare pixels go into a new picture, so that no profile, comment or place travels along.
    clean = Image.frombytes(image.mode, image.size, image.tobytes())
    clean.save(out, format_name, **options)
    return out.getvalue()
