"""The calls that a reply's sink gets, as a list or a stream of events; and the other way."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from understudy.llm.messages import Output
from understudy.routing.records import AttemptRecord
from understudy.routing.request import (
    Answering,
    Reply,
    ReplyEnded,
    ReplyRequest,
    ReplySink,
    SinkKind,
)


@dataclass(frozen=True, slots=True)
class Restarted:
    """The text so far was discarded."""


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    record: AttemptRecord


RouterEvent = Output | Answering | Restarted | AttemptEnded | ReplyEnded


def always() -> bool:
    return True


@dataclass
class RecordingSink:
    kind: SinkKind = SinkKind.EDITABLE
    is_visible: Callable[[], bool] = always
    events: list[RouterEvent] = field(default_factory=list)

    def start(self, answering: Answering) -> None:
        self.events.append(answering)

    def write(self, output: Output) -> None:
        self.events.append(output)

    def restart(self) -> None:
        self.events.append(Restarted())

    def attempt_ended(self, record: AttemptRecord) -> None:
        self.events.append(AttemptEnded(record))

    def try_flush(self) -> bool:
        return False

    async def flush(self) -> None:
        """Everything was recorded when it was written."""


class _QueueSink(RecordingSink):
    def __init__(self, kind: SinkKind, is_visible: Callable[[], bool]) -> None:
        super().__init__(kind, is_visible)
        self.changed = asyncio.Event()

    def attempt_ended(self, record: AttemptRecord) -> None:
        super().attempt_ended(record)
        self.changed.set()

    async def flush(self) -> None:
        self.changed.set()


async def reply_events(
    reply: Reply,
    request: ReplyRequest,
    kind: SinkKind = SinkKind.EDITABLE,
    is_visible: Callable[[], bool] = always,
) -> AsyncGenerator[RouterEvent, None]:
    """Yield what a sink gets, `ReplyEnded` last; closing it cancels the reply."""
    sink = _QueueSink(kind, is_visible)
    task = asyncio.ensure_future(reply(request, sink))
    task.add_done_callback(lambda _: sink.changed.set())
    sent = 0
    try:
        while not task.done() or sent < len(sink.events):
            await sink.changed.wait()
            sink.changed.clear()
            while sent < len(sink.events):
                sent += 1
                yield sink.events[sent - 1]
        yield task.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def play(events: AsyncGenerator[RouterEvent, None], sink: ReplySink) -> ReplyEnded:
    """Do to a sink what a router does that has these events."""
    async with aclosing(events):
        async for event in events:
            match event:
                case ReplyEnded():
                    return event
                case Answering():
                    sink.start(event)
                case Restarted():
                    sink.restart()
                case AttemptEnded():
                    sink.attempt_ended(event.record)
                case _:
                    sink.write(event)
                    await sink.flush()
    raise AssertionError("a reply ends with ReplyEnded")
