"""Text is taken out of files by their content, whatever they are named."""

import gzip
import io
import json
import random
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdf_files import encrypted, pdf_of
from understudy.attachments.extract import extract, without_middle

MOST = 20_000
TEXT = "Grüße, €5 für 小爱.\nZweite Zeile"


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a.txt"), "text " * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TEXT.encode(), TEXT),
        (b"\xef\xbb\xbf" + TEXT.encode(), TEXT),
        (TEXT.encode("utf-16"), TEXT),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), TEXT),
        (TEXT.encode("utf-32"), TEXT),
        ("plain letters, no mark".encode("utf-16-le"), "plain letters, no mark"),
        ("plain letters, no mark".encode("utf-16-be"), "plain letters, no mark"),
        ("Grüße aus Köln".encode("latin-1"), "Grüße aus Köln"),
        ("“quoted” – dash".encode("cp1252"), "“quoted” – dash"),
        (b"a,b\r\n1,2\r\n", "a,b\n1,2"),
        (b"old\rmac\rlines", "old\nmac\nlines"),
        (json.dumps({"a": [1, 2]}).encode(), '{"a": [1, 2]}'),
        (b"\x1b[31mred\x1b[0m log line", "\x1b[31mred\x1b[0m log line"),
        (b"def f():\n\treturn 1\n", "def f():\n\treturn 1"),
    ],
)
def test_text_in_any_encoding_is_read(data: bytes, expected: str) -> None:
    assert extract(data, MOST) == ("text", expected, len(expected))


@pytest.mark.parametrize(
    "data",
    [
        zipped(),
        gzip.compress(b"text " * 1000, mtime=0),
        b"\x7fELF\x02\x01\x01" + bytes(200),
        b"OggS\x00\x02" + random.Random(1).randbytes(4000),
        b"SQLite format 3\x00" + bytes(100),
        random.Random(2).randbytes(5000),
    ],
)
def test_files_of_other_kinds_have_no_text(data: bytes) -> None:
    assert extract(data, MOST) == ("other", "", 0)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", b"   "])
def test_a_file_without_text_is_empty(data: bytes) -> None:
    assert extract(data, MOST)[0] == "empty"


def test_the_pages_of_a_pdf_are_read() -> None:
    kind, text, _ = extract(pdf_of("First page", "Second page"), MOST)

    assert kind == "pdf"
    assert text == "First page\n\nSecond page"


def test_an_encrypted_pdf_is_named_as_such() -> None:
    assert extract(encrypted(pdf_of("secret"), "password"), MOST) == ("encrypted", "", 0)


def test_a_pdf_that_only_forbids_changes_is_read() -> None:
    assert extract(encrypted(pdf_of("readable"), ""), MOST)[:2] == ("pdf", "readable")


def test_a_pdf_of_images_is_empty() -> None:
    assert extract(pdf_of(""), MOST)[0] == "empty"


@pytest.mark.parametrize("keep", [20, 100, 300])
def test_a_damaged_pdf_gives_no_exception(keep: int) -> None:
    assert extract(pdf_of("text")[:keep], MOST)[0] in ("damaged", "empty")


@pytest.mark.slow
def test_of_many_pages_the_first_are_read() -> None:
    kind, text, _ = extract(pdf_of(*(f"page {number}" for number in range(350))), 200_000)

    assert kind == "pdf"
    assert text.endswith("[pages from 301 were not read]")


def test_a_long_text_loses_its_middle() -> None:
    kind, text, chars = extract(b"a" * 500 + b"b" * 1000 + b"c" * 500, 1000)

    assert (kind, chars) == ("text", 2000)
    assert text == "a" * 500 + "\n[… 1000 characters left out …]\n" + "c" * 500


@given(st.text(), st.integers(min_value=100, max_value=1000))
def test_a_shortened_text_keeps_both_ends(text: str, most: int) -> None:
    kept = without_middle(text, most)

    assert len(kept) <= most + 50
    assert kept[: most // 2] == text[: most // 2]
    assert kept.endswith(text[-(most // 2) :])


@given(st.binary(max_size=3000))
def test_whatever_the_bytes_are_something_is_returned(data: bytes) -> None:
    kind, text, chars = extract(data, 500)

    assert kind in ("text", "pdf", "encrypted", "empty", "damaged", "oversized", "other")
    assert len(text) <= 600
    assert chars >= 0


@given(st.binary(max_size=1000))
def test_no_bytes_after_the_mark_of_a_pdf_raise(data: bytes) -> None:
    assert extract(b"%PDF-1.4\n" + data, 500)[0] in (
        "pdf",
        "encrypted",
        "empty",
        "damaged",
        "oversized",
    )
