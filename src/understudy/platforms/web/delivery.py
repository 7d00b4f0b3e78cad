"""The page's Delivery: writes one reply into its live conversation."""

from typing import Protocol

from understudy.conversation.delivery import OfflineNotice, Reply
from understudy.conversation.inbox import Thoughts
from understudy.platforms.web.live_entries import LiveConversation, LiveReply
from understudy.platforms.web.serializers import is_unfinished, steps_of

_MAX_THOUGHTS = 50_000


class LiveReplies(Protocol):
    """What a delivery uses of LiveConversations."""

    def now(self) -> float: ...

    def changed(self, channel_id: str, reply: LiveReply, *, ended: bool = False) -> None: ...

    def end_reply(self, channel_id: str, reply_id: str, *, withdrawn: bool) -> None: ...


class WebDelivery:
    """Writes one reply into its live conversation."""

    def __init__(
        self,
        live: LiveReplies,
        channel_id: str,
        conversation: LiveConversation,
        reply: LiveReply,
    ) -> None:
        self._live = live
        self._channel_id = channel_id
        self._conversation = conversation
        self._reply = reply
        self._withdrawn = False

    async def earlier(self) -> tuple[str, ...]:
        """Always empty: what a page showed ends with the page's event stream."""
        return ()

    def shown(self) -> bool:
        return bool(self._reply.text)

    def think(self, text: str) -> None:
        live = self._reply
        if not live.thoughts:
            live.thought_from = self._live.now()
        live.thoughts, live.thought_s = text[:_MAX_THOUGHTS], None
        self._mark_changed()

    def thoughts(self) -> Thoughts | None:
        live = self._reply
        return Thoughts(live.thoughts, live.thought_s) if live.thoughts else None

    async def write(self, text: str) -> None:
        live = self._reply
        if live.thoughts and live.thought_s is None:
            live.thought_s = self._live.now() - live.thought_from
        live.text = text
        self._mark_changed()

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        live = self._reply
        live.text, live.notes = reply.text, reply.notes
        live.steps, live.total_ms = steps_of(reply.record.attempts), reply.record.t_total_ms
        live.unfinished = reply.stopped or is_unfinished(reply.record)
        live.state = "stopped" if reply.stopped else "partial" if reply.partial else "done"
        self._mark_changed()
        return (live.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        live = self._reply
        if not notice.text:
            return ()
        live.text, live.retry_at, live.state = notice.text, notice.retry_at, "offline"
        live.steps = steps_of(notice.record.attempts)
        self._mark_changed()
        return (live.id,)

    async def withdraw(self) -> None:
        self._withdrawn = True
        self._conversation.replies.pop(self._reply.id, None)
        self._conversation.removed.append(self._reply.id)
        self._conversation.notify()

    async def aclose(self) -> None:
        if self._reply.state == "writing" and self._reply.id in self._conversation.replies:
            await self.withdraw()
        self._live.end_reply(self._channel_id, self._reply.id, withdrawn=self._withdrawn)
        self._live.changed(self._channel_id, self._reply, ended=True)

    def _mark_changed(self) -> None:
        self._conversation.mark_changed(self._reply)
        self._live.changed(self._channel_id, self._reply)
