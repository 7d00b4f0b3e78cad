"""The contract of InboxStore, over every implementation."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from conversation_driver import ANN, BOB, LOUNGE, WEB, message
from postgres_server import KINDS, database_location
from sample_records import answered, reply
from understudy.conversation.inbox import (
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    InboxStore,
    Line,
    MessageState,
    Postponement,
    RegenerateClaim,
    Sent,
    Thoughts,
    Watermark,
)
from understudy.conversation.messages import AttachedText, Author, ImageRef, Inbound
from understudy.conversation.speakers import quoting
from understudy.storage.database import Database
from understudy.storage.in_memory_inbox import MemoryInbox
from understudy.storage.in_memory_tables import MemoryTables
from understudy.storage.stores import make_inbox

ANSWER = Decision(answer=True, reason="mention", directed=True)
IGNORE = Decision(answer=False, reason="chance")
ME = Author("understudy", "Understudy", is_bot=True)
HERE = Channel.of(LOUNGE)
NOTES = AttachedText("notes.txt", "first line\nsecond line")

Stores = Callable[[str], InboxStore]


@pytest.fixture(params=["memory", *KINDS, "sqlite, ids only"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Stores]:
    """Stores of processes that share one database, by the process's name."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            tables = MemoryTables()
            yield lambda owner: MemoryInbox(tables, owner)
            return
        kind = request.param.removesuffix(", ids only")
        location = stack.enter_context(database_location(kind, tmp_path))
        databases = [await Database.open(location) for _ in range(2)]
        for database in databases:
            stack.push_async_callback(database.aclose)
        persist = request.param == kind
        opened: dict[str, InboxStore] = {}
        yield lambda owner: opened.setdefault(
            owner, make_inbox(databases.pop(), owner, persist=persist)
        )


@pytest.fixture
def store(stores: Stores) -> InboxStore:
    return stores("one")


def written(message_id: str, text: str = "hi", author: Author = ANN, **fields: object) -> Inbound:
    return message(message_id, text, author, LOUNGE, **fields)


def a_claim(*seqs: int, batch_id: str = "b1", until: float = 130.0) -> Claim:
    return Claim(batch_id, f"r-{batch_id}", f"n-{batch_id}", seqs, True, until)


async def claimed(store: InboxStore, *messages: Inbound, batch_id: str = "b1") -> Batch:
    for inbound in messages:
        assert await store.add(inbound, ANSWER, 100.0)
    work = await store.work(HERE)
    seqs = [m.seq for m in work.waiting if m.inbound in messages]
    batch = await store.claim(a_claim(*seqs, batch_id=batch_id), 100.0)
    assert batch is not None
    return batch


async def answer(store: InboxStore, batch: Batch, text: str, now: float = 101.0) -> None:
    record = reply(answered(request_id=batch.reply_id), request_id=batch.reply_id)
    said = Sent(text, (f"{batch.reply_id}-1", f"{batch.reply_id}-2"), ME)
    assert await store.settle(batch.id, BatchResult(BatchState.ANSWERED, said, record), now)


def texts(lines: tuple[Line, ...]) -> list[str]:
    return [line.text for line in lines]


async def test_a_message_is_stored_once(store: InboxStore) -> None:
    assert await store.add(written("m1"), ANSWER, 100.0)
    assert not await store.add(written("m1", "again"), ANSWER, 101.0)

    work = await store.work(HERE)
    assert [m.inbound.text for m in work.waiting] == ["hi"]


async def test_one_id_on_two_platforms_is_two_messages(store: InboxStore) -> None:
    assert await store.add(written("m1"), ANSWER, 100.0)
    assert await store.add(message("m1", place=WEB), ANSWER, 100.0)


async def test_of_two_processes_one_stores_a_message(stores: Stores) -> None:
    one, two = stores("one"), stores("two")

    ids = [f"m{i}" for i in range(20)]
    won = await asyncio.gather(
        *(store.add(written(i), ANSWER, 100.0) for i in ids for store in (one, two))
    )

    assert sum(won) == len(ids)


