"""What hostile images cost: time and peak memory of each, in a process of its own.

Run with `python bench/images.py`. Memory is the process's peak above what it needs for a small
picture; the fetch of slow and endless servers is bounded in `tests/unit/images/test_fetch.py`.
"""

import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable

from PIL import Image

from understudy.config.settings import Vision
from understudy.errors import ImageRefused
from understudy.images.normalise import ImageLimits, normalise

_USUAL = Vision()
LIMITS = ImageLimits(_USUAL.max_bytes, _USUAL.max_pixels, _USUAL.long_edge)


def _encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format_name, **options)
    return out.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, body: bytes, *extra: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", header, *extra, _chunk(b"IDAT", body), _chunk(b"IEND", b""))
    )


def _many_frames() -> bytes:
    frames = [Image.new("P", (64, 64), i % 256) for i in range(2000)]
    return _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


SAMPLES: dict[str, Callable[[], bytes]] = {
    "small picture": lambda: _encoded(Image.new("RGB", (64, 64), "red"), "PNG"),
    "largest allowed, JPEG": lambda: _encoded(Image.new("RGB", (8000, 5000), "teal"), "JPEG"),
    "largest allowed, PNG": lambda: _encoded(Image.new("RGBA", (8000, 5000), "teal"), "PNG"),
    "bomb: 50,000 x 50,000": lambda: _png(50_000, 50_000, zlib.compress(b"\0" * 100_000_000, 9)),
    "bomb: body larger than said": lambda: _png(100, 100, zlib.compress(b"\0" * 200_000_000, 9)),
    "bomb: compressed text": lambda: _png(
        8,
        8,
        zlib.compress(b"\0" * 200),
        _chunk(b"zTXt", b"c\0\0" + zlib.compress(b"a" * 100_000_000, 9)),
    ),
    "bomb: compressed profile": lambda: _png(
        8,
        8,
        zlib.compress(b"\0" * 200),
        _chunk(b"iCCP", b"c\0\0" + zlib.compress(b"a" * 100_000_000, 9)),
    ),
    "2,000 frames": _many_frames,
    "10 MB of noise": lambda: bytes(range(256)) * 39_000,
    "10 MB of spaces": lambda: b" " * 9_999_999,
}


def _measure(name: str) -> None:
    data = SAMPLES[name]()
    # The sample itself took memory too; the peak so far is the floor of what can be seen.
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    try:
        part = normalise(data, "a", LIMITS)
        outcome = f"{part.media_type}, {part.width}x{part.height}"
    except ImageRefused as refused:
        outcome = f"refused: {refused.reason.value}"
    took_ms = (time.perf_counter() - began) * 1000
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - floor) / 1024
    print(f"{name:<30} {took_ms:>8.1f} {grown_mb:>8.0f}  {outcome}")


def main() -> None:
    if len(sys.argv) > 1:
        _measure(sys.argv[1])
        return
    print(f"{'sample':<30} {'ms':>8} {'MB more':>8}  outcome", flush=True)
    for name in SAMPLES:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
