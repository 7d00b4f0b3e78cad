"""Our router as the suite sees it: real clients over real HTTP."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType

from conformance.subject import Outcome, Sink, Site, Subject, Wish
from reply_events import RecordingSink, Restarted, RouterEvent, reply_events
from understudy.config.providers import NamedServer
from understudy.llm.http.connector import Addresses, Network
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, ImagePart, Message, TextDelta, TextPart
from understudy.llm.registry import build_client
from understudy.routing.candidates import Candidate
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.records import AttemptObserver, ReplyRecord
from understudy.routing.records import Outcome as AttemptOutcome
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, SinkKind
from understudy.routing.router import ModelRouter
from understudy.routing.timeouts import Deadline, Limits

PIXEL = ImagePart(b"\x89PNG\r\n\x1a\n", "image/png", 1, 1, "dot.png", "digest")
_FALLBACK_S = 60.0
LARGE = "A long story. " * 300_000


class _Loopback(Network):
    """Finds every server on this machine, whatever its name or address."""

    async def addresses(self, host: str, port: int) -> Addresses:
        return await super().addresses("127.0.0.1", port)


class UnderstudyRouter(Subject):
    def __init__(self, site: Site, observers: Sequence[AttemptObserver] = ()) -> None:
        super().__init__(site)
        self._skipped_s = 0.0
        self._sessions = HttpSessions(_Loopback())
        urls = [("primary", site.primary_url), ("fallback", site.fallback_url)]
        self.router = ModelRouter(
            [self._candidate(name, url) for name, url in urls if url is not None],
            RouterRules(deadline=Deadline(site.commit_s, site.total_s)),
            instruments=RouterEnvironment(clock=self._clock, wall=self._clock, observers=observers),
        )

    async def ask(self, wish: Wish) -> Outcome:
        started, text, visible = time.monotonic(), "", None
        async with contextlib.aclosing(self._reply(wish)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                    if visible is None and text.strip():
                        visible = time.monotonic() - started
                elif isinstance(event, Restarted):
                    text = ""
                elif isinstance(event, ReplyEnded):
                    return self._outcome(event, text, visible, time.monotonic() - started)
        raise AssertionError("a reply must end with ReplyEnded")

    async def abandon(self, wish: Wish, when: Awaitable[None] | None) -> float:
        text_came = asyncio.Event()

        async def listen() -> None:
            async with contextlib.aclosing(self._reply(wish)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        text_came.set()

        task = asyncio.create_task(listen())
        await (text_came.wait() if when is None else when)
        left = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        return left

    @asynccontextmanager
    async def unread(self, wish: Wish) -> AsyncGenerator[None, None]:
        sink = _StuckSink(kind=SinkKind(wish.sink.value))
        task = asyncio.ensure_future(self.router.reply(_request(wish), sink))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def pass_time(self, seconds: float) -> None:
        self._skipped_s += seconds

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.router.memory.aclose()
        await self._sessions.aclose()

    def _clock(self) -> float:
        return time.monotonic() + self._skipped_s

    def _reply(self, wish: Wish) -> AsyncGenerator[RouterEvent, None]:
        return reply_events(self.router.reply, _request(wish), SinkKind(wish.sink.value))

    def _outcome(self, end: ReplyEnded, text: str, visible: float | None, took_s: float) -> Outcome:
        record = end.record
        failed = record.offline_reason or end.error_class
        return Outcome(
            text=text,
            first_visible_s=visible,
            took_s=took_s,
            failed="" if failed is None else failed.value,
            retry_in_s=None if record.retry_at is None else record.retry_at - self._clock(),
            record=words_of(record),
            bad_frames=sum(a.bad_frames for a in record.attempts),
        )

    def _candidate(self, name: str, url: str) -> Candidate:
        is_primary = url == self.site.primary_url
        server = NamedServer(
            engine="openai",
            base_url=url,
            name="rehearsal/eliza",
            connect_timeout_seconds=self.site.connect_s if is_primary else _FALLBACK_S,
        )
        client = build_client(name, server, sessions=self._sessions, key=self.site.api_key)
        return Candidate(
            provider=name,
            model="rehearsal/eliza",
            label=name,
            engine="openai",
            client=client,
            limits=Limits(self.site.first_token_s, self.site.idle_s)
            if is_primary
            else Limits(_FALLBACK_S, _FALLBACK_S),
            endpoint=url,
            endpoint_host="127.0.0.1",
            key_ref="CONFORMANCE_KEY",
        )


def _request(wish: Wish) -> ReplyRequest:
    def build(fit: Fit) -> Prompt:
        image = (PIXEL,) if wish.image and fit.vision else ()
        message = Message("user", (TextPart("Tell me a story."), *image))
        earlier = (Message("system", (TextPart(LARGE),)),) if wish.large else ()
        return Prompt(ChatRequest((*earlier, message)), input_tokens=10, images=len(image))

    return ReplyRequest(
        id="conformance",
        sink="gateway" if wish.sink is Sink.APPEND_ONLY else "web",
        build=build,
        may_trim_prompt=wish.may_trim_prompt,
        images=int(wish.image),
    )


class _StuckSink(RecordingSink):
    """Takes nothing after the first output."""

    async def flush(self) -> None:
        await asyncio.get_running_loop().create_future()


def words_of(record: ReplyRecord) -> tuple[str, ...]:
    """One word per attempt: `ok`, why it was skipped, or its error class."""
    return tuple(
        "ok"
        if a.outcome is AttemptOutcome.OK
        else (a.skip_reason or a.error_class or a.outcome).value
        for a in record.attempts
    )
