"""Small PDF files for the tests, written with pypdf."""

import io

from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

_FONT = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def pdf_of(*pages: str) -> bytes:
    """One page per text; ASCII only."""
    writer = PdfWriter()
    for text in pages:
        _add_page(writer, text)
    return _written(writer)


def encrypted(data: bytes, password: str) -> bytes:
    """With an empty `password` everybody may read it, but not change it."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    return _written(writer)


def compressed(content: bytes) -> bytes:
    """A page whose content is compressed, for content that expands a lot."""
    writer = PdfWriter()
    page = _blank_page(writer)
    stream = DecodedStreamObject()
    stream.set_data(b"BT /F1 12 Tf " + content)
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    return _written(writer)


def _blank_page(writer: PdfWriter) -> PageObject:
    """With a font: pypdf looks for text on no other page."""
    page = writer.add_blank_page(width=200, height=200)
    font = DictionaryObject({NameObject(k): NameObject(v) for k, v in _FONT.items()})
    fonts = DictionaryObject({NameObject("/F1"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    return page


def _add_page(writer: PdfWriter, text: str) -> None:
    page = _blank_page(writer)
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)


def _written(writer: PdfWriter) -> bytes:
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def raw_pdf(*objects: bytes) -> bytes:
    """A file of these objects, numbered from 1; the first is its catalog."""
    body, places = b"%PDF-1.4\n", []
    pieces = [body]
    at = len(body)
    for number, one in enumerate(objects, 1):
        piece = b"%d 0 obj\n%s\nendobj\n" % (number, one)
        places.append(at)
        pieces.append(piece)
        at += len(piece)
    count = len(objects) + 1
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    pieces.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table))
    pieces.append(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, at))
    return b"".join(pieces)
