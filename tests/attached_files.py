"""Files that people attach: ordinary ones of ten kinds, and ones that are made to cost much.

All are made here, never kept. `docs/attachments.md` has the table of what is read of them.
"""

import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from pdf_files import compressed, encrypted, pdf_of, raw_pdf


@dataclass(frozen=True, slots=True)
class Attached:
    """One file, and what becomes of it."""

    name: str
    make: Callable[[], bytes]
    seen: str = ""
    """What the model sees of it, or the beginning of that; empty where nothing."""
    note: str = ""
    """A part of what the person reads; empty where nothing."""


NO_TEXT = "is no text or PDF file"
_CSV = "Name;Straße;Größe\r\nJürgen;Käsemühle 5;1,80\r\n"
_LOG = "\x1b[32mINFO\x1b[0m started\n\x1b[31mERROR\x1b[0m disk full\n"
_SOURCE = 'def area(r: float) -> float:\n\t"""Of a circle, in m²."""\n\treturn 3.14159 * r**2\n'
_PASTE = "First line of a long paste\n" + "and so on, line by line\n" * 200
_MARKDOWN = "# Title\n\n- [x] *done*\n- [ ] `open`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
_WINDOWS = "Überschrift\r\nZweite Zeile – €5\r\n"


def _office() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w:document>Dear Sir</w:document>")
    return out.getvalue()


def _typeset() -> bytes:
    """As TeX writes it: kerned pieces, ligatures of a font with its own encoding, compressed."""
    content = b"BT /F1 10 Tf 72 720 Td [(The)-333(e)28(\016)-28(cien)28(t)-333(\014le)]TJ 0 -12 Td"
    content += b" [(sa)28(v)28(es)-333(space)28(.)]TJ ET"
    stream = zlib.compress(content)
    font = (
        b"<< /Type /Font /Subtype /Type1 /BaseFont /CMR10 /Encoding"
        b" << /Type /Encoding /Differences [12 /fi /fl /ffi] >> >>"
    )
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792]"
        b" /Resources << /Font << /F1 4 0 R >> >> /Contents 5 0 R >>"
    )
    packed = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream)
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page,
        font,
        packed,
    )


def _scans() -> bytes:
    out = io.BytesIO()
    pages = [Image.new("L", (620, 877), shade) for shade in (200, 220)]
    pages[0].save(out, "PDF", save_all=True, append_images=pages[1:])
    return out.getvalue()


ORDINARY: Mapping[str, Attached] = {
    "Python source with tabs": Attached("area.py", _SOURCE.encode, _SOURCE.strip("\n")),
    "a log with ANSI colours": Attached("bot.log", _LOG.encode, _LOG.strip("\n")),
    "CSV with semicolons in Latin-1": Attached(
        "people.csv", lambda: _CSV.encode("latin-1"), _CSV.replace("\r\n", "\n").strip("\n")
    ),
    "JSON": Attached(
        "data.json", lambda: json.dumps({"a": [1, {"b": None}]}).encode(), '{"a": [1, {"b": null}]}'
    ),
    "message.txt, a paste on Discord": Attached("message.txt", _PASTE.encode, _PASTE.strip("\n")),
    "Markdown": Attached("notes.md", _MARKDOWN.encode, _MARKDOWN.strip("\n")),
    "UTF-16 text of Windows": Attached(
        "brief.txt",
        lambda: _WINDOWS.encode("utf-16"),
        _WINDOWS.replace("\r\n", "\n").strip("\n"),
    ),
    "a PDF as TeX writes it": Attached("paper.pdf", _typeset, "The efficient file\nsaves space."),
    "a PDF of scans": Attached("scan.pdf", _scans, note="it contains no text (a scan, perhaps)"),
    "an office document (.docx)": Attached("letter.docx", _office, note=NO_TEXT),
}

_WIDE = "plain letters without a mark, as some Windows programs write them"


def _twice_compressed() -> bytes:
    """500 MB of spaces in some hundred bytes: one filter after the other."""
    packer = zlib.compressobj(9)
    piece = b" " * 10_000_000
    inner = b"".join(packer.compress(piece) for _ in range(50)) + packer.flush()
    stream = zlib.compress(inner, 9)
    head = b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>" % len(stream)
    return _one_page(head + b"\nstream\n" + stream + b"\nendstream")


def _one_page(contents: bytes, *more: bytes, catalog: bytes = b"", page: bytes = b"") -> bytes:
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog,
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Resources << /Font << /F1 <<"
        b" /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> /Contents 4 0 R %s >>" % page,
        contents,
        *more,
    )


