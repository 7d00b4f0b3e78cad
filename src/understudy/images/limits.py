"""What an image may be at most. Apart from `normalise`, which imports the decoders."""

from dataclasses import dataclass

from understudy.errors import ImageRefusal, ImageRefused


@dataclass(frozen=True, slots=True)
class ImageLimits:
    max_bytes: int
    max_pixels: int
    long_edge: int
    """To which a larger image is shrunk."""

    def check_bytes(self, size: int) -> None:
        """Raises ImageRefused."""
        if size > self.max_bytes:
            raise ImageRefused(
                ImageRefusal.TOO_MANY_BYTES, f"it is larger than {self.max_bytes / 1e6:g} MB"
            )

    def check_pixels(self, width: int, height: int) -> None:
        """Raises ImageRefused."""
        if width * height > self.max_pixels:
            raise ImageRefused(
                ImageRefusal.TOO_MANY_PIXELS,
                f"it has {width}×{height} pixels, more than can be taken",
            )
