"""Reads the header of a GGUF file: what the model is, before any of it is loaded.

Own code instead of the `gguf` package: that one reads every token of the vocabulary into numpy
arrays, and this header may come from a stranger. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from understudy.errors import ModelFileError

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_MAX_HEADER_BYTES: Final = 256 * 1024 * 1024
"""A vocabulary of a million tokens takes some 30 MB."""
_MAX_ENTRIES: Final = 1_000_000
_MAX_ELEMENTS: Final = 8_000_000
_MAX_DIMENSIONS: Final = 8
_MAX_LAYERS: Final = 10_000
_CHUNK_BYTES: Final = 1024 * 1024
_ALIGNMENT: Final = 32

_STRING, _ARRAY = 8, 9
_SCALARS: Final[Mapping[int, str]] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}

_BLOCKS: Final[Mapping[int, tuple[int, int]]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}
"""Elements and bytes of one block, by ggml's number of the tensor type."""

Value = int | float | bool | str


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What the header of one file says; `None` where it does not."""

    size_bytes: int
    """Of the file."""
    architecture: str
    kind: str
    """`model`, or `mmproj` for the image encoder of a model that sees."""
    name: str | None
    parameters: int
    """Weights, counted over all tensors."""
    context_length: int | None
    """What the model was trained for, in tokens."""
    chat_template: str | None
    layers: int | None
    vocabulary: int | None
    cache_bytes_per_token: int | None
    """Of the key-value cache at 16 bits, for one token of context."""


def read_gguf(path: Path) -> GgufFacts:
    """Read the header of `path`. Raises ModelFileError for what is no whole, loadable model."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return read_header(file, size, path)
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a folder, not a GGUF file.") from None
    except FileNotFoundError:
        raise ModelFileError(f"There is no file {path}.") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from None


def read_header(file: BinaryIO, size: int, path: Path) -> GgufFacts:
    """The same of an open file of `size` bytes; `path` is for the sentences of errors."""
    return _Header(_Cursor(file, size), path).facts(size)


class _Damaged(Exception):
    """The header does not hold what it announces."""


