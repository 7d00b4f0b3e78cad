"""Small PDF files for the tests, written with pypdf."""

import io

from pypdf import PdfReader, PdfWriter
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
    page = writer.add_blank_page(width=200, height=200)
    stream = DecodedStreamObject()
    stream.set_data(content)
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    return _written(writer)


def _add_page(writer: PdfWriter, text: str) -> None:
    page = writer.add_blank_page(width=200, height=200)
    font = DictionaryObject({NameObject(k): NameObject(v) for k, v in _FONT.items()})
    fonts = DictionaryObject({NameObject("/F1"): font})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(stream)


def _written(writer: PdfWriter) -> bytes:
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()
