"""The containers of character cards: PNG, JSON, YAML and CHARX (ZIP).

Cards are untrusted: sizes, counts and compression methods are checked before anything is
decompressed, and only the card's own text is.
"""

import base64
import binascii
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from understudy.conversation.personas.card import Card, parse_card
from understudy.errors import PersonaError

_MIB = 1024 * 1024
MAX_FILE = 20 * _MIB
MAX_CHARX = 128 * _MIB
_MAX_UNPACKED = 10 * MAX_FILE
_MAX_TEXT = 8 * _MIB
_MAX_CHUNKS = 10_000
_MAX_MEMBERS = 20_000
_MAX_YAML = 64 * 1024
_MAX_YAML_EVENTS = 5_000
_MAX_YAML_DEPTH = 20
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_ZIP = b"PK\x03\x04"
_ZIP_ENTRY = b"PK\x01\x02"
# Python decompresses bzip2 and LZMA without a limit on the size of the result.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
YAML_ERRORS = (
    YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OverflowError,
    RecursionError,
)  # fmt: skip
"""What the reader raises for documents that are not YAML, or that have mappings as keys."""
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_KEYWORDS = ("ccv3", "chara")
_NOVELAI = "naidata"
_CARD_JSON = "card.json"


@dataclass(frozen=True, slots=True)
class CardFile:
    """A card with the file it came in."""

    card: Card
    container: str
    """`png`, `charx`, `json` or `yaml`."""
    file: bytes


def read_card(data: bytes, *, book_id: str = "card", name: str = "") -> CardFile:
    """Read the card in a file, whose kind the content decides; raises PersonaError.

    `name` is used for a card without one.
    """
    # RisuAI exports a JPEG picture with the ZIP archive behind it.
    charx = data.startswith((_ZIP, _JPEG))
    limit = MAX_CHARX if charx else MAX_FILE
    if len(data) > limit:
        raise PersonaError(f"the file is larger than {limit // _MIB} MB")
    if data.startswith(_PNG):
        return CardFile(_card_in_png(data, book_id, name), "png", data)
    if charx:
        card = parse_card(_from_charx(data), book_id=book_id, name=name)
        return CardFile(card, "charx", data)
    if is_json(data):
        return CardFile(parse_card(data, book_id=book_id, name=name), "json", data)
    return CardFile(parse_card(_from_yaml(data), book_id=book_id, name=name), "yaml", data)


def is_json(data: bytes) -> bool:
    """Whether a text file begins as JSON does, after a byte-order mark."""
    text = data.lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")
    return text.startswith((b"{", b"["))


def export_png(card: Card, picture: bytes) -> bytes:
    """`picture` (a PNG) with the card in it, in place of any card it carried."""
    if not picture.startswith(_PNG):
        raise PersonaError("a card is put into a PNG picture, and this is none")
    keywords = _KEYWORDS if card.spec == "v3" else ("chara",)
    text = base64.b64encode(card.source)
    out = [_PNG]
    for kind, body in _chunks(picture):
        if kind == b"IEND":
            out += [_chunk(b"tEXt", word.encode() + b"\0" + text) for word in keywords]
        if kind not in _TEXT_CHUNKS or _keyword(body) not in _KEYWORDS:
            out.append(_chunk(kind, body))
    return b"".join(out)


def export_charx(card: Card, original: bytes | None = None) -> bytes:
    """A CHARX file with the card, and the assets of `original` where one is given."""
    out = io.BytesIO()
    left = _MAX_UNPACKED
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr(_CARD_JSON, card.source)
        if original is not None:
            with _zip_errors(original), _opened(original) as source:
                for member in _members(source):
                    if member.filename != _CARD_JSON:
                        asset = _bounded_read(source, member, min(left, MAX_FILE))
                        left -= len(asset)
                        target.writestr(member, asset)
    return out.getvalue()


def _card_in_png(data: bytes, book_id: str, name: str) -> Card:
    """The V3 card of the picture; if that is damaged, the older one beside it."""
    failure: PersonaError | None = None
    for keyword, text in _from_png(data):
        try:
            card = parse_card(_decoded(text), book_id=book_id, name=name)
        except PersonaError as error:
            failure = failure or error
            continue
        if failure is None:
            return card
        note = f"the picture's version 3 card is damaged; its {keyword!r} card is used"
        return replace(card, notes=(note, *card.notes))
    raise failure or PersonaError("the picture carries no character card")


