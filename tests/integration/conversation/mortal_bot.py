"""A bot that is made to be killed: the real inbox and message router on a database file, a model
that answers short_pause, and a platform that writes what it shows into a file.

Reads messages as JSON lines from standard input; prints one word whenever something happens.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from conversation_driver import message, settings
from reply_events import RouterEvent, play
from sample_records import answered, reply
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.messages import Author, Place
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import Preferences
from understudy.llm.messages import TextDelta
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.storage.stores import open_storage

NONCES_LAST_S = 140.0


def emit(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def short_pause(most_s: float) -> None:
    await asyncio.sleep(random.uniform(0, most_s))


async def generate(request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
    return await play(_words(request), sink)


async def _words(request: ReplyRequest) -> AsyncGenerator[RouterEvent, None]:
    for word in ("Of ", "course."):
        await short_pause(0.01)
        yield TextDelta(word)
    yield ReplyEnded(
        reply(answered(request_id=request.id), request_id=request.id), "Of course.", "stop"
    )


class DeliveryLog:
    """The platform's side: what is written stays; a nonce is remembered for a while."""

    def __init__(self, path: Path, ahead_s: float) -> None:
        self.path = path
        self.ahead_s = ahead_s

    def now(self) -> float:
        return time.time() + self.ahead_s

    def lines(self) -> list[dict[str, object]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def put(self, task: ReplyContext) -> None:
        known = {
            x["nonce"] for x in self.lines() if self.now() - float(str(x["at"])) < NONCES_LAST_S
        }
        if task.nonce in known:
            return
        line = {"nonce": task.nonce, "at": self.now(), "trigger": task.trigger_id}
        with self.path.open("a") as file:
            file.write(json.dumps(line | {"answers": task.message_ids}) + "\n")

    def answers_to(self, trigger_id: str) -> bool:
        return any(x["trigger"] == trigger_id for x in self.lines())


class FileDelivery:
    def __init__(self, task: ReplyContext, log: DeliveryLog) -> None:
        self.task = task
        self.log = log

    async def earlier(self) -> tuple[str, ...]:
        emit("looked")
        return (self.task.nonce,) if self.log.answers_to(self.task.trigger_id) else ()

    def shown(self) -> bool:
        return False

    async def write(self, text: str) -> None:
        emit("wrote")

    async def finish(self, said: Reply) -> tuple[str, ...]:
        if await self.task.may_send():
            self.log.put(self.task)
        emit("said")
        await short_pause(0.02)
        return (self.task.nonce,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        raise AssertionError(notice)

    async def withdraw(self) -> None:
        raise AssertionError("nothing was deleted")

    async def aclose(self) -> None:
        emit("closed")


async def live(database: Path, log: DeliveryLog) -> None:
    conf = settings(participation={"user_per_minute": 10_000, "channel_per_minute": 10_000})
    personas = Personas(conf.persona, Library())
    async with open_storage(database, persist=True) as opened:
        router = MessageRouter(
            Dependencies(
                store=opened.inbox,
                preferences=Preferences(opened.preferences),
                reply=generate,
                settings=lambda: conf,
                personas=lambda: personas,
                now=log.now,
            )
        )
        router.register("discord", lambda task: FileDelivery(task, log))
        await router.start()
        emit("up")
        while line := await asyncio.to_thread(sys.stdin.readline):
            message_id, author, channel = json.loads(line)
            place = Place("discord", channel, guild_id="g1")
            await router.receive(message(message_id, "well?", Author(author, author), place))
            emit("received")


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), DeliveryLog(Path(sys.argv[2]), float(sys.argv[3]))))
