"""Attached files are read in a child process, with limits."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from attached_files import HOSTILE, NO_TEXT, ORDINARY, Attached
from pdf_files import encrypted, pdf_of
from understudy.attachments.reader import AttachmentReader, ReadFiles, open_attachments
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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def usual() -> AsyncIterator[AttachmentReader]:
    """One for all files: a hostile one must not spoil the next."""
    async with open_attachments(Attachments, lambda: ()) as opened:
        yield opened


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", ORDINARY)
async def test_ordinary_files_are_read_as_documented(usual: AttachmentReader, kind: str) -> None:
    attached = ORDINARY[kind]

    read = await usual.read([FileSource(attached.name, attached.make())])

    assert [file.text for file in read.files] == ([attached.seen] if attached.seen else [])
    check_notes(read, attached)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", HOSTILE)
async def test_hostile_files_cost_themselves_and_the_next_file_is_read(
    usual: AttachmentReader, kind: str
) -> None:
    attached = HOSTILE[kind]

    read = await usual.read([FileSource(attached.name, attached.make())])
    after = await usual.read([FileSource("a.txt", b"hello")])

    assert after.files == (AttachedText("a.txt", "hello"),)
    assert [file.text.startswith(attached.seen) for file in read.files] == [True] * bool(
        attached.seen
    )
    assert all(len(file.text) <= 20_100 for file in read.files)
    check_notes(read, attached)


def check_notes(read: ReadFiles, attached: Attached) -> None:
    if attached.note == NO_TEXT:
        assert (read.notes, read.others) == ((), (attached.name,))
    else:
        assert attached.note in " ".join(read.notes)
        assert bool(read.notes) == bool(attached.note)


async def test_where_reading_is_switched_off_files_are_named() -> None:
    async with open_attachments(lambda: Attachments(enabled=False), lambda: ()) as reader:
        read = await reader.read([FileSource("a.txt", b"hello")])

    assert (read.files, read.others) == ((), ("a.txt",))
