"""The byte parsers that strangers can reach, each as one function of bytes.

A target returns when the input was handled as promised and raises when it was not. The fuzzer
drives them with made-up bytes, a unit test with the corpus.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

from understudy.conversation.lenient_fields import Fields
from understudy.conversation.lore.formats import parse_book
from understudy.conversation.macros import MacroScene, expand
from understudy.conversation.personas.containers import read_card
from understudy.errors import (
    ErrorClass,
    ImageRefused,
    PersonaError,
    ProviderError,
    RequestRefused,
    Unreachable,
)
from understudy.gateway.requests import read_ask
from understudy.images.normalise import ImageLimits, normalise
from understudy.images.service import links_in
from understudy.llm.client import Exchange
from understudy.llm.error_parser import read_error, retry_after_s
from understudy.llm.messages import Finished, TextDelta
from understudy.llm.model_list import read_models
from understudy.llm.openai_wire import DECODE_CHUNK
from understudy.llm.sse import SseReader
from understudy.llm.stream_parser import StreamParser
from understudy.platforms.discord.rendering import split, units
from understudy.platforms.web.markdown import blocks
from understudy.routing.output_filter import OutputFilter

_WALL = 1_800_000_000.0
_SMALL = ImageLimits(max_bytes=200_000, max_pixels=100_000, long_edge=64)


def event_stream(data: bytes) -> None:
    """However a stream is cut, the same frames come out of it."""
    cut = data[0] % len(data) if data else 0
    try:
        whole, pieces = SseReader(), SseReader()
        one = [*whole.feed(data), *whole.finish()]
        other = [*pieces.feed(data[:cut]), *pieces.feed(data[cut:]), *pieces.finish()]
    except ProviderError:
        return
    assert one == other
    assert whole.take_comments() == pieces.take_comments()


def reply(data: bytes) -> None:
    """A stream ends in a finish or in a typed failure, never in anything else."""
    frames = SseReader()
    reader = StreamParser(
        Exchange(),
        lambda _body: Unreachable(ErrorClass.SERVER_ERROR),
        lambda usage, _chunk: usage,
        DECODE_CHUNK,
    )
    try:
        payloads = [*frames.feed(data), *frames.finish()]
        events = reader.read_all(payloads, frames.take_comments())
        reader.raise_failure()
        end = reader.end(eof_is_end=False)
    except ProviderError:
        return
    assert isinstance(end, Finished)
    assert not any(isinstance(event, Finished) for event in events)


def error_body(data: bytes) -> None:
    """Any body is facts, and any facts are a wait or none."""
    facts = read_error(data)
    wait = retry_after_s({"Retry-After": data[:40].decode("latin-1")}, facts, _WALL)
    assert wait is None or 0 < wait <= 3600


def model_list(data: bytes) -> None:
    try:
        models = read_models(data)
    except ProviderError:
        return
    assert all(isinstance(name, str) for name in models.ids)


def normaliser(data: bytes) -> None:
    """What people see never contains the marker of a thought."""
    text = data.decode("utf-8", "replace")
    clean = OutputFilter(for_people=True, is_bound=lambda: True)
    try:
        for start in range(0, len(text), 7):
            clean.take(TextDelta(text[start : start + 7]))
        clean.rest()
    except ProviderError:
        return


def gateway_request(data: bytes) -> None:
    try:
        read_ask(data)
    except RequestRefused:
        return


def discord_parts(data: bytes) -> None:
    for part in split(data.decode("utf-8", "replace")):
        assert part
        assert units(part) <= 2000


def markdown(data: bytes) -> None:
    """No script, event attribute or remote image, whatever the text."""
    for block in blocks(data.decode("utf-8", "replace")):
        assert "<script" not in block.lower()
        assert "<img" not in block.lower()


def card(data: bytes) -> None:
    try:
        read_card(data)
    except PersonaError:
        return


def lorebook(data: bytes) -> None:
    notes: list[str] = []
    text = data.decode("utf-8", "replace")
    entry = {"key": text.split(","), "content": text, "order": text, "position": text[:2]}
    parse_book({"entries": {"0": entry}}, book_id="b")
    Fields({"a": text}, notes, "x").number("a", default=0)


def macros(data: bytes) -> None:
    values = {"user": "{{char}}", "char": "C"}
    scene = MacroScene(values, datetime(2026, 1, 1, tzinfo=UTC), Random(1), "s")
    assert len(expand(data.decode("utf-8", "replace"), scene)) <= 256 * 1024


def image(data: bytes) -> None:
    try:
        part = normalise(data, "a", _SMALL)
    except ImageRefused:
        return
    assert max(part.width, part.height) <= _SMALL.long_edge


def links(data: bytes) -> None:
    assert len(links_in(data.decode("utf-8", "replace"))) <= 4


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        event_stream,
        reply,
        error_body,
        model_list,
        normaliser,
        gateway_request,
        discord_parts,
        markdown,
        card,
        lorebook,
        macros,
        image,
        links,
    )
}
