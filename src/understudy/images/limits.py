"""What an image may be at most. Apart from `normalise`, which imports the decoders."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    max_bytes: int
    max_pixels: int
    long_edge: int
