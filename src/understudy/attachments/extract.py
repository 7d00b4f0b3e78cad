"""Takes the text out of a file, recognised by its content: plain text of any kind, and PDF.

`extract` blocks and can use much CPU and memory: callers run it in a child process.
"""

import codecs
import io
import logging
import re
from typing import Literal

from pypdf import PasswordType, PdfReader
from pypdf.errors import LimitReachedError, PyPdfError

Kind = Literal["text", "pdf", "encrypted", "empty", "damaged", "oversized", "other"]

_PDF = b"%PDF-"
_PDF_WITHIN = 1024
"""Readers accept the mark of a PDF anywhere in its first kilobyte."""
_MAX_PAGES = 300
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)
"""TeX and others write them; models read the letters better, and search finds them."""
_SAMPLE = 4096
_BOMS = (
    # The mark of UTF-32 begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def extract(data: bytes, max_chars: int) -> tuple[Kind, str, int]:
    """Kind, text and the text's length before it was shortened.

    A text longer than `max_chars` loses its middle, and a line says how much. Of a PDF, the first
    300 pages are read at most. For every other kind the text is empty.
    """
    if _PDF in data[:_PDF_WITHIN]:
        kind, text = _pdf_text(data, max_chars)
    else:
        kind, text = _plain_text(data)
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\n")
    if kind in ("text", "pdf") and not text.strip():
        return "empty", "", 0
    return kind, without_middle(text, max_chars), len(text)


def without_middle(text: str, max_chars: int) -> str:
    """The two ends of a text that is too long, with a line between them that counts the rest."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters left out …]\n{text[-half:]}"


def _plain_text(data: bytes) -> tuple[Kind, str]:
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _if_text(data.decode(encoding, "replace"))
    # First, because UTF-8 allows the zero bytes of UTF-16.
    if wide := _wide_encoding(data[:_SAMPLE]):
        return _if_text(data.decode(wide, "replace"))
    try:
        return _if_text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _if_text(data.decode("cp1252", "replace"))


def _wide_encoding(sample: bytes) -> str | None:
    """UTF-16 without a mark: in text of few scripts every other byte hardly changes."""
    high, low = sample[1::2], sample[::2]
    if len(sample) < 8:
        return None
    if high.count(0) > len(high) * 0.6 and low.count(0) < len(low) * 0.1:
        return "utf-16-le"
    if low.count(0) > len(low) * 0.6 and high.count(0) < len(high) * 0.1:
        return "utf-16-be"
    return None


def _if_text(text: str) -> tuple[Kind, str]:
    sample = text[:_SAMPLE]
    odd = len(_CONTROL.findall(sample)) + sample.count("\ufffd")
    if odd > len(sample) * 0.02:
        return "other", ""
    return "text", _CONTROL.sub("", text)


def _pdf_text(data: bytes, max_chars: int) -> tuple[Kind, str]:
    # It reports damage of a file as log lines.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
            return "encrypted", ""
        return "pdf", "\n\n".join(_pages(reader, max_chars))
    except LimitReachedError:
        # Of pypdf: 75 MB for what a stream unpacks to, and depths of trees.
        return "oversized", ""
    except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        # Which exception pypdf raises depends on where the damage is.
        return "damaged", ""
    except (RecursionError, MemoryError, OverflowError, AssertionError, NotImplementedError):
        return "damaged", ""


def _pages(reader: PdfReader, max_chars: int) -> list[str]:
    """The text of the pages, until there is far more than is kept."""
    texts: list[str] = []
    left = max_chars * 4
    for number, page in enumerate(reader.pages):
        if number >= _MAX_PAGES or left <= 0:
            texts.append(f"[pages from {number + 1} were not read]")
            break
        text = page.extract_text()
        left -= len(text)
        texts.append(_CONTROL.sub("", text).translate(_LIGATURES))
    return texts
