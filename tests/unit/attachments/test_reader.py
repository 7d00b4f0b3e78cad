"""Attached files are read in a child process, with limits."""

from collections.abc import AsyncIterator, Callable

import pytest

from pdf_files import compressed, encrypted, pdf_of
from understudy.attachments.reader import AttachmentReader, open_attachments
from understudy.attachments.source import FileSource
from understudy.config.settings import Attachments
from understudy.conversation.messages import AttachedText

pytestmark = pytest.mark.slow

LIMITS = Attachments(max_files=2, max_bytes=10_000_000, max_chars=100)


@pytest.fixture
async def reader() -> AsyncIterator[AttachmentReader]:
    async with open_attachments(lambda: LIMITS, lambda: ()) as opened:
        yield opened


async def test_texts_are_read_and_other_kinds_are_named(reader: AttachmentReader) -> None:
    read = await reader.read(
        [FileSource("a.txt", b"hello"), FileSource("clip.mp4", b"\x00\x00\x00\x18ftypmp42" * 9)]
    )

    assert read.files == (AttachedText("a.txt", "hello"),)
    assert (read.notes, read.others) == ((), ("clip.mp4",))


async def test_what_is_left_out_is_said(reader: AttachmentReader) -> None:
    long, short = FileSource("long.txt", b"x" * 1100), FileSource("b.txt", b"b")
    read = await reader.read([long, short, short])

    shortened = "x" * 50 + "\n[… 1000 characters left out …]\n" + "x" * 50
    assert [file.text for file in read.files] == [shortened, "b"]
    assert read.notes == (
        "long.txt is long: 1,000 characters of its middle were left out.",
        "2 files per message; 1 not read.",
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (FileSource("a.txt", bytes(10_000_001)), "it is larger than 10 MB."),
        (FileSource("a.txt", url="http://example.invalid/", size=10_000_001), "it is larger than"),
        (FileSource("a.txt", url="http://127.0.0.1/a.txt"), "its link"),
        (FileSource("a.pdf", encrypted(pdf_of("secret"), "word")), "it is encrypted."),
        (FileSource("a.pdf", pdf_of("")), "it contains no text"),
        (FileSource("a.pdf", b"%PDF-1.7 nothing else"), "it is damaged."),
    ],
)
async def test_what_cannot_be_read_is_refused_with_a_reason(
    reader: AttachmentReader, source: FileSource, why: str
) -> None:
    read = await reader.read([source])

    assert read.files == ()
    assert read.notes[0].startswith(f"I couldn't read {source.name}: {why}")
    assert read.others == (source.name,)


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(lambda: compressed(b" " * 300_000_000), id="content of 300 MB"),
        pytest.param(lambda: compressed(b"(a) Tj " * 3_000_000), id="three million words"),
        pytest.param(lambda: b"%PDF-1.4\n1 0 obj" + b"[" * 200_000, id="deep nesting"),
        pytest.param(
            lambda: b"%PDF-1.4\n" + b"1 0 obj<</Length 9>>stream\n" * 50_000, id="many objects"
        ),
    ],
)
async def test_a_hostile_pdf_costs_itself_and_the_next_file_is_read(
    reader: AttachmentReader, bomb: Callable[[], bytes]
) -> None:
    refused = await reader.read([FileSource("bomb.pdf", bomb())])
    after = await reader.read([FileSource("a.txt", b"hello")])

    assert refused.files == () or len(refused.files[0].text) <= 200
    assert after.files == (AttachedText("a.txt", "hello"),)


async def test_where_reading_is_switched_off_files_are_named() -> None:
    async with open_attachments(lambda: Attachments(enabled=False), lambda: ()) as reader:
        read = await reader.read([FileSource("a.txt", b"hello")])

    assert (read.files, read.others) == ((), ("a.txt",))
