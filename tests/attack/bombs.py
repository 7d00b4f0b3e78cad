"""Files that are small and cost much: made here, never kept."""

import base64
import bz2
import io
import json
import lzma
import struct
import zlib
from functools import cache

from PIL import Image

_SOS = 0xDA
_NO_LENGTH = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}
_PIECE = bytes(10_000_000)


def picture(size: int = 64) -> bytes:
    """An ordinary JPEG."""
    out = io.BytesIO()
    Image.new("RGB", (size, size), "teal").save(out, "JPEG")
    return out.getvalue()


@cache
def jpeg_of_scans(scans: int = 1200) -> bytes:
    """A progressive JPEG of 36 million pixels whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("L", (6000, 6000), 128).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    starts = [at for at, kind in _segments(data) if kind == _SOS]
    last = data[_tables_before(data, starts[-1]) : -2]
    return data[:-2] + last * (scans - len(starts)) + data[-2:]


def _segments(data: bytes) -> list[tuple[int, int]]:
    """Place and kind of each marker, entropy-coded data skipped."""
    found, at = [], 0
    while at < len(data) - 1:
        if data[at] == 0xFF and data[at + 1] not in {0x00, 0xFF, *range(0xD0, 0xD8)}:
            kind = data[at + 1]
            found.append((at, kind))
            at += 2
            if kind not in _NO_LENGTH and kind != 0xD9:
                at += struct.unpack(">H", data[at : at + 2])[0]
        else:
            at += 1
    return found


def _tables_before(data: bytes, scan: int) -> int:
    """Where the Huffman tables begin that belong to this scan."""
    before = [at for at, kind in _segments(data) if at < scan and kind == 0xC4]
    return before[-1] if before else scan


def card_json() -> bytes:
    return json.dumps(
        {"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "A", "description": "B"}}
    ).encode()


@cache
def charx_bzip2(megabytes: int = 900) -> bytes:
    """A few hundred bytes whose only member unpacks to much more than its header says."""
    packer = bz2.BZ2Compressor()
    body = b"".join(packer.compress(_PIECE) for _ in range(megabytes // 10)) + packer.flush()
    return _zip_of(12, body)


@cache
def charx_lzma(megabytes: int = 900) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 1}]
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    head = struct.pack("<BBH", 9, 4, 5) + lzma._encode_filter_properties(filters[0])  # type: ignore[attr-defined]
    body = b"".join(packer.compress(_PIECE) for _ in range(megabytes // 10)) + packer.flush()
    return _zip_of(14, head + body)


def _zip_of(method: int, body: bytes) -> bytes:
    """A ZIP file with `card.json` packed by `method`; its size and checksum are lies."""
    name, size = b"card.json", 1000
    fields = struct.pack("<HHHHHLLLHH", 20, 0, method, 0, 33, 0, len(body), size, len(name), 0)
    local = b"PK\x03\x04" + fields + name + body
    central = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHLL", 0, 0, 0, 0, 0)
    central += name
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


@cache
def charx_of_entries(count: int = 446_200) -> bytes:
    """A ZIP file that is nothing but its list of members."""
    name = b""
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHLLLHHHHHLL", 20, 20, 0, 0, 0, 33, 0, 0, 0, 0, 0, 0,
                                        0, 0, 0, 0) + name  # fmt: skip
    local = b"PK\x03\x04" + struct.pack("<HHHHHLLLHH", 20, 0, 0, 0, 33, 0, 0, 0, 0, 0) + name
    central = entry * count
    many = struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, count, count, len(central), len(local))
    end64 = b"PK\x06\x06" + many
    where = b"PK\x06\x07" + struct.pack("<LQL", 0, len(local) + len(central), 1)
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return local + central + end64 + where + end


@cache
def png_of_packed_cards(chunks: int = 2300) -> bytes:
    """A PNG with one card, and compressed chunks of the same keyword that unpack to 8 MB each."""
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    picture_bytes = out.getvalue()
    text = base64.b64encode(card_json())
    bomb = b"chara\0\0" + zlib.compress(bytes(8_000_000), 9)
    card = _chunk(b"tEXt", b"chara\0" + text)
    return picture_bytes[:33] + card + _chunk(b"zTXt", bomb) * chunks + picture_bytes[33:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def yaml_of_a_megabyte() -> bytes:
    """A list 150 levels deep and half a million entries long."""
    depth = 150
    room = 1_000_000 - 2 * depth
    return b"name: A\nb: " + b"[" * depth + b"a," * (room // 2) + b"]" * depth


def slow_lorebook(patterns: int = 300) -> bytes:
    """A lorebook whose patterns each take as long as a pattern may."""
    entries = {
        str(at): {
            "key": [f"/(a|aa)+[b-z]{{1,{at + 1}}}/"],
            "content": f"fact {at}",
            "order": at,
            "uid": at,
        }
        for at in range(patterns)
    }
    return json.dumps({"entries": entries}).encode()
