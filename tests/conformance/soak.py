"""Thousands of replies while every server fails at random, and what is left afterwards: nothing.

`make soak` plays 10,000 and prints the figures in one line; each test run plays a few hundred.
"""

import asyncio
import contextlib
import gc
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import structlog

from process_memory import resident_mb
from reply_events import Restarted, RouterEvent, reply_events
from understudy.app.models import ReloadableRouter
from understudy.config.load import Config, parse_config
from understudy.errors import ErrorClass
from understudy.llm.messages import ChatRequest, ImagePart, Message, TextDelta, TextPart
from understudy.rehearsal.faults import FAULTS, Behaviour
from understudy.rehearsal.script import at_random
from understudy.rehearsal.server import RehearsalServer
from understudy.routing.environment import RouterEnvironment
from understudy.routing.records import AttemptRecord, NextStep, Outcome, ReplyOutcome, ReplyRecord
from understudy.routing.request import Fit, Prompt, ReplyEnded, ReplyRequest, SinkKind

ENGINES = ("openai", "openrouter", "llama.cpp", "nanogpt")
FAULT_SHARE = 0.5
LEAVE_SHARE = 0.1
RESET_SHARE = 0.05
DOWN_SHARE = 0.3
ROUND = 100
BETWEEN_ROUNDS_S = 4000.0
"""So much time seems to pass: longer than any hold, so that each round begins half-open."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the router, and how late a reply may end."""

    first_token_s: float = 0.2
    commit_s: float = 1.0
    total_s: float = 30.0
    late_s: float = 20.0


QUICK = Limits()
UNHURRIED = Limits(first_token_s=2.0, commit_s=20.0, total_s=200.0, late_s=100.0)
"""For a busy machine, where a hundred requests at the same time take seconds."""
_EMPTY = (ErrorClass.EMPTY_REPLY, ErrorClass.REASONING_EXHAUSTED)
_SPREAD = 120
"""By how much the number of objects at rest goes up and down: breakers, timers, idle tasks."""
_OURS = ("understudy.routing", "understudy.llm", "understudy.llm.messages")
_PIXEL = ImagePart(b"\x89PNG\r\n\x1a\n", "image/png", 1, 1, "dot.png", "digest")
_SYSTEM = Message("system", (TextPart("You speak in few words."),))


@dataclass(slots=True)
class Books:
    """Every record the router gave, counted."""

    attempts: Counter[Outcome] = field(default_factory=Counter)
    replies: Counter[ReplyOutcome] = field(default_factory=Counter)
    unmatched: int = 0
    """Replies whose attempts were not each recorded exactly once before."""
    bugs: int = 0
    """Attempts that failed of an error of our own."""
    _open: Counter[str] = field(default_factory=Counter)

    def attempt_ended(self, record: AttemptRecord) -> None:
        self.attempts[record.outcome] += 1
        self.bugs += record.error_class is ErrorClass.INTERNAL
        self._open[record.request_id] += 1

    def reply_ended(self, record: ReplyRecord) -> None:
        self.replies[record.outcome] += 1
        self.unmatched += self._open.pop(record.request_id, 0) != len(record.attempts)

    @property
    def started(self) -> int:
        return self.attempts.total() - self.attempts[Outcome.SKIPPED]


@dataclass(frozen=True, slots=True)
class Remains:
    """What the process holds while nothing is under way."""

    objects: int
    """All that the collector knows of: ours, the servers', and everybody else's."""
    ours: int
    """Those of the router's and the clients' own classes."""
    resident_mb: float
    tasks: int
    sockets: int
    """Connections that the servers still have open."""

    @property
    def of_requests(self) -> int:
        """An idle connection keeps up to three objects of its last exchange; these are not it."""
        return self.ours - 3 * self.sockets


