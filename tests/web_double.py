"""A conversation behind the web site: the real message router over scripted models."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from conversation_driver import FIT, dependencies
from reply_events import AttemptEnded, Restarted, RouterEvent, play
from understudy.config.settings import Conversation, Participation, Settings
from understudy.conversation.inbox import Decision
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Inbound
from understudy.errors import ErrorClass, StorageError
from understudy.llm.client import Phase
from understudy.llm.messages import ReasoningDelta, TextDelta, Usage
from understudy.platforms.web.chat import PLATFORM
from understudy.platforms.web.live import LiveConversations
from understudy.routing.records import (
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
)
from understudy.routing.request import Prompt, ReplyEnded, ReplyRequest, ReplySink
from understudy.storage.in_memory_inbox import MemoryInbox


def attempt(
    label: str,
    outcome: Outcome = Outcome.OK,
    error: ErrorClass | None = None,
    *,
    request_id: str = "r",
    ts: float = 1_790_000_000.0,
    cost_usd: float | None = None,
    first_output_ms: int | None = None,
) -> AttemptRecord:
    won = outcome is Outcome.OK
    return AttemptRecord(
        ts=ts,
        request_id=request_id,
        attempt=1,
        of_max=3,
        sink="web",
        provider=label.partition("/")[0],
        label=label,
        engine="openai",
        endpoint_host="127.0.0.1",
        key_ref=None,
        model_requested="rehearsal/eliza",
        role=AttemptRole.NORMAL,
        outcome=outcome,
        phase=Phase.DONE if won else Phase.HEADERS,
        next=NextStep.DELIVER if won else NextStep.FAILOVER,
        error_class=error,
        t_total_ms=1310 if won else 40,
        usage=Usage(412, 57) if won else None,
        cost_usd=cost_usd,
        t_first_output_ms=first_output_ms,
    )


RATE_LIMITED = (Outcome.ERROR, ErrorClass.RATE_LIMITED)
BROKE_OFF = (Outcome.ERROR, ErrorClass.TRUNCATED_STREAM)


@dataclass(frozen=True, slots=True)
class ScriptedReply:
    """The reply to one message: attempts with the text that each of them shows."""

    attempts: Sequence[tuple[str, Outcome, ErrorClass | None, str]] = ()
    pause_s: float = 0.0
    never_ends: bool = False
    """After the last text it waits for Stop."""
    offline: bool = False
    thoughts: str = ""
    """Reasoning before the first text."""
    starts: asyncio.Event | None = None
    """The first text waits until this is set."""


def reply_text(text: str, *, pause_s: float = 0.0) -> ScriptedReply:
    return ScriptedReply((("local/koboldcpp", Outcome.OK, None, text),), pause_s)


class RecordingInbox(MemoryInbox):
    """Keeps the accepted messages for assertions; `fails` makes storing impossible."""

    def __init__(self) -> None:
        super().__init__()
        self.inbounds: list[Inbound] = []
        self.fails = False

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        if self.fails:
            raise StorageError("the disk is full")
        added = await super().add(inbound, decision, now)
        if added:
            self.inbounds.append(inbound)
        return added


@dataclass(slots=True)
class ScriptedModels:
    """Yields the events of one script per reply; the last script repeats."""

    scripts: list[ScriptedReply]
    live: LiveConversations
    count: int = 0
    closed: int = 0
    """How many replies have ended, stopped ones included."""
    prompts: list[Prompt] = field(default_factory=list)

    async def reply(self, request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
        return await play(self._replied(request), sink)

    async def _replied(self, request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
        self.count += 1
        self.prompts.append(request.build(FIT))
        script = self.scripts[min(self.count, len(self.scripts)) - 1]
        try:
            async with aclosing(self._events(request, script)) as events:
                async for event in events:
                    yield event
        finally:
            self.closed += 1

    async def _events(
        self, request: ReplyRequest, script: ScriptedReply
    ) -> AsyncGenerator[RouterEvent, None]:
        attempts: list[AttemptRecord] = []
        if script.starts is not None:
            await script.starts.wait()
        if script.thoughts:
            yield ReasoningDelta(script.thoughts)
        for label, outcome, error, text in script.attempts:
            for number, word in enumerate(text.split(" ")):
                yield TextDelta(f" {word}" if number else word)
                await asyncio.sleep(script.pause_s)
            record = attempt(label, outcome, error, request_id=request.id)
            attempts.append(record)
            self.live.attempt_ended(record)
            yield AttemptEnded(record)
            if outcome is not Outcome.OK:
                yield Restarted()
        if script.never_ends:
            await asyncio.Event().wait()
        yield _ended(request, script, tuple(attempts))


def _ended(
    request: ReplyRequest, script: ScriptedReply, attempts: tuple[AttemptRecord, ...]
) -> ReplyEnded:
    record = ReplyRecord(
        ts=1_790_000_000.0,
        request_id=request.id,
        sink=PLATFORM,
        outcome=ReplyOutcome.OFFLINE if script.offline else ReplyOutcome.DELIVERED,
        attempts=attempts,
        offline_reason=OfflineReason.ALL_DOWN if script.offline else None,
    )
    return ReplyEnded(record, "" if script.offline else script.attempts[-1][3])


@dataclass(slots=True)
class Conversations:
    """The message router with its inbox and its models."""

    router: MessageRouter
    inbox: RecordingInbox
    models: ScriptedModels


@asynccontextmanager
async def open_conversations(
    scripts: Sequence[ScriptedReply],
    live: LiveConversations,
    now: Callable[[], float],
    *,
    messages_per_minute: int = 1000,
) -> AsyncIterator[Conversations]:
    models, inbox = ScriptedModels(list(scripts), live), RecordingInbox()
    settings = Settings(
        conversation=Conversation(),
        participation=Participation(
            user_per_minute=messages_per_minute, channel_per_minute=messages_per_minute
        ),
    )
    router = MessageRouter(
        dependencies(models, inbox, settings=settings, now=now)  # type: ignore[arg-type]
    )
    router.register(PLATFORM, live.open_delivery)
    try:
        yield Conversations(router, inbox, models)
    finally:
        await router.aclose()