def _stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)


def _many_pages(count: int = 10_000) -> bytes:
    kids = b" ".join(b"%d 0 R" % (4 + number) for number in range(count))
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 3 0 R /Resources"
        b" << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
    )
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, count),
        _stream(b"BT /F1 9 Tf (page) Tj ET"),
        *[page] * count,
    )


def _deep_pages(depth: int = 5_000) -> bytes:
    """A tree of pages in which every node has one child."""
    nodes = [
        b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (number + 3) for number in range(depth)
    ]
    leaf = b"<< /Type /Page /MediaBox [0 0 9 9] >>"
    return raw_pdf(b"<< /Type /Catalog /Pages 2 0 R >>", *nodes, leaf)


def _pages_in_a_circle() -> bytes:
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 9 >>",
        b"<< /Type /Pages /Kids [2 0 R] /Count 9 >>",
    )


def _looping_xref() -> bytes:
    """Each of two tables of objects names the other as the one before it."""
    head = b"%PDF-1.4\n"
    first = b"xref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 /Root 1 0 R /Prev %010d >>\n"
    size = len(first % 0)
    tables = first % (len(head) + size) + first % len(head)
    return head + tables + b"startxref\n%d\n%%%%EOF\n" % len(head)


def _with_script() -> bytes:
    """JavaScript that runs when the file is opened, and a file inside the file."""
    script = b"<< /S /JavaScript /JS (app.alert\\('hello'\\);) >>"
    inside = b"<< /Type /Filespec /F (payload.exe) /EF << /F 7 0 R >> >>"
    return _one_page(
        _stream(b"BT /F1 9 Tf (Only this is shown) Tj ET"),
        script,
        inside,
        _stream(b"MZ payload"),
        catalog=b"/OpenAction 5 0 R /Names << /EmbeddedFiles << /Names [(payload.exe) 6 0 R] >> >>",
    )


_TOO_MUCH = "reading it takes too much time or memory"
_DAMAGED = "it is damaged"
_OVERSIZED = "it unpacks to too much, or is nested too deeply"
_LONG = "characters of its middle were left out"

HOSTILE: Mapping[str, Attached] = {
    "300 MB of spaces in a PDF page": Attached(
        "spaces.pdf", lambda: compressed(b" " * 300_000_000), note=_OVERSIZED
    ),
    "500 MB in a PDF page, compressed twice": Attached(
        "twice.pdf", _twice_compressed, note=_OVERSIZED
    ),
    "three million words in a PDF page": Attached(
        "words.pdf", lambda: compressed(b"(a) Tj " * 3_000_000), note=_TOO_MUCH
    ),
    "a PDF that needs a password": Attached(
        "locked.pdf", lambda: encrypted(pdf_of("secret"), "word"), note="it is encrypted"
    ),
    "a PDF of 10,000 pages": Attached("pages.pdf", _many_pages, "page\n\npage"),
    "arrays in arrays, 200,000 deep": Attached(
        "deep.pdf", lambda: b"%PDF-1.4\n1 0 obj" + b"[" * 200_000, note=_DAMAGED
    ),
    "a tree of pages 5,000 deep": Attached("tree.pdf", _deep_pages, note=_OVERSIZED),
    "pages that contain each other": Attached("circle.pdf", _pages_in_a_circle, note=_DAMAGED),
    "tables of objects that name each other": Attached("loop.pdf", _looping_xref, note=_DAMAGED),
    "a PDF with JavaScript and a file inside": Attached(
        "script.pdf", _with_script, "Only this is shown"
    ),
    "one line of 4.9 MB": Attached("line.txt", lambda: b"long " * 980_000, "long long", note=_LONG),
    "4.9 MB of opening brackets as JSON": Attached(
        "nested.json", lambda: b"[" * 4_900_000, "[[[[", note=_LONG
    ),
    "a program named .txt": Attached(
        "program.txt",
        lambda: b"\x7fELF\x02\x01\x01" + random.Random(1).randbytes(100_000),
        note=NO_TEXT,
    ),
    "UTF-16 without a mark": Attached("wide.txt", lambda: _WIDE.encode("utf-16-le"), _WIDE),
    "a ZIP archive named .pdf": Attached("zip.pdf", _office, note=NO_TEXT),
    "a file of more than 5 MB": Attached(
        "big.txt", lambda: b"a" * 5_000_001, note="it is larger than 5 MB"
    ),
}