async def test_a_waiting_message_comes_back_as_it_was(store: InboxStore) -> None:
    image = ImageRef("d1", "image/jpeg", 640, 480, "cat.jpg")
    place = replace(LOUNGE, parent_id="p1", age_restricted=True)
    robot = replace(ANN, is_bot=True)
    inbound = message(
        "m1",
        "look",
        robot,
        place,
        images=(image,),
        files=(NOTES,),
        notes=("too big",),
        reply_to="m0",
    )
    await store.add(inbound, ANSWER, 100.0)

    (waiting,) = (await store.work(HERE)).waiting
    assert (waiting.inbound, waiting.arrived_at, waiting.directed) == (inbound, 100.0, True)


async def test_an_ignored_message_is_not_pending_but_is_in_the_history(store: InboxStore) -> None:
    await store.add(written("m1", "blah"), IGNORE, 100.0)

    assert (await store.work(HERE)).waiting == ()
    assert texts(await store.history(HERE, 99, 10)) == ["blah"]


async def test_a_claim_takes_exactly_its_messages(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"), written("m2"))
    await store.add(written("m3"), ANSWER, 101.0)

    work = await store.work(HERE)
    assert [m.inbound.message_id for m in batch.messages] == ["m1", "m2"]
    assert [m.inbound.message_id for m in work.waiting] == ["m3"]
    assert work.batches == (batch,)
    assert (batch.attempt, batch.state, batch.lease_until) == (1, BatchState.CLAIMED, 130.0)


async def test_claimed_messages_cannot_be_claimed_again(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    await store.add(written("m2"), ANSWER, 101.0)
    (free,) = (await store.work(HERE)).waiting

    both = a_claim(batch.messages[0].seq, free.seq, batch_id="b2")
    assert await store.claim(both, 101.0) is None
    assert [m.inbound.message_id for m in (await store.work(HERE)).waiting] == ["m2"]


async def test_of_two_processes_one_gets_the_claim(stores: Stores) -> None:
    one, two = stores("one"), stores("two")
    await one.add(written("m1"), ANSWER, 100.0)
    (free,) = (await one.work(HERE)).waiting

    won = await asyncio.gather(
        one.claim(a_claim(free.seq, batch_id="b1"), 100.0),
        two.claim(a_claim(free.seq, batch_id="b2"), 100.0),
    )

    assert sum(batch is not None for batch in won) == 1


async def test_a_lease_is_renewed_by_its_holder_alone(stores: Stores) -> None:
    one, two = stores("one"), stores("two")
    batch = await claimed(one, written("m1"))

    assert await one.renew(batch.id, 160.0)
    assert not await two.renew(batch.id, 500.0)
    assert (await one.work(HERE)).batches[0].lease_until == 160.0


async def test_a_batch_is_retaken_only_when_its_lease_has_run_out(stores: Stores) -> None:
    one, two = stores("one"), stores("two")
    batch = await claimed(one, written("m1"))

    assert await two.reclaim(batch.id, 160.0, now=129.0) is None
    taken = await two.reclaim(batch.id, 160.0, now=130.0)

    assert taken is not None
    assert (taken.attempt, taken.nonce, taken.lease_until) == (2, batch.nonce, 160.0)
    assert not await one.renew(batch.id, 500.0)
    assert not await one.settle(batch.id, BatchResult(BatchState.ANSWERED), 131.0)
    assert await two.reclaim("nothing", 160.0, now=130.0) is None


async def test_a_released_batch_can_be_retaken_at_once(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))

    await store.release(batch.id)

    taken = await store.reclaim(batch.id, 160.0, now=100.5)
    assert taken is not None
    assert taken.messages == batch.messages


async def test_a_settled_batch_is_no_work_and_cannot_be_taken_again(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    await answer(store, batch, "hello")

    assert (await store.work(HERE)).batches == ()
    assert await store.reclaim(batch.id, 200.0, now=199.0) is None
    assert not await store.settle(batch.id, BatchResult(BatchState.FAILED), 102.0)
    assert not await store.postpone(batch.id, Postponement(110.0))


async def test_a_reply_comes_right_after_the_message_it_answers(store: InboxStore) -> None:
    first = await claimed(store, written("m1", "first"))
    second = await claimed(store, written("m2", "second", BOB), batch_id="b2")
    await answer(store, second, "to the second")
    await answer(store, first, "to the first")
    await store.add(written("m3", "third"), IGNORE, 105.0)

    lines = await store.history(HERE, 99, 10)
    assert texts(lines) == ["first", "to the first", "second", "to the second", "third"]
    assert [line.role for line in lines[:2]] == ["user", "assistant"]
    assert (lines[1].message_id, lines[1].reply_id, lines[1].author) == ("r-b1-1", "r-b1", ME)
    until = second.messages[-1].seq
    assert texts(await store.history(HERE, until, 10)) == ["first", "to the first", "second"]
    assert texts(await store.history(HERE, until, 2)) == ["to the first", "second"]
    assert await store.history(HERE, until, 0) == ()


async def test_a_postponed_batch_is_due_at_its_retry_time(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    failure = reply(request_id="r-b1", winner=None)

    assert await store.postpone(batch.id, Postponement(150.0, ("off-1",), failure))
    (waiting,) = (await store.work(HERE)).batches
    assert (waiting.state, waiting.retry_at) == (BatchState.WAITING, 150.0)
    assert (await store.work(HERE)).waiting == ()
    assert await store.unfinished(149.0, 0.0) == ()
    assert await store.unfinished(150.0, 0.0) == (HERE,)
    assert await store.reclaim(batch.id, 180.0, now=149.0) is None
    taken = await store.reclaim(batch.id, 180.0, now=150.0)

    assert taken is not None
    assert (taken.attempt, taken.offline_message_ids) == (2, ("off-1",))


async def test_unfinished_work_of_a_crash_is_found(store: InboxStore) -> None:
    await claimed(store, written("m1"))
    await store.add(message("w1", place=WEB), ANSWER, 100.0)

    assert await store.unfinished(129.0, 100.0) == ()
    assert await store.unfinished(130.0, 100.0) == (HERE,)
    assert set(await store.unfinished(130.0, 100.5)) == {HERE, Channel.of(WEB)}


async def test_a_regenerated_reply_replaces_the_old_one(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    await answer(store, batch, "bad")

    again = await store.reopen("r-b1", RegenerateClaim("r2", "n2", 160.0))
    assert again is not None
    assert (again.reply_id, again.nonce, again.attempt) == ("r2", "n2", 1)
    assert again.replaces == ("r-b1-1", "r-b1-2")
    assert await store.reopen("r-b1", RegenerateClaim("r3", "n3", 160.0)) is None
    assert texts(await store.transcript(HERE, 10)) == ["hi", "bad"]
    await answer(store, again, "good")

    assert texts(await store.transcript(HERE, 10)) == ["hi", "good"]
    assert await store.parts("r-b1") == ()
    assert await store.reply_at("discord", "r-b1-1") is None
    assert await store.reopen("r-b1", RegenerateClaim("r3", "n3", 160.0)) is None
    assert await store.reopen("never", RegenerateClaim("r3", "n3", 160.0)) is None


async def test_a_reply_stopped_before_its_first_text_can_be_regenerated(
    store: InboxStore,
) -> None:
    batch = await claimed(store, written("m1"))
    await store.settle(batch.id, BatchResult(BatchState.IGNORED), 100.0)

    (line,) = await store.transcript(HERE, 10)
    assert (line.state, line.reply_id) == (MessageState.IGNORED, "r-b1")
    again = await store.reopen("r-b1", RegenerateClaim("r2", "n2", 160.0))
    assert again is not None
    assert again.replaces == ()
    await answer(store, again, "better late")

    assert texts(await store.transcript(HERE, 10)) == ["hi", "better late"]
    assert await store.reopen("r-b1", RegenerateClaim("r3", "n3", 160.0)) is None


async def test_a_message_that_gets_no_reply_has_no_reply_to_regenerate(store: InboxStore) -> None:
    await store.add(written("m1"), Decision(answer=False, reason="chance"), 100.0)

    (line,) = await store.transcript(HERE, 10)
    assert line.reply_id is None


async def test_replies_are_found_by_the_messages_that_carry_them(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "one")
    await answer(store, await claimed(store, written("m2"), batch_id="b2"), "two")

    assert await store.reply_at("discord", "r-b1-2") == "r-b1"
    assert await store.reply_at("web", "r-b1-2") is None
    assert await store.last_reply(HERE) == "r-b2"
    assert await store.last_reply(Channel.of(WEB)) is None
    assert await store.channel_of_reply("r-b1") == HERE
    assert await store.channel_of_reply("unknown") is None


async def test_all_messages_that_carry_a_reply_are_known(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    assert await store.parts("r-b1") == ()
    await answer(store, batch, "one")

    assert await store.parts("r-b1") == ("r-b1-1", "r-b1-2")


async def test_a_reply_is_erased_once_a_message_that_carries_it_is_deleted(
    store: InboxStore,
) -> None:
    await answer(store, await claimed(store, written("m1")), "regretted")
    quote = quoting("Understudy", "regretted")
    asked = written("m2", f"{quote}\noh?", reply_to="r-b1-2")
    await answer(store, await claimed(store, asked, batch_id="b2"), "two")

    assert await store.delete("web", "r-b1-1") is None
    assert await store.delete("discord", "r-b1-2") is None
    assert texts(await store.history(HERE, 99, 10)) == ["hi", "oh?", "two"]


async def test_each_channel_has_a_watermark_at_its_newest_message(store: InboxStore) -> None:
    await store.add(written("m1"), ANSWER, 100.0)
    await store.add(written("m2"), IGNORE, 102.0)
    await store.add(message("old", place=replace(LOUNGE, channel_id="quiet")), IGNORE, 90.0)
    await store.add(message("w1", place=WEB), ANSWER, 103.0)

    assert await store.watermarks("discord", 95.0) == (Watermark(LOUNGE, "m2"),)
    assert await store.watermarks("discord", 103.0) == ()


async def test_a_transcript_has_the_record_of_each_reply(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    await answer(store, batch, "hello")

    question, said = await store.transcript(HERE, 10)
    assert (question.state, question.record) == (MessageState.ANSWERED, None)
    assert said.record is not None
    assert said.record.attempts == (answered(request_id="r-b1"),)
    assert texts(await store.transcript(HERE, 1)) == ["hello"]
    assert texts(await store.transcript(HERE, 5, before_seq=said.seq)) == ["hi"]


async def test_an_edited_message_says_its_new_text(store: InboxStore) -> None:
    await store.add(written("m0"), ANSWER, 99.0)
    assert await store.edit(written("m0", "hi there")) is None
    batch = await claimed(store, written("m1", "1+1"))

    assert await store.edit(written("m1", "2+2", notes=("a list",))) == batch.id
    assert await store.edit(written("unknown", "what")) is None
    assert texts(await store.history(HERE, 99, 10)) == ["hi there", "2+2"]
    ((kept,),) = [b.messages for b in (await store.work(HERE)).batches]
    assert kept.inbound.notes == ("a list",)
    await answer(store, batch, "4")
    assert await store.edit(written("m1", "3+3")) is None


async def test_an_image_removed_from_a_message_is_erased(store: InboxStore) -> None:
    cat, dog = (ImageRef(d, "image/png", 1, 1, f"{d}.png") for d in ("cat", "dog"))
    await store.add(written("m1", "look", images=(cat,)), ANSWER, 99.0)

    await store.edit(written("m1", "look here", images=(dog,)))
    assert [line.images for line in await store.history(HERE, 99, 10)] == [(dog,)]
    await store.edit(written("m1", "nothing"))
    assert [line.images for line in await store.history(HERE, 99, 10)] == [()]


async def test_the_text_of_a_file_is_in_the_history_until_it_is_erased(store: InboxStore) -> None:
    await store.add(written("m1", "", files=(NOTES,)), ANSWER, 99.0)
    assert [line.files for line in await store.history(HERE, 99, 10)] == [(NOTES,)]

    await store.edit(written("m1", "without it"))

    assert [line.files for line in await store.history(HERE, 99, 10)] == [()]


async def test_a_deleted_message_is_neither_answered_nor_in_the_history(store: InboxStore) -> None:
    await store.add(written("m0"), ANSWER, 99.0)
    batch = await claimed(store, written("m1"), written("m2"))

    assert await store.delete("discord", "m0") is None
    assert await store.delete("discord", "m1") == batch.id
    assert await store.delete("discord", "unknown") is None
    assert (await store.work(HERE)).waiting == ()
    (left,) = (await store.work(HERE)).batches
    assert [m.inbound.message_id for m in left.messages] == ["m2"]
    assert not await store.add(written("m0"), ANSWER, 100.0)
    await store.edit(written("m1", "back again"))
    assert texts(await store.history(HERE, 99, 10)) == ["hi"]


async def _quoting(store: InboxStore) -> None:
    """Bob answers Ann with a quotation, and writes the same words himself."""
    await store.add(written("m1", "my secret"), IGNORE, 99.0)
    await store.add(written("m2", "mine"), IGNORE, 99.5)
    quotes = {"reply_to": "m1"}
    lines = quoting("Ann", 'my secret\n["of", "two lines"]\n```x```')
    await store.add(written("m3", f"{lines}\nwhy?", BOB, **quotes), IGNORE, 100)
    await store.add(written("m4", quoting("Ann", "my secret"), BOB), IGNORE, 101.0)
    await store.add(written("m5", f"{quoting('Ann', 'my secret')}\n", BOB, **quotes), IGNORE, 102.0)


async def test_deleting_a_message_erases_quotations_of_it(store: InboxStore) -> None:
    await _quoting(store)

    await store.delete("discord", "m1")

    own = quoting("Ann", "my secret")
    assert texts(await store.history(HERE, 99, 10)) == ["mine", "why?", own]


async def test_forgetting_a_person_erases_quotations_of_them(store: InboxStore) -> None:
    await _quoting(store)

    assert await store.forget_author("discord", ANN.id) == 2

    own = quoting("Ann", "my secret")
    assert texts(await store.history(HERE, 99, 10)) == ["why?", own]


async def test_the_people_who_addressed_the_bot_in_public_are_listed(store: InboxStore) -> None:
    await store.add(written("m1"), IGNORE, 99.0)
    await store.add(written("m2", author=BOB), IGNORE, 100.0)
    await store.add(written("m3"), IGNORE, 101.0)
    carl = Author("carl", "Carl")
    await store.add(written("m4", author=carl, addressed=None), IGNORE, 102.0)
    eve, robot = Author("eve", "Eve"), Author("robot", "Robot", is_bot=True)
    private = replace(LOUNGE, channel_id="dm", private=True)
    await store.add(message("m5", place=private, author=eve), IGNORE, 103.0)
    await store.add(written("m6", author=robot), IGNORE, 104.0)

    assert await store.recent_people("discord", 0.0, 10) == (ANN.id, BOB.id)
    assert await store.recent_people("discord", 0.0, 1) == (ANN.id,)
    assert await store.recent_people("discord", 100.5, 10) == (ANN.id,)
    assert await store.recent_people("web", 0.0, 10) == ()


async def test_a_channel_is_known_from_its_first_message_on(store: InboxStore) -> None:
    before = await store.knows(HERE)
    await store.add(written("m1"), IGNORE, 99.0)
    await store.reset(HERE)

    assert not before
    assert await store.knows(HERE)
    assert not await store.knows(Channel("discord", "elsewhere"))


async def test_after_a_reset_the_past_is_no_longer_in_the_history(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1", "old")), "so old")
    await store.reset(HERE)
    await store.add(written("m2", "new"), ANSWER, 102.0)

    assert texts(await store.history(HERE, 99, 10)) == ["new"]
    assert texts(await store.transcript(HERE, 10)) == ["old", "so old", "new"]


async def test_a_person_can_be_forgotten_with_the_replies_to_them(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1", "I am Ann")), "Hi Ann")
    bobs = await claimed(store, written("m2", "I am Bob", BOB), batch_id="b2")
    await answer(store, bobs, "Hi Bob")
    await store.add(written("m3", "still me"), ANSWER, 103.0)

    assert await store.forget_author("discord", ANN.id) == 2
    assert await store.forget_author("discord", ANN.id) == 0
    assert texts(await store.transcript(HERE, 10)) == ["I am Bob", "Hi Bob"]
    assert (await store.work(HERE)).waiting == ()


async def test_a_deleted_conversation_keeps_its_message_ids(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "hello")

    await store.delete_channel(HERE)

    assert await store.transcript(HERE, 10) == ()
    assert not await store.add(written("m1"), ANSWER, 104.0)


async def test_a_conversation_deleted_meanwhile_stays_empty(store: InboxStore) -> None:
    batch = await claimed(store, written("m1"))
    await store.delete_channel(HERE)

    await answer(store, batch, "hello")

    assert await store.transcript(HERE, 10) == ()
    assert await store.reply_at("discord", "r-b1-1") == "r-b1"


async def test_the_conversations_of_one_browser_are_listed_newest_first(store: InboxStore) -> None:
    for at, (channel_id, text) in enumerate(
        [("c1", "About cats " + "x" * 80), ("c2", "About dogs"), ("c1", "more on cats")]
    ):
        place = replace(WEB, channel_id=channel_id, parent_id="browser")
        await store.add(message(f"m{at}", text, place=place), ANSWER, 100.0 + at)
    await store.add(message("m9", place=replace(WEB, parent_id="other")), ANSWER, 100.0)

    found = await store.overviews("web", "browser")
    assert [(o.channel.id, o.title[:10], o.last_at) for o in found] == [
        ("c1", "About cats", 102.0),
        ("c2", "About dogs", 101.0),
    ]
    assert len(found[0].title) == 60
    await store.delete_channel(Channel("web", "c1"))
    assert [o.channel.id for o in await store.overviews("web", "browser")] == ["c2"]


async def test_old_messages_are_pruned_and_open_ones_are_not(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1", "old")), "so old")
    await store.add(written("m2", "open"), ANSWER, 100.0)
    await store.add(written("m3", "new"), IGNORE, 5000.0)

    await store.prune(1000.0)

    assert texts(await store.transcript(HERE, 10)) == ["open", "new"]
    assert await store.reply_at("discord", "r-b1-1") is None
    assert [m.inbound.message_id for m in (await store.work(HERE)).waiting] == ["m2"]
    assert await store.add(written("m4"), ANSWER, 5001.0)


async def answer_again(
    store: InboxStore, reply_id: str, text: str, new_id: str = "r-b1+", **fields: bool
) -> Batch:
    """Regenerate a reply and keep the earlier version."""
    claim = RegenerateClaim(new_id, f"n-{new_id}", 200.0, **fields)
    batch = await store.reopen(reply_id, claim)
    assert batch is not None
    said = Sent(text, (new_id,), ME, Thoughts("Hm.", 1.5), keeps_versions=True)
    assert await store.settle(batch.id, BatchResult(BatchState.ANSWERED, said), 103.0)
    return batch


async def test_versions_of_a_reply_are_kept_and_the_newest_is_shown(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")

    lines = await store.transcript(HERE, 10)
    assert texts(lines) == ["hi", "second"]
    assert lines[1].versions == ("r-b1", "r-b1+")
    assert await store.last_reply(HERE) == "r-b1+"
    assert lines[0].versions == ()


async def test_the_chosen_version_is_shown_and_goes_into_prompts(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")
    await store.add(written("m2"), ANSWER, 104.0)
    newest = (await store.work(HERE)).waiting[-1].seq

    assert await store.choose_version(HERE, "r-b1")

    assert texts(await store.transcript(HERE, 10)) == ["hi", "first", "hi"]
    assert texts(await store.history(HERE, newest, 10)) == ["hi", "first", "hi"]
    assert await store.last_reply(HERE) == "r-b1"
    assert not await store.choose_version(HERE, "unknown")
    assert not await store.choose_version(Channel("web", "c9"), "r-b1")


async def test_no_version_is_chosen_while_another_one_is_generated(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")
    assert await store.reopen("r-b1+", RegenerateClaim("r3", "n3", 200.0))

    assert not await store.choose_version(HERE, "r-b1")


async def test_a_version_that_was_chosen_can_be_regenerated(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")
    await store.choose_version(HERE, "r-b1")

    batch = await answer_again(store, "r-b1", "third", "r-b1++", continues=True)

    assert batch.continues
    assert (await store.transcript(HERE, 10))[1].text == "third"


async def test_deleting_a_reply_deletes_all_its_versions(store: InboxStore) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")

    await store.delete("discord", "r-b1+")

    await store.choose_version(HERE, "r-b1")
    assert texts(await store.transcript(HERE, 10)) == ["hi"]
    assert await store.reply_line("r-b1") is None


async def test_the_reasoning_is_stored_with_the_reply_and_erased_with_it(
    store: InboxStore,
) -> None:
    await answer(store, await claimed(store, written("m1")), "first")
    await answer_again(store, "r-b1", "second")

    line = await store.reply_line("r-b1+")
    assert line is not None
    assert line.thoughts == Thoughts("Hm.", 1.5)
    await store.delete_channel(HERE)
    assert await store.reply_line("r-b1+") is None


async def test_a_given_title_replaces_the_beginning_of_the_first_message(
    store: InboxStore,
) -> None:
    place = replace(WEB, channel_id="c1", parent_id="browser")
    channel = Channel.of(place)
    await store.add(message("m1", "Once upon", place=place), ANSWER, 100.0)

    assert await store.set_title(channel, "A tale", replace=False)
    assert not await store.set_title(channel, "Another", replace=False)
    assert [o.title for o in await store.overviews("web", "browser")] == ["A tale"]
    assert await store.set_title(channel, "Mine", replace=True)
    assert await store.title(channel) == "Mine"
    await store.delete_channel(channel)
    assert await store.title(channel) is None


PAST = (
    Line(0, 0, "assistant", "", ME, "Welcome!", 50.0, reply_id="p0"),
    Line(0, 0, "user", "p1", ANN, "Hello", 60.0),
    Line(0, 0, "assistant", "", ME, "Hi Ann", 61.0, reply_id="p2"),
    Line(0, 0, "user", "p3", ANN, "Bye", 62.0),
)


async def test_a_past_is_added_to_an_empty_conversation_only(store: InboxStore) -> None:
    place = replace(WEB, channel_id="c1", parent_id="browser")

    assert await store.add_past(place, PAST, 100.0)
    assert not await store.add_past(place, PAST, 100.0)

    lines = await store.transcript(Channel.of(place), 10)
    assert texts(lines) == ["Welcome!", "Hello", "Hi Ann", "Bye"]
    assert [o.title for o in await store.overviews("web", "browser")] == ["Hello"]
    assert (await store.work(Channel.of(place))).waiting == ()


async def test_a_reply_of_an_added_past_can_be_regenerated(store: InboxStore) -> None:
    place = replace(WEB, channel_id="c1", parent_id="browser")
    await store.add_past(place, PAST, 100.0)

    assert await store.reopen("p0", RegenerateClaim("r1", "n1", 200.0)) is None
    batch = await answer_again(store, "p2", "Hi again")

    assert [m.inbound.text for m in batch.messages] == ["Hello"]
    assert batch.replaces == ("p2",)
    lines = await store.transcript(Channel.of(place), 10)
    assert texts(lines) == ["Welcome!", "Hello", "Hi again", "Bye"]
