"""Short words for tests of the router: candidates, requests, and what came of them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from reply_events import RecordingSink, Restarted, RouterEvent, always, reply_events
from understudy.llm.messages import ChatRequest, Message, TextDelta, TextPart
from understudy.llm.testing import Script, ScriptedClient
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.records import AttemptRecord, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter


def candidate(name: str, *scripts: Script, **fields: object) -> Candidate:
    """`name` is the provider, or provider/model."""
    provider, _, model = name.partition("/")
    base: dict[str, object] = {
        "provider": provider,
        "model": model or "m",
        "label": provider,
        "engine": "openai",
        "client": ScriptedClient(scripts),
        "endpoint": f"http://{provider}.test",
        "endpoint_host": f"{provider}.test",
    }
    return Candidate(**(base | fields))  # type: ignore[arg-type]


def calls(one: Candidate) -> int:
    assert isinstance(one.client, ScriptedClient)
    return len(one.client.calls)


def left_open(one: Candidate) -> int:
    assert isinstance(one.client, ScriptedClient)
    return sum(not call.ended for call in one.client.calls)


def hello(_fit: Fit) -> Prompt:
    request = ChatRequest((Message("user", (TextPart("hello"),)),), max_tokens=100)
    return Prompt(request, input_tokens=10)


@dataclass(frozen=True)
class Wanted:
    """One reply and the kind of sink it goes to."""

    request: ReplyRequest
    kind: SinkKind
    is_visible: Callable[[], bool]


def wanted(
    kind: SinkKind = SinkKind.EDITABLE, shown: Callable[[], bool] = always, **fields: object
) -> Wanted:
    base: dict[str, object] = {"id": "r1", "sink": "web", "build": hello}
    return Wanted(ReplyRequest(**(base | fields)), kind, shown)  # type: ignore[arg-type]


@dataclass
class Observed:
    """Keeps every record it observes."""

    attempts: list[AttemptRecord] = field(default_factory=list)
    replies: list[ReplyRecord] = field(default_factory=list)

    def attempt_ended(self, record: AttemptRecord) -> None:
        self.attempts.append(record)

    def reply_ended(self, record: ReplyRecord) -> None:
        self.replies.append(record)


@dataclass
class Seen:
    """What a sink saw of one reply."""

    events: list[RouterEvent]
    took_s: float

    @property
    def end(self) -> ReplyEnded:
        last = self.events[-1]
        assert isinstance(last, ReplyEnded)
        return last

    @property
    def screen(self) -> str:
        """The text as a sink that obeys the events shows it."""
        text = ""
        for event in self.events:
            if isinstance(event, Restarted):
                text = ""
            elif isinstance(event, TextDelta):
                text += event.text
        return text

    @property
    def story(self) -> list[str]:
        """`provider outcome-or-class` per attempt."""
        return [
            f"{a.provider} {a.skip_reason or a.error_class or a.outcome}"
            for a in self.end.record.attempts
        ]


def router(
    candidates: Sequence[Candidate], rules: RouterRules | None = None, *observers: Observed
) -> ModelRouter:
    loop = asyncio.get_running_loop()
    tools = RouterEnvironment(
        clock=loop.time, wall=lambda: 1e9 + loop.time(), random=Random(7), observers=observers
    )
    return ModelRouter(candidates, rules, instruments=tools)


def events_of(
    model_router: ModelRouter, one: Wanted | None = None
) -> AsyncGenerator[RouterEvent, None]:
    one = one or wanted()
    return reply_events(model_router.reply, one.request, one.kind, one.is_visible)


async def reply(model_router: ModelRouter, one: Wanted | None = None) -> Seen:
    loop = asyncio.get_running_loop()
    start = loop.time()
    one = one or wanted()
    sink = RecordingSink(one.kind, one.is_visible)
    ended = await model_router.reply(one.request, sink)
    return Seen([*sink.events, ended], loop.time() - start)
