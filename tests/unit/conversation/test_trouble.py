"""When the database refuses for a while, and when time leaps under a running reply."""

from conversation_driver import WEB, Clock, ConversationDriver, message, offline_record
from understudy.conversation.inbox import LEASE_S, BatchResult, Channel, Postponement
from understudy.errors import StorageError
from understudy.routing.records import OfflineReason, ReplyRecord
from understudy.storage.in_memory_inbox import MemoryInbox


class FullInbox(MemoryInbox):
    """Has no room for the first outcome it is text."""

    full = True
    recorded: tuple[ReplyRecord | None, ...] = ()

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        self._refuse_once()
        return await super().settle(batch_id, ending, now)

    async def postpone(self, batch_id: str, wait: Postponement) -> bool:
        self._refuse_once()
        self.recorded = (*self.recorded, wait.record)
        return await super().postpone(batch_id, wait)

    def _refuse_once(self) -> None:
        if self.full:
            self.full = False
            raise StorageError("the disk is full")


async def test_a_reply_whose_outcome_found_no_room_is_stored_later_and_not_made_again() -> None:
    store = FullInbox()
    async with ConversationDriver(store) as driver:
        await driver.router.receive(message("m1"))
        await driver.platform.tried(1)
        (line, *_) = await store.transcript(Channel.of(WEB), 9)

    assert (line.state, len(driver.models.requests)) == ("answered", 1)


async def test_a_late_answer_is_agreed_with_its_record_though_there_was_no_room_at_first() -> None:
    store = FullInbox()
    failed = offline_record(OfflineReason.ALL_DOWN)
    async with ConversationDriver(store) as driver:
        driver.models.script = [failed]
        await driver.router.receive(message("m1"))
        await driver.platform.tried(1)

    assert [record and record.attempts for record in store.recorded] == [failed.attempts]


async def test_a_running_reply_is_not_begun_twice_when_time_leaps_over_its_lease() -> None:
    clock = Clock()
    async with ConversationDriver(now=clock) as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        clock.at += LEASE_S + 10
        await driver.router.start()
        await driver.router.receive(message("m2"))
        driver.models.gate.set()
        await driver.hear(2)

    assert [task.trigger_id for task, _ in driver.platform.said] == ["m1", "m2"]
