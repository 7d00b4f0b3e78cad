"""Voice messages are transcribed by the servers of `speech.order`, in turn, once."""

from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from understudy.attachments.reader import ReadFiles
from understudy.attachments.source import FileSource
from understudy.config.providers import NamedServer, Server
from understudy.config.settings import Speech
from understudy.conversation.messages import AttachedText
from understudy.rehearsal.server import RehearsalServer
from understudy.speech.service import VoiceReader

VOICE = FileSource("voice-message.ogg", b"OggS recording")
HEARD = AttachedText("voice-message.ogg", "The rehearsal can be heard.", spoken=True)


class Transcripts:
    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    async def caption(self, digest: str) -> str | None:
        return self.stored.get(digest)

    async def put_caption(self, digest: str, caption: str) -> None:
        self.stored[digest] = caption


class Bench:
    """A reader over servers, with a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.transcripts = Transcripts()
        self.servers: dict[str, Server] = {}
        self.readers: list[VoiceReader] = []

    def reader(self, *order: str) -> VoiceReader:
        settings = Speech(order=order, max_bytes=100_000)
        known: Callable[[], Mapping[str, Server]] = lambda: self.servers  # noqa: E731
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        made = VoiceReader(lambda: settings, known, self.transcripts, lambda: (), clock)
        self.readers.append(made)
        return made


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for reader in made.readers:
        await reader.aclose()


def entry(server: RehearsalServer, engine: str = "openai") -> Server:
    return NamedServer.model_validate({"engine": engine, "base_url": server.base_url})


@pytest.mark.parametrize("engine", ["openai", "koboldcpp"])
async def test_a_recording_is_sent_as_the_engine_takes_it(bench: Bench, engine: str) -> None:
    async with RehearsalServer() as server:
        bench.servers["a"] = entry(server, engine)
        read = await bench.reader("a").read([VOICE])

    assert read.files == (HEARD,)
    assert server.recordings == [VOICE.data]


async def test_the_next_server_takes_over_and_the_failed_one_is_asked_last(bench: Bench) -> None:
    async with RehearsalServer() as broken, RehearsalServer() as whole:
        broken.transcribe_status = 503
        bench.servers |= {"a": entry(broken), "b": entry(whole)}
        reader = bench.reader("a", "b")
        calls, read = [], ReadFiles()
        for number, now in enumerate((0.0, 30.0, 90.0)):
            bench.now = now
            read = await reader.read([FileSource("v.ogg", b"recording %d" % number)])
            calls.append((len(broken.recordings), len(whole.recordings)))

    assert read.files
    assert calls == [(1, 1), (1, 2), (2, 3)]


async def test_the_same_recording_is_transcribed_once(bench: Bench) -> None:
    async with RehearsalServer() as server:
        bench.servers["a"] = entry(server)
        first = await bench.reader("a").read([VOICE])
        second = await bench.reader("a").read([VOICE])

    assert first == second
    assert len(server.recordings) == 1


async def test_where_every_server_fails_the_person_is_told_and_it_is_tried_again(
    bench: Bench,
) -> None:
    async with RehearsalServer() as server:
        bench.servers["a"] = entry(server)
        server.transcribe_status = 500
        reader = bench.reader("a")
        failed = await reader.read([VOICE])
        server.transcribe_status = 200
        later = await reader.read([VOICE])

    assert failed.notes == (
        "I couldn't listen to the voice message: no server could transcribe it.",
    )
    assert failed.others == (VOICE.name,)
    assert later.files == (HEARD,)


async def test_without_an_order_a_recording_is_only_named(bench: Bench) -> None:
    read = await bench.reader().read([VOICE])

    assert (read.files, read.notes, read.others) == ((), (), (VOICE.name,))


async def test_a_recording_that_is_too_large_is_not_sent(bench: Bench) -> None:
    async with RehearsalServer() as server:
        bench.servers["a"] = entry(server)
        read = await bench.reader("a").read([FileSource("v.ogg", bytes(100_001))])

    assert read.notes == ("I couldn't listen to the voice message: it is larger than 0.1 MB.",)
    assert server.recordings == []
