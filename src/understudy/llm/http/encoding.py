"""Decodes gzip and deflate bodies in bounded steps."""

import zlib

from understudy.errors import BadReply, ErrorClass

MAX_DECODED_BYTES = 64 * 1024 * 1024
"""Of one response."""
STEP_BYTES = 64 * 1024

_MAX_MEMBERS = 100
"""Of one gzip body. An empty member takes 20 bytes and costs a new decoder."""
_GZIP_BITS = 31
_ZLIB_BITS = 15
_RAW_BITS = -15
_GZIP_MAGIC = b"\x1f\x8b"


def decoder_for(coding: bytes) -> "BodyDecoder | None":
    """Return the decoder of a Content-Encoding, `None` for identity.

    Raises `BadReply` (`bad_body`) for a coding that is not supported.
    """
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return None
    if name in (b"gzip", b"x-gzip"):
        return BodyDecoder(_GZIP_BITS)
    if name == b"deflate":
        return BodyDecoder(_ZLIB_BITS)
    detail = f"unsupported content encoding {name[:40].decode('latin-1')}"
    raise BadReply(ErrorClass.BAD_BODY, detail=detail)


class BodyDecoder:
    """Decodes one body: `feed` it, then call `read` until it returns nothing."""

    __slots__ = ("_bits", "_decoded", "_full", "_inflate", "_members", "_rest", "_started")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._inflate = zlib.decompressobj(bits)
        self._started = False
        self._rest = b""
        self._full = False
        """Whether the last step filled its buffer: zlib may hold more with no input left."""
        self._decoded = 0
        self._members = 1

    @property
    def pending(self) -> bool:
        """Whether `read` may return more without another `feed`."""
        return self._full or (self._started and bool(self._rest))

    def feed(self, data: bytes) -> None:
        self._rest = self._rest + data if self._rest else data

    def read(self) -> bytes:
        """Return the next bytes, 64 KiB at most; none where more input is needed.

        Raises `BadReply`: `bad_body` for corrupt data, `response_too_large` past 64 MiB.
        """
        if not self._started and not self._start():
            return b""
        while self._rest or self._full:
            if self._inflate.eof and not self._start_member():
                return b""
            piece = self._step()
            self._decoded += len(piece)
            if self._decoded > MAX_DECODED_BYTES:
                raise BadReply(ErrorClass.RESPONSE_TOO_LARGE, detail="decoded body over 64 MiB")
            if piece:
                return piece
        return b""

    def finish(self) -> None:
        """Raise `BadReply` (`truncated_stream`) where the coded data is incomplete."""
        if not self._inflate.eof and (self._started or self._rest):
            raise BadReply(ErrorClass.TRUNCATED_STREAM, detail="compressed body is incomplete")

    def _start(self) -> bool:
        """Some servers send deflate data without the zlib header that the standard asks for."""
        if self._bits == _ZLIB_BITS:
            if len(self._rest) < 2:
                return False
            if self._rest[0] & 0x0F != 8 or int.from_bytes(self._rest[:2]) % 31:
                self._inflate = zlib.decompressobj(_RAW_BITS)
        self._started = bool(self._rest)
        return self._started

    def _step(self) -> bytes:
        try:
            piece = self._inflate.decompress(self._rest, STEP_BYTES)
        except zlib.error as error:
            raise BadReply(ErrorClass.BAD_BODY, detail="corrupt compressed body") from error
        self._full = len(piece) == STEP_BYTES
        self._rest = self._inflate.unconsumed_tail or self._inflate.unused_data
        return piece

    def _start_member(self) -> bool:
        """Start the next member of a gzip body; anything else after the end is dropped."""
        self._full = False
        if self._members >= _MAX_MEMBERS:
            raise BadReply(ErrorClass.BAD_BODY, detail="gzip body of over 100 members")
        if self._bits == _GZIP_BITS and self._rest.startswith(_GZIP_MAGIC):
            self._inflate = zlib.decompressobj(_GZIP_BITS)
            self._members += 1
            return True
        self._rest = b""
        return False


class DroppedBody(BodyDecoder):
    """Takes a body that cannot be decoded and is not needed."""

    def __init__(self) -> None:
        super().__init__(_ZLIB_BITS)

    def feed(self, data: bytes) -> None:
        pass
