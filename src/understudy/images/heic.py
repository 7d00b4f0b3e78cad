"""HEIC and HEIF pictures, as telephones take them; decoded with the extra [heic].

It is no default: the packages of pillow-heif contain x265, which is under the GPL.
"""

from functools import cache

_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
"""ISO/IEC 23008-12, annexes B and D: pictures coded with HEVC."""
_HEAD = 16
_MOST_HEAD = 256


def is_heic(data: bytes) -> bool:
    """Whether the file type box lists a brand of HEVC pictures."""
    size = int.from_bytes(data[:4], "big")
    if data[4:8] != b"ftyp" or not _HEAD <= size <= _MOST_HEAD:
        return False
    box = data[8:size]
    # Major brand, version, compatible brands.
    return not _BRANDS.isdisjoint(box[at : at + 4] for at in range(0, len(box), 4) if at != 4)


@cache
def install_decoder() -> bool:
    """Add the format HEIF to Pillow; False without the extra [heic]."""
    try:
        import pillow_heif
    except ImportError:
        return False
    # One picture, one thread: the memory limit of the child holds for all of it.
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    pillow_heif.register_heif_opener()
    return True