class _Cursor:
    """Reads forward through the header, at most `_MAX_HEADER_BYTES` of it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._buffer = b""
        self._at = 0
        self._start = 0

    @property
    def position(self) -> int:
        return self._start + self._at

    def take(self, count: int) -> bytes:
        self._fill(count)
        piece = self._buffer[self._at : self._at + count]
        self._at += count
        return piece

    def skip(self, count: int) -> None:
        if self._at + count <= len(self._buffer):
            self._at += count
            return
        self._start = self.position + count
        self._check(self._start)
        self._file.seek(self._start)
        self._buffer, self._at = b"", 0

    def number(self, form: str) -> Value:
        value: Value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def count(self, limit: int, form: str = "<Q") -> int:
        value = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if value > limit:
            raise _Damaged
        return int(value)

    def text(self) -> str:
        return self.take(self.count(self._size)).decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        """Skip a vocabulary: a hundred thousand short texts, so the loop is kept small."""
        for _ in range(count):
            self._fill(8)
            (length,) = struct.unpack_from("<Q", self._buffer, self._at)
            self._at += 8
            self.skip(length)

    def _fill(self, count: int) -> None:
        if self._at + count <= len(self._buffer):
            return
        self._check(self.position + count)
        rest = self._buffer[self._at :]
        self._start, self._at = self.position, 0
        self._buffer = rest + self._file.read(max(_CHUNK_BYTES, count - len(rest)))
        if len(self._buffer) < count:
            raise _Damaged

    def _check(self, end: int) -> None:
        if end > min(self._size, _MAX_HEADER_BYTES):
            raise _Damaged


class _Header:
    def __init__(self, cursor: _Cursor, path: Path) -> None:
        self._cursor = cursor
        self._path = path
        self._values: dict[str, Value] = {}
        self._lengths: dict[str, int] = {}
        """Of arrays."""
        self._peaks: dict[str, int] = {}
        """The largest of arrays of whole numbers, which are one number per layer."""

    def facts(self, size: int) -> GgufFacts:
        cursor = self._cursor
        if size < 24 or cursor.take(4) != _MAGIC:
            raise ModelFileError(f"{self._path} is not a GGUF file.")
        self._check_version()
        try:
            tensors, entries = cursor.count(_MAX_ENTRIES), cursor.count(_MAX_ENTRIES)
            for _ in range(entries):
                self._read_entry()
            parameters, data_bytes = self._read_tensors(tensors)
        except _Damaged:
            raise ModelFileError(f"{self._path} is damaged: its header is cut off.") from None
        self._check_whole(size, data_bytes)
        return self._summary(size, parameters)

    def _check_version(self) -> None:
        version = self._cursor.number("<I")
        if version in _VERSIONS:
            return
        swapped = struct.unpack(">I", struct.pack("<I", version))[0]
        if swapped in _VERSIONS:
            raise ModelFileError(f"{self._path} is for big-endian machines, which are unsupported.")
        raise ModelFileError(f"{self._path} has GGUF version {version}, which is not supported.")

    def _read_entry(self) -> None:
        cursor = self._cursor
        key, kind = cursor.text(), cursor.count(12, "<I")
        if kind == _STRING:
            self._values[key] = cursor.text()
        elif kind == _ARRAY:
            self._read_array(key)
        else:
            self._values[key] = cursor.number(_SCALARS[kind])

    def _read_array(self, key: str) -> None:
        cursor = self._cursor
        kind, length = cursor.count(12, "<I"), cursor.count(_MAX_ELEMENTS)
        self._lengths[key] = length
        if kind == _STRING:
            cursor.skip_texts(length)
        elif kind == _ARRAY:
            raise _Damaged  # the format allows it, no writer makes it
        elif kind in (4, 5) and 0 < length <= _MAX_LAYERS and "head_count" in key:
            self._peaks[key] = max(int(cursor.number(_SCALARS[kind])) for _ in range(length))
        else:
            cursor.skip(length * struct.calcsize(_SCALARS[kind]))

    def _read_tensors(self, count: int) -> tuple[int, int | None]:
        """How many weights there are, and how many bytes they take; `None` for unknown types."""
        cursor, parameters, end, known = self._cursor, 0, 0, True
        for _ in range(count):
            cursor.skip(cursor.count(1024))
            elements = math.prod(
                cursor.count(2**48) for _ in range(cursor.count(_MAX_DIMENSIONS, "<I"))
            )
            kind, offset = cursor.count(2**31, "<I"), cursor.count(2**62)
            parameters += elements
            if kind in _BLOCKS:
                per_block, block_bytes = _BLOCKS[kind]
                end = max(end, offset + elements // per_block * block_bytes)
            else:
                known = False
        return parameters, end if known else None

    def _check_whole(self, size: int, data_bytes: int | None) -> None:
        if (self._number("split.count") or 0) > 1:
            raise ModelFileError(
                f"{self._path} is one part of a split model; join the parts with llama.cpp's "
                "`llama-gguf-split --merge`, or get a file in one piece."
            )
        if not data_bytes:
            return
        alignment = self._number("general.alignment") or _ALIGNMENT
        start = -(-self._cursor.position // alignment) * alignment
        if size < start + data_bytes:
            missing = start + data_bytes - size
            raise ModelFileError(
                f"{self._path} is incomplete: {missing / 1e6:.1f} MB of its weights are missing."
            )

    def _summary(self, size: int, parameters: int) -> GgufFacts:
        architecture = self._text("general.architecture")
        if architecture is None:
            raise ModelFileError(f"{self._path} does not name its architecture.")
        return GgufFacts(
            size_bytes=size,
            architecture=architecture,
            kind="mmproj" if architecture == "clip" else "model",
            name=self._text("general.name"),
            parameters=parameters,
            context_length=self._number(f"{architecture}.context_length"),
            chat_template=self._text("tokenizer.chat_template"),
            layers=self._number(f"{architecture}.block_count"),
            vocabulary=self._lengths.get("tokenizer.ggml.tokens"),
            cache_bytes_per_token=self._cache_bytes(architecture),
        )

    def _cache_bytes(self, architecture: str) -> int | None:
        """Two 16-bit values per layer and key-value head. Too high for models that remember less
        in some layers (sliding windows, recurrent ones), never too low."""
        layers = self._number(f"{architecture}.block_count")
        width = self._number(f"{architecture}.embedding_length")
        heads = self._number(f"{architecture}.attention.head_count")
        if not (layers and width and heads):
            return None
        kv_heads = self._number(f"{architecture}.attention.head_count_kv") or heads
        keys = self._number(f"{architecture}.attention.key_length") or width // heads
        values = self._number(f"{architecture}.attention.value_length") or width // heads
        return 2 * layers * kv_heads * (keys + values)

    def _number(self, key: str) -> int | None:
        value = self._values.get(key, self._peaks.get(key))
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _text(self, key: str) -> str | None:
        value = self._values.get(key)
        return value if isinstance(value, str) and value else None