def _from_png(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(keyword, text) of the cards in a picture, the best one first."""
    found: dict[str, tuple[bytes, bytes]] = {}
    for kind, body in _chunks(data):
        if kind in _TEXT_CHUNKS:
            keyword = _keyword(body)
            if keyword in _KEYWORDS:
                found.setdefault(keyword, (kind, body))
    if not found:
        raise PersonaError(
            "the picture carries no character card; chat programs often strip it when they "
            "shrink pictures, so use the original file"
        )
    # One chunk of each keyword is decompressed, however many there are.
    for keyword in _KEYWORDS:
        if keyword in found:
            yield keyword, _text_of(*found[keyword])


def lorebook_in_png(data: bytes) -> bytes | None:
    """The JSON of a lorebook that NovelAI put into a picture; None in any other file.

    Raises PersonaError for a damaged picture.
    """
    if not data.startswith(_PNG):
        return None
    for kind, body in _chunks(data):
        if kind in _TEXT_CHUNKS and _keyword(body) == _NOVELAI:
            return _decoded(_text_of(kind, body))
    return None


def _decoded(text: bytes) -> bytes:
    try:
        return text if text.lstrip().startswith(b"{") else base64.b64decode(text)
    except binascii.Error:
        raise PersonaError("the card in the picture is damaged") from None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of each chunk up to IEND. Checksums are ignored, as other readers do."""
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise PersonaError("the picture is cut off")
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if at + 12 + length > len(data):
            raise PersonaError("the picture is cut off")
        yield kind, data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length
    raise PersonaError("the picture has too many parts")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _keyword(body: bytes) -> str:
    return body.partition(b"\0")[0][:80].decode("latin-1").lower()


def _text_of(kind: bytes, body: bytes) -> bytes:
    rest = body.partition(b"\0")[2]
    if kind == b"tEXt":
        text = rest
    elif kind == b"zTXt":
        text = _inflated(rest[1:])
    else:
        # iTXt: compression flag, method, language, translated keyword, text
        flag, after = rest[:1], rest[2:].split(b"\0", 2)
        text = after[-1] if len(after) == 3 else b""
        text = _inflated(text) if flag == b"\1" else text
    if len(text) > _MAX_TEXT:
        raise PersonaError(f"the card's text is larger than {_MAX_TEXT // _MIB} MB")
    return text


def _inflated(packed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        return inflater.decompress(packed, _MAX_TEXT + 1)
    except zlib.error:
        raise PersonaError("the card in the picture is damaged") from None


def _from_charx(data: bytes) -> bytes:
    with _zip_errors(data), _opened(data) as archive:
        for member in _members(archive):
            if member.filename == _CARD_JSON:
                return _bounded_read(archive, member, _MAX_TEXT)
    raise PersonaError("the CHARX file has no card.json")


@contextmanager
def _zip_errors(data: bytes) -> Iterator[None]:
    """PersonaError in place of the many exceptions that zipfile raises for damage."""
    try:
        yield
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError,
        OSError, ValueError, OverflowError,
    ):  # fmt: skip
        if data.startswith(_JPEG):
            raise PersonaError("the picture carries no character card") from None
        raise PersonaError("the CHARX file is damaged") from None


def _opened(data: bytes) -> zipfile.ZipFile:
    # Opening reads the whole list of members, so their number is limited before.
    if data.count(_ZIP_ENTRY) > _MAX_MEMBERS:
        raise PersonaError("the CHARX file has too many parts")
    return zipfile.ZipFile(io.BytesIO(data))


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    for member in members:
        if member.compress_type not in _ZIP_METHODS:
            raise PersonaError("the CHARX file is packed in a way that is not allowed")
        if member.flag_bits & 0x1:
            raise PersonaError("the CHARX file is encrypted")
        if member.filename.startswith(("/", "\\")) or ".." in member.filename.split("/"):
            raise PersonaError("the CHARX file names a path outside itself")
    if sum(member.file_size for member in members) > _MAX_UNPACKED:
        raise PersonaError("the CHARX file unpacks to too much")
    return members


def _bounded_read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    with archive.open(member) as opened:
        # The sizes in headers can be wrong; reading stops at the limit.
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise PersonaError(f"{member.filename} in the CHARX file is too large")
    return data


def _from_yaml(data: bytes) -> bytes:
    if len(data) > _MAX_YAML:
        raise PersonaError("this is no character card that can be read")
    try:
        text = data.decode("utf-8-sig")
        _check_yaml(text)
        raw = YAML(typ="safe", pure=True).load(text)
    except YAML_ERRORS:
        raise PersonaError("this is no character card that can be read") from None
    if not isinstance(raw, dict):
        raise PersonaError("this is no character card that can be read")
    texts = {str(key): value for key, value in raw.items() if isinstance(value, str)}
    return msgspec.json.encode(texts)


def _check_yaml(text: str) -> None:
    """Raises PersonaError for a document that is deep, has many nodes, or refers to its nodes.

    The reader takes 25 µs for a node, more for deep ones, and copies what merge keys refer to.
    """
    depth = 0
    for count, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if count > _MAX_YAML_EVENTS or depth > _MAX_YAML_DEPTH or isinstance(event, AliasEvent):
            raise PersonaError("the YAML is too large or too complex for a character card")
