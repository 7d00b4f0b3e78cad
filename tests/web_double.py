"""Test double of message router and inbox for the web site: scripted replies, kept in memory."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from understudy.conversation.delivery import OfflineNotice, OpenDelivery, Reply, ReplyContext
from understudy.conversation.inbox import Channel, Decision, Line, Overview
from understudy.conversation.messages import Inbound
from understudy.errors import ErrorClass, StorageError
from understudy.llm.client import Phase
from understudy.llm.messages import Usage
from understudy.routing.records import (
    AttemptObserver,
    AttemptRecord,
    AttemptRole,
    NextStep,
    OfflineReason,
    Outcome,
    ReplyOutcome,
    ReplyRecord,
)


def attempt(
    label: str,
    outcome: Outcome = Outcome.OK,
    error: ErrorClass | None = None,
    *,
    request_id: str = "r",
    ts: float = 1_790_000_000.0,
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
    offline: str = ""


def reply_text(text: str, *, pause_s: float = 0.0) -> ScriptedReply:
    return ScriptedReply((("local/koboldcpp", Outcome.OK, None, text),), pause_s)


@dataclass(slots=True)
class Responder:
    """ReplyControl and ConversationHistory; one script per message, the last one repeats."""

    scripts: list[ScriptedReply]
    open_delivery: OpenDelivery | None = None
    observer: AttemptObserver | None = None
    inbounds: list[Inbound] = field(default_factory=list)
    lines: dict[str, list[Line]] = field(default_factory=dict)
    storage_fails: bool = False
    rate_limited: bool = False
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    count: int = 0

    async def receive(self, inbound: Inbound) -> Decision | None:
        if self.storage_fails:
            raise StorageError("the disk is full")
        if any(known.message_id == inbound.message_id for known in self.inbounds):
            return None
        self.inbounds.append(inbound)
        channel = inbound.place.channel_id
        self.lines.setdefault(channel, []).append(
            Line(
                seq=len(self.inbounds),
                position=len(self.inbounds),
                role="user",
                message_id=inbound.message_id,
                author=inbound.author,
                text=inbound.text,
                at=inbound.sent_at,
                images=inbound.images,
            )
        )
        if self.rate_limited:
            return Decision(answer=False, reason="user_rate_limit")
        self._start(inbound)
        return Decision(answer=True, reason="dm", directed=True)

    def stop(self, reply_id: str) -> None:
        self.tasks[reply_id].cancel()

    async def regenerate(self, reply_id: str) -> None:
        for lines in self.lines.values():
            lines[:] = [line for line in lines if line.reply_id != reply_id]
        self._start(self.inbounds[-1], replaces=(reply_id,))

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        assert platform == "web"
        return tuple(
            Overview(Channel("web", channel), lines[0].text[:60], lines[-1].at)
            for channel, lines in self.lines.items()
            if channel.startswith(parent_id) and lines
        )

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        return tuple(self.lines.get(channel.id, ())[-limit:])

    async def last_reply(self, channel: Channel) -> str | None:
        replies = [line.reply_id for line in self.lines.get(channel.id, ()) if line.reply_id]
        return replies[-1] if replies else None

    async def delete_conversation(self, channel: Channel) -> None:
        self.lines.pop(channel.id, None)

    async def aclose(self) -> None:
        for task in list(self.tasks.values()):
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    def _start(self, inbound: Inbound, replaces: tuple[str, ...] = ()) -> None:
        self.count += 1
        reply_id = f"reply-{self.count}"
        task = ReplyContext(
            reply_id, inbound.place, inbound.message_id, inbound.author, (inbound.message_id,),
            "nonce", replaces=replaces,
        )  # fmt: skip
        script = self.scripts[min(self.count, len(self.scripts)) - 1]
        self.tasks[reply_id] = asyncio.create_task(self._answer(task, script))

    async def _answer(self, task: ReplyContext, script: ScriptedReply) -> None:
        assert self.open_delivery is not None
        delivery = self.open_delivery(task)
        attempts: list[AttemptRecord] = []
        text, stopped = "", False
        try:
            for label, outcome, error, shown in script.attempts:
                text = ""
                for word in shown.split(" "):
                    text += word if not text else f" {word}"
                    await delivery.write(text)
                    await asyncio.sleep(script.pause_s)
                record = attempt(label, outcome, error, request_id=task.reply_id)
                attempts.append(record)
                if self.observer:
                    self.observer.attempt_ended(record)
            if script.never_ends:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped = True
        record_of_reply = ReplyRecord(
            1_790_000_000.0, task.reply_id, "web",
            ReplyOutcome.OFFLINE if script.offline else ReplyOutcome.DELIVERED, tuple(attempts),
        )  # fmt: skip
        if script.offline:
            notice = OfflineNotice(
                task.reply_id, script.offline, OfflineReason.ALL_DOWN, record_of_reply
            )
            await delivery.offline(notice)
        elif text:
            reply = Reply(task.reply_id, text, record_of_reply, stopped=stopped)
            ids = await delivery.finish(reply)
            self.lines[task.place.channel_id].append(
                Line(
                    seq=len(self.inbounds),
                    position=len(self.inbounds),
                    role="assistant",
                    message_id=ids[0],
                    author=task.author,
                    text=text,
                    at=1_790_000_000.0,
                    reply_id=task.reply_id,
                    record=record_of_reply,
                )
            )
        await delivery.aclose()
