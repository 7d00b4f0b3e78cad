"""Holding a batch while its reply is made."""

from conversation_driver import WEB, Clock, message
from understudy.conversation.inbox import LEASE_S, Channel, Claim, Decision, InboxStore
from understudy.conversation.lease import Lease
from understudy.storage.in_memory_inbox import MemoryInbox
from understudy.storage.in_memory_tables import MemoryTables


async def leased(store: InboxStore, clock: Clock) -> Lease:
    await store.add(message("m1"), Decision(True, "dm", directed=True), clock.at)
    (free,) = (await store.work(Channel.of(WEB))).waiting
    until = clock.at + LEASE_S
    batch = await store.claim(Claim("b1", "r1", "n1", (free.seq,), True, until), clock.at)
    assert batch is not None
    return Lease(store, batch.id, until, clock)


async def test_while_plenty_is_left_the_batch_is_ours() -> None:
    clock, store = Clock(), MemoryInbox()
    lease = await leased(store, clock)

    clock.at += LEASE_S - 6
    assert await lease.is_held()
    assert (await store.work(Channel.of(WEB))).batches[0].lease_until < clock.at + 7


async def test_near_its_end_the_lease_is_renewed_before_anything_is_sent() -> None:
    clock, store = Clock(), MemoryInbox()
    lease = await leased(store, clock)

    clock.at += LEASE_S - 4
    assert await lease.is_held()
    assert (await store.work(Channel.of(WEB))).batches[0].lease_until == clock.at + LEASE_S


async def test_what_another_process_took_is_not_ours_to_answer() -> None:
    clock, tables = Clock(), MemoryTables()
    lease = await leased(MemoryInbox(tables, "one"), clock)

    clock.at += LEASE_S
    assert await MemoryInbox(tables, "two").reclaim("b1", clock.at + LEASE_S, clock.at)
    assert not await lease.is_held()