@dataclass(frozen=True, slots=True)
class Figures:
    requests: int
    replies: Counter[ReplyOutcome]
    attempts: int
    calls: int
    faulted: int
    bugs: int
    unmatched: int
    wrong_texts: int
    overdue: int
    """Replies that had not ended when their total deadline was long over."""
    took_s: float
    before: Remains
    during: tuple[Remains, ...]
    """After each tenth of the requests, or each round; in the first, caches have filled."""
    closed: Remains
    """After everything was closed."""

    @property
    def grown(self) -> int:
        """Objects of our classes that the requests after the first tenth have left behind."""
        return self.during[-1].of_requests - self.during[0].of_requests

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept and nothing is left."""
        wrong = self.bugs + self.unmatched + self.wrong_texts + self.overdue
        left = self.closed.sockets + self.closed.tasks - self.before.tasks
        return not wrong and not left and self.grown < _SPREAD

    def line(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.replies.items()))
        memory = " ".join(f"{held.resident_mb:.1f}" for held in self.during)
        return (
            f"{self.requests} requests ({counts}), {self.attempts} attempts, {self.calls} calls, "
            f"{self.faulted} of them faulted, {self.took_s:.0f} s, memory {memory} MB, "
            f"of our classes {self.during[0].ours} -> {self.during[-1].ours} objects, "
            f"of all {self.during[0].objects} -> {self.during[-1].objects}, "
            f"tasks {self.before.tasks} -> {self.closed.tasks}, "
            f"sockets {self.before.sockets} -> {self.closed.sockets} "
            f"({self.during[-1].sockets} kept alive before closing), "
            f"wrong: {self.bugs} bugs, {self.unmatched} records, {self.wrong_texts} texts, "
            f"{self.overdue} overdue"
        )


@dataclass(slots=True)
class Soak:
    models: ReloadableRouter
    servers: list[RehearsalServer]
    books: Books
    dice: Random
    limits: Limits
    time_passed_s: float = 0.0
    faulted: int = 0
    wrong_texts: int = 0
    overdue: int = 0

    async def round(self, numbers: range) -> None:
        """Ask so many at once; one server may be stopped for a while."""
        stopped = self.dice.choice(self.servers) if self.dice.random() < DOWN_SHARE else None
        if stopped is not None:
            await stopped.go_down()
        await asyncio.gather(*(self._one(number) for number in numbers))
        if stopped is not None:
            await stopped.come_up()
        for server in self.servers:
            await server.until(lambda seen: seen.in_flight == 0)
        self.time_passed_s += BETWEEN_ROUNDS_S

    async def _one(self, number: int) -> None:
        dice, limits = Random(f"{self.dice.random()}/{number}"), self.limits
        task = asyncio.create_task(self._reply(number, dice))
        leaves = dice.random() < LEAVE_SHARE
        patience_s = (
            dice.random() * limits.first_token_s if leaves else limits.total_s + limits.late_s
        )
        await asyncio.wait({task}, timeout=patience_s)
        self.overdue += not (leaves or task.done())
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
        if dice.random() < RESET_SHARE:
            self.models.reset(None)

    async def _reply(self, number: int, dice: Random) -> None:
        texts, end = [""], None
        async with contextlib.aclosing(self._asking(number, dice)) as events:
            async for event in events:
                if isinstance(event, Restarted):
                    texts.append("")
                elif isinstance(event, TextDelta):
                    texts[-1] += event.text
                elif isinstance(event, ReplyEnded):
                    end = event
        assert end is not None
        self.wrong_texts += not is_right(end, texts, self.limits)

    def _asking(self, number: int, dice: Random) -> AsyncGenerator[RouterEvent, None]:
        kind, images = dice.choice(list(SinkKind)), int(dice.random() < 0.1)

        def build(fit: Fit) -> Prompt:
            shown = (_PIXEL,) * images if fit.vision else ()
            asked = Message("user", (TextPart(f"Tell me story {number}."), *shown))
            return Prompt(ChatRequest((_SYSTEM, asked)), 10, images=len(shown))

        request = ReplyRequest(
            id=f"soak-{number}",
            sink="gateway" if kind is SinkKind.APPEND_ONLY else "web",
            build=build,
            may_trim_prompt=kind is not SinkKind.APPEND_ONLY,
            images=images,
            queue_key=str(number % 7),
        )
        return reply_events(self.models.reply, request, kind)

    def remains(self) -> Remains:
        for server in self.servers:
            # What the stand-in servers note down is not the router's.
            for noted in (server.seen.disconnects, server.seen.peers, server.seen.asked):
                noted.clear()
        while gc.collect():
            pass
        objects = gc.get_objects()
        return Remains(
            objects=len(objects),
            ours=sum(str(type(one).__module__).startswith(_OURS) for one in objects),
            resident_mb=resident_mb(),
            tasks=len(asyncio.all_tasks()),
            sockets=sum(server.connections_open for server in self.servers),
        )

    async def closed(self) -> Remains:
        """Close the router and wait, for a few seconds at most, until the servers have noticed."""
        await self.models.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while any(server.connections_open for server in self.servers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        return self.remains()


@asynccontextmanager
async def _open(seed: int, limits: Limits) -> AsyncGenerator[Soak]:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(RehearsalServer()) for _ in ENGINES]
        books = Books()
        instruments = RouterEnvironment(
            clock=lambda: time.monotonic() + here.time_passed_s,
            wall=lambda: time.time() + here.time_passed_s,
            random=Random(seed),
            observers=(books,),
        )
        models = ReloadableRouter(_configuration(servers, limits), instruments)
        stack.push_async_callback(models.aclose)
        here = Soak(models, servers, books, Random(seed), limits)
        for number, server in enumerate(servers):
            server.health_status = 200
            _play_faults(here, server, seed + number)
        yield here


def _play_faults(here: Soak, server: RehearsalServer, seed: int) -> None:
    part = at_random(seed, share=FAULT_SHARE)

    def play(call: int) -> Behaviour:
        chosen = part(call)
        here.faulted += chosen.name in FAULTS
        return chosen

    server.play(play)


def _configuration(servers: list[RehearsalServer], limits: Limits) -> Config:
    entries = {
        f"server{number}": {
            "engine": engine,
            "base_url": server.base_url,
            "name": "m",
            "api_key": "sk-soak-canary",
            "max_concurrency": 50,
            "timeout_seconds": limits.first_token_s,
            "idle_timeout_seconds": limits.first_token_s,
            "strict_timeout": number > 0,
        }
        for number, (engine, server) in enumerate(zip(ENGINES, servers, strict=True))
    }
    model = {
        "provider_order": list(entries),
        "servers": entries,
        "deadline": {"commit_seconds": limits.commit_s, "total_seconds": limits.total_s},
    }
    return parse_config(json.dumps({"model": model}), {})


async def soak(requests: int, seed: int = 1, limits: Limits = QUICK) -> Figures:
    """Half of all calls fail, one caller in ten leaves early, servers stop and come back."""
    async with _open(seed, limits) as here:
        before, started = here.remains(), time.monotonic()
        during = []
        stretch = max(requests // 10, ROUND)
        for first in range(0, requests, ROUND):
            await here.round(range(first, min(first + ROUND, requests)))
            if (first + ROUND) % stretch == 0:
                during.append(here.remains())
        took_s = time.monotonic() - started
        return Figures(
            requests=requests,
            replies=here.books.replies,
            attempts=here.books.started,
            calls=sum(server.calls for server in here.servers),
            faulted=here.faulted,
            bugs=here.books.bugs,
            unmatched=here.books.unmatched,
            wrong_texts=here.wrong_texts,
            overdue=here.overdue,
            took_s=took_s,
            before=before,
            during=tuple(during),
            closed=await here.closed(),
        )


def is_right(end: ReplyEnded, shown: list[str], limits: Limits = QUICK) -> bool:
    """Whether a reply ends as the text of one attempt: of the last, or, broken off, of any."""
    if end.record.outcome is ReplyOutcome.DELIVERED:
        return shown[-1].startswith(end.text) if end.text else _may_be_empty(end, shown, limits)
    return end.text in shown if end.record.outcome is ReplyOutcome.PARTIAL else not end.text


def _may_be_empty(end: ReplyEnded, shown: list[str], limits: Limits) -> bool:
    """A client of the gateway gets the first empty answer where no server has another.

    So each one answered otherwise or was skipped, unless the time was over or the request at fault.
    """
    record = end.record
    empty = [attempt for attempt in record.attempts if attempt.error_class in _EMPTY]
    if record.sink != "gateway" or any(shown) or not empty or record.winner != empty[0]:
        return False
    if any(attempt.outcome is Outcome.OK or attempt.committed for attempt in record.attempts):
        return False
    untried = len(ENGINES) - len({attempt.provider for attempt in record.attempts})
    ended = record.t_total_ms >= limits.commit_s * 1000 or record.attempts[-1].next is NextStep.STOP
    return end.finish_reason == empty[0].finish_reason is not None and (not untried or ended)


def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    requests, seed = (int(word) for word in (*sys.argv[1:], "1")[:2])
    seen = asyncio.run(soak(requests, seed))
    print(seen.line())  # noqa: T201
    return 0 if seen.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
