"""Drives a conversation with a scripted model router and a recording platform."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Self

import msgspec

from reply_events import AttemptEnded, RouterEvent, play
from sample_records import answered, failed, reply
from understudy.config.settings import Conversation, Participation, Settings
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import InboxStore
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import MemoryPreferences, Preferences
from understudy.errors import ErrorClass
from understudy.llm.messages import TextDelta
from understudy.routing.records import OfflineReason, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, ReplySink
from understudy.storage.in_memory_inbox import MemoryInbox
from waiting import LIMIT_S

FIT = Fit(n_ctx=8192, reply_tokens=300, vision=False, tokens_per_char=0.3)
ANN, BOB = Author("1", "Ann"), Author("2", "Bob")
WEB = Place("web", "c1", private=True)
LOUNGE = Place("discord", "lounge", guild_id="g1")
QUICK = Conversation(
    quiet_seconds=0.02, long_chunk_quiet_seconds=0.02, burst_cap_seconds=1, interval_seconds=0.02
)


def message(
    message_id: str, text: str = "hello", author: Author = ANN, place: Place = WEB, **fields: object
) -> Inbound:
    base: dict[str, object] = {
        "message_id": message_id,
        "place": place,
        "author": author,
        "text": text,
        "sent_at": 1000.0,
        "addressed": Addressed.DM if place.private else Addressed.MENTION,
    }
    return Inbound(**(base | fields))  # type: ignore[arg-type]


def offline_record(reason: OfflineReason, retry_at: float | None = None) -> ReplyRecord:
    attempt = failed("openrouter", ErrorClass.RATE_LIMITED)
    return reply(attempt, offline_reason=reason, retry_at=retry_at)


@dataclass
class Models:
    """A scripted ModelRouter: streams the words of the next line of the script."""

    script: list[str | ReplyRecord] = field(default_factory=list)
    """What the next replies say, or how they fail; "echo" once it is used up."""
    prompts: list[Prompt] = field(default_factory=list)
    requests: list[ReplyRequest] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, replies hang after their first word."""
    speaking: asyncio.Event = field(default_factory=asyncio.Event)
    closed: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def reply(self, request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
        return await play(self._events(request), sink)

    async def _events(self, request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
        self.requests.append(request)
        self.prompts.append(request.build(FIT))
        line = self.script.pop(0) if self.script else "echo"
        if isinstance(line, ReplyRecord):
            for attempt in line.attempts:
                yield AttemptEnded(attempt)
            yield ReplyEnded(msgspec.structs.replace(line, request_id=request.id))
            return
        try:
            for word in line.split(" "):
                yield TextDelta(word + " ")
                self.speaking.set()
                await self.gate.wait()
        finally:
            self.closed += 1
        record = reply(answered(request_id=request.id), request_id=request.id)
        yield ReplyEnded(record, line, "stop")


class Screen:
    """A delivery that records what was shown."""

    def __init__(self, task: ReplyContext, platform: "Platform") -> None:
        self.task = task
        self.platform = platform
        self.text = ""
        self.closed = False

    async def earlier(self) -> tuple[str, ...]:
        return self.platform.earlier

    def shown(self) -> bool:
        return self.platform.shows_at_once and bool(self.text)

    async def write(self, text: str) -> None:
        self.text = text

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        if self.platform.trouble:
            raise self.platform.trouble.pop(0)
        self.platform.said.append((self.task, reply))
        self.platform.changed.set()
        return (f"bot-{reply.id}",)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        self.platform.notices.append((self.task, notice))
        self.platform.changed.set()
        return (f"off-{notice.reply_id}",) if notice.text else ()

    async def withdraw(self) -> None:
        self.platform.withdrawn.append(self.task)
        self.platform.changed.set()

    async def aclose(self) -> None:
        self.closed = True
        self.platform.changed.set()


class Platform:
    """Opens screens and records their results."""

    def __init__(self) -> None:
        self.screens: list[Screen] = []
        self.said: list[tuple[ReplyContext, Reply]] = []
        self.notices: list[tuple[ReplyContext, OfflineNotice]] = []
        self.withdrawn: list[ReplyContext] = []
        self.earlier: tuple[str, ...] = ()
        self.trouble: list[Exception] = []
        self.shows_at_once = True
        self.changed = asyncio.Event()

    def open(self, task: ReplyContext) -> Screen:
        self.screens.append(Screen(task, self))
        return self.screens[-1]

    @property
    def texts(self) -> list[str]:
        return [reply.text for _, reply in self.said]

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait until something is true, looking again after each thing shown."""
        async with asyncio.timeout(LIMIT_S):
            while not happened():
                self.changed.clear()
                await self.changed.wait()

    async def tried(self, times: int) -> None:
        """Wait until so many replies were begun and are over."""
        await self.until(lambda: [screen.closed for screen in self.screens] == [True] * times)


class Clock:
    """A wall clock that tests can set."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def settings(**fields: object) -> Settings:
    base: dict[str, object] = {
        "conversation": QUICK,
        "participation": Participation(channels=("lounge",)),
    }
    return Settings(**(base | fields))  # type: ignore[arg-type]


def dependencies(models: Models, store: InboxStore | None = None, **fields: object) -> Dependencies:
    conf = fields.pop("settings", settings())
    assert isinstance(conf, Settings)
    base: dict[str, object] = {
        "store": store or MemoryInbox(),
        "preferences": Preferences(MemoryPreferences()),
        "reply": models.reply,
        "settings": lambda: conf,
        "personas": lambda: Personas(conf.persona, Library()),
    }
    return Dependencies(**(base | fields))  # type: ignore[arg-type]


class ConversationDriver:
    """A MessageRouter between scripted models and a recording platform."""

    def __init__(self, store: InboxStore | None = None, **fields: object) -> None:
        self.models = Models()
        self.platform = Platform()
        self.out = dependencies(self.models, store, **fields)
        self.router = MessageRouter(self.out)
        for name in ("web", "discord"):
            self.router.register(name, self.platform.open)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.models.gate.set()
        await self.router.aclose(grace_s=2)

    async def hear(self, count: int) -> None:
        await self.platform.until(lambda: len(self.platform.said) >= count)
