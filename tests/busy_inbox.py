"""An inbox whose database is busy for a while."""

from collections import Counter

from understudy.conversation.inbox import Decision, Watermark
from understudy.conversation.messages import Inbound
from understudy.errors import StorageError
from understudy.storage.in_memory_inbox import MemoryInbox


class BusyInbox(MemoryInbox):
    """Refuses so many of the next calls of a kind, and counts those that it took."""

    def __init__(self, **refusals: int) -> None:
        super().__init__()
        self.refusals = Counter(refusals)
        self.taken: Counter[str] = Counter()

    def _take(self, kind: str) -> None:
        if self.refusals[kind]:
            self.refusals[kind] -= 1
            raise StorageError("the database is locked")
        self.taken[kind] += 1

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        self._take("add")
        return await super().add(inbound, decision, now)

    async def edit(self, inbound: Inbound) -> str | None:
        self._take("edit")
        return await super().edit(inbound)

    async def delete(self, platform: str, message_id: str) -> str | None:
        self._take("delete")
        return await super().delete(platform, message_id)

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        self._take("watermarks")
        return await super().watermarks(platform, since)
