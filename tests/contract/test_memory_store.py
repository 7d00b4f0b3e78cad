"""The contract of MemoryStore, and what the inbox and opt-outs remove from it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from conversation_driver import ANN, BOB, LOUNGE, WEB, message
from postgres_server import KINDS, database_location
from sample_records import answered, reply
from understudy.conversation.inbox import (
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    RegenerateClaim,
    Sent,
)
from understudy.conversation.messages import Author, Place
from understudy.conversation.speakers import quoting
from understudy.memory.store import (
    COMMON,
    MAX_NOTES_CHARS,
    Family,
    MemoryStore,
    NoteScope,
    Proposal,
    Source,
    Summary,
    SummaryClaim,
    Wanted,
)
from understudy.storage.database import Database
from understudy.storage.inbox import SqlInbox
from understudy.storage.memory import SqlMemory
from understudy.storage.preferences import SqlPreferences
from understudy.storage.stores import make_inbox

HERE = Channel.of(LOUNGE)
STORED = Decision(answer=False, reason="chance")
ANSWER = Decision(answer=True, reason="mention", directed=True)
ME = Author("understudy", "Understudy", is_bot=True)
ANNS = NoteScope("discord", "g1", ANN.id)


@dataclass
class Opened:
    inbox: SqlInbox
    memory: MemoryStore
    other: MemoryStore
    """Of another process."""
    preferences: SqlPreferences

    async def say(
        self, number: int, text: str, author: Author = ANN, place: Place = LOUNGE, **fields: object
    ) -> None:
        inbound = message(f"m{number}", text, author, place, **fields)
        assert await self.inbox.add(inbound, STORED, 100.0 + number)

    async def summarized(self, *texts: str, author: Author = ANN) -> SummaryClaim:
        """Store lines and a summary of them."""
        for number, text in enumerate(texts, 1):
            await self.say(number, text, author)
        claim = await self.claim()
        lines = await self.memory.lines_to_summarize(claim, 99, 50)
        made = Summary("They met.", lines[0].position, lines[-1].position, 0, 150.0)
        assert await self.memory.save_summary(claim, made, [author.id])
        return claim

    async def claim(self) -> SummaryClaim:
        claim = await self.memory.claim_summary(HERE, 100.0, 30.0)
        assert claim is not None
        return claim

    async def found(self, query: str) -> list[str]:
        return [hit.line.text for hit in await self.memory.search(HERE, query, 10)]

    async def answer(self, number: int, text: str, replaces: str = "") -> None:
        """Reply to one stored message, or replace the reply of that id."""
        if replaces:
            again = RegenerateClaim("r-again", "n", 9e9)
            batch = await self.inbox.reopen(replaces, again)
        else:
            work = await self.inbox.work(HERE)
            seqs = tuple(m.seq for m in work.waiting)
            claim = Claim(f"b{number}", f"r{number}", "n", seqs, True, 9e9)
            batch = await self.inbox.claim(claim, 100.0)
        assert batch is not None
        record = reply(answered(request_id=batch.reply_id), request_id=batch.reply_id)
        sent = Sent(text, (f"{batch.reply_id}-1",), ME)
        result = BatchResult(BatchState.ANSWERED, sent, record)
        assert await self.inbox.settle(batch.id, result, 101.0)


@pytest.fixture(params=KINDS)
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Opened]:
    async with AsyncExitStack() as stack:
        location = stack.enter_context(database_location(request.param, tmp_path))
        database = await Database.open(location)
        stack.push_async_callback(database.aclose)
        yield Opened(
            make_inbox(database, "one", persist=True),
            SqlMemory(database, "one"),
            SqlMemory(database, "two"),
            SqlPreferences(database),
        )


Change = Callable[[Opened], Awaitable[object]]


async def _edit(opened: Opened) -> None:
    await opened.inbox.edit(message("m1", "something else", ANN, LOUNGE))


async def _reset(opened: Opened) -> None:
    await opened.inbox.reset(HERE)


CHANGES: dict[str, Change] = {
    "edit": _edit,
    "delete": lambda opened: opened.inbox.delete("discord", "m1"),
    "forget": lambda opened: opened.inbox.forget_author("discord", ANN.id),
    "opt out": lambda opened: opened.preferences.set_opt_out("discord", ANN.id, out=True),
    "delete conversation": lambda opened: opened.inbox.delete_channel(HERE),
    "reset": _reset,
    "forget summary": lambda opened: opened.memory.forget_summary(HERE),
}
change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


async def test_a_conversation_has_no_summary_at_first(opened: Opened) -> None:
    assert await opened.memory.summary(HERE) == Summary()
    assert not await opened.memory.forget_summary(HERE)


async def test_a_summary_grows_from_where_it_ended(opened: Opened) -> None:
    await opened.summarized("one", "two")
    await opened.say(3, "three")
    claim = await opened.claim()
    lines = await opened.memory.lines_to_summarize(claim, 99, 50)
    first = await opened.memory.summary(HERE)

    assert (first.text, first.first, first.through, first.made_at) == ("They met.", 1, 2, 150.0)
    assert claim.summary == first
    assert [line.text for line in lines] == ["three"]


async def test_lines_to_summarize_end_before_the_recent_ones(opened: Opened) -> None:
    for number in range(1, 6):
        await opened.say(number, f"line {number}")
    claim = await opened.claim()

    lines = await opened.memory.lines_to_summarize(claim, 3, 50)
    few = await opened.memory.lines_to_summarize(claim, 3, 2)

    assert [line.text for line in lines] == ["line 1", "line 2", "line 3"]
    assert [line.text for line in few] == ["line 1", "line 2"]


async def test_one_process_of_two_writes_a_summary(opened: Opened) -> None:
    claim = await opened.claim()
    meanwhile = await opened.other.claim_summary(HERE, 110.0, 30.0)
    await opened.memory.release_summary(claim)
    released = await opened.other.claim_summary(HERE, 110.0, 30.0)
    after_the_lease = await opened.memory.claim_summary(HERE, 141.0, 30.0)

    assert meanwhile is None
    assert released is not None
    assert after_the_lease is not None


async def test_a_summary_of_a_lost_claim_is_not_stored(opened: Opened) -> None:
    claim = await opened.claim()
    assert await opened.other.claim_summary(HERE, 131.0, 30.0) is not None

    assert not await opened.memory.save_summary(claim, Summary("old", 1, 1), [ANN.id])
    assert await opened.memory.summary(HERE) == Summary()


@change
async def test_a_change_of_a_covered_line_drops_the_summary(opened: Opened, change: Change) -> None:
    await opened.summarized("one", "two")

    await change(opened)

    assert await opened.memory.summary(HERE) == Summary()


@change
async def test_a_change_of_a_line_that_is_being_summarized_drops_the_result(
    opened: Opened, change: Change
) -> None:
    await opened.say(1, "one")
    claim = await opened.claim()
    await opened.memory.lines_to_summarize(claim, 99, 50)

    await change(opened)

    assert not await opened.memory.save_summary(claim, Summary("They met.", 1, 1), [ANN.id])
    assert (await opened.memory.summary(HERE)).text == ""


async def test_changes_of_newer_lines_leave_the_summary(opened: Opened) -> None:
    await opened.summarized("one", "two")
    await opened.say(3, "three")

    await opened.inbox.edit(message("m3", "changed", ANN, LOUNGE))
    await opened.inbox.edit(message("m1", "one", ANN, LOUNGE))
    await opened.inbox.delete("discord", "m3")
    await opened.inbox.forget_author("discord", BOB.id)

    assert (await opened.memory.summary(HERE)).text == "They met."


async def test_forgetting_drops_summaries_of_lines_that_are_no_longer_stored(
    opened: Opened,
) -> None:
    await opened.summarized("one", "two")
    await opened.say(3, "three", BOB)
    await opened.inbox.prune(103.0)
    assert (await opened.memory.summary(HERE)).text == "They met."

    await opened.inbox.forget_author("discord", ANN.id)

    assert (await opened.memory.summary(HERE)).text == ""


async def test_a_summary_of_an_ended_conversation_is_pruned(opened: Opened) -> None:
    await opened.summarized("one", "two")

    await opened.inbox.prune(151.0)

    assert (await opened.memory.summary(HERE)).text == ""


async def test_a_regenerated_reply_that_is_covered_drops_the_summary(opened: Opened) -> None:
    assert await opened.inbox.add(message("m1", "hi", ANN, LOUNGE), ANSWER, 100.0)
    await opened.answer(1, "wrong")
    claim = await opened.claim()
    lines = await opened.memory.lines_to_summarize(claim, 99, 50)
    assert [line.text for line in lines] == ["hi", "wrong"]
    assert await opened.memory.save_summary(claim, Summary("Wrong.", 1, 1), [ANN.id])

    await opened.answer(1, "right", replaces="r1")

    assert (await opened.memory.summary(HERE)).text == ""
    assert await opened.found("wrong") == []
    assert await opened.found("right") == ["right"]


async def test_opted_out_people_and_replies_to_them_are_not_summarized(opened: Opened) -> None:
    assert await opened.inbox.add(message("m1", "secret", ANN, LOUNGE), ANSWER, 100.0)
    await opened.answer(1, "your secret is safe")
    await opened.say(2, "hello", BOB)
    await opened.preferences.set_opt_out("discord", ANN.id, out=True)

    lines = await opened.memory.lines_to_summarize(await opened.claim(), 99, 50)

    assert [line.text for line in lines] == ["hello"]


async def test_quotations_are_not_summarized(opened: Opened) -> None:
    await opened.say(1, f"{quoting('Ann', 'secret')}\nIndeed.", BOB)

    lines = await opened.memory.lines_to_summarize(await opened.claim(), 99, 50)

    assert [line.text for line in lines] == ["Indeed."]


async def test_lines_before_a_reset_are_not_summarized(opened: Opened) -> None:
    await opened.say(1, "before")
    await opened.inbox.reset(HERE)
    await opened.say(2, "after")

    lines = await opened.memory.lines_to_summarize(await opened.claim(), 99, 50)

    assert [line.text for line in lines] == ["after"]


async def test_notes_are_numbered_and_kept_apart_by_person_and_server(opened: Opened) -> None:
    elsewhere = NoteScope("discord", "g2", ANN.id)
    private = NoteScope("discord", "", ANN.id)
    for scope, text in ((ANNS, "tea"), (ANNS, "cats"), (elsewhere, "here"), (private, "alone")):
        assert await opened.memory.add_note(scope, text, 100.0) is not None
    assert await opened.memory.delete_note(ANNS, 1)
    assert not await opened.memory.delete_note(ANNS, 1)
    bobs = NoteScope("discord", "g1", BOB.id)

    found = await opened.memory.notes([ANNS, bobs])
    others = await opened.memory.notes([elsewhere, private])

    assert [(note.number, note.text) for note in found[ANNS]] == [(2, "cats")]
    assert bobs not in found
    assert [others[scope][0].text for scope in (elsewhere, private)] == ["here", "alone"]
    assert await opened.memory.notes([]) == {}


async def test_notes_have_a_limit_per_scope(opened: Opened) -> None:
    elsewhere = NoteScope("discord", "g2", ANN.id)

    assert await opened.memory.add_note(ANNS, "x" * 1000, 100.0) is not None
    assert await opened.memory.add_note(ANNS, "y" * 501, 100.0) is None
    assert await opened.memory.add_note(elsewhere, "y" * 501, 100.0) is not None
    assert await opened.memory.add_note(ANNS, "z" * 500, 100.0) is not None


async def test_forgetting_a_person_deletes_their_notes_everywhere(opened: Opened) -> None:
    private, bobs = NoteScope("discord", "", ANN.id), NoteScope("discord", "g1", BOB.id)
    for scope in (ANNS, private, bobs):
        await opened.memory.add_note(scope, "tea", 100.0)

    await opened.inbox.forget_author("discord", ANN.id)

    assert list(await opened.memory.notes([ANNS, private, bobs])) == [bobs]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("My cat is called Whiskers.", "whiskers cat"),
        ("My cat is called Whiskers.", "whisk"),
        ("我家的猫叫小爱同学", "小爱"),
        ("우리 집 고양이가 자요", "고양이"),
        ("הכלב שלי ישן", "כלב"),
        ("شربت القهوة صباحا", "قهوة"),
        ("แมวของฉันชื่อมะลิ", "มะลิ"),
        ("ねこが好きです", "ねこ"),
        ("Die Straße ist lang", "STRASSE"),
        ("party 🎉 tonight", "🎉"),
    ],
)
async def test_search_finds_words_of_every_script(opened: Opened, text: str, query: str) -> None:
    await opened.say(1, "something else entirely")
    await opened.say(2, text)

    assert await opened.found(query) == [text]


async def test_search_wants_all_words_and_returns_the_newest_first(opened: Opened) -> None:
    await opened.say(1, "red apple")
    await opened.say(2, "green apple")
    await opened.say(3, "red and green apple")

    assert await opened.found("green apple") == ["red and green apple", "green apple"]
    assert await opened.found("blue apple") == []
    assert await opened.found("  ") == []
    assert await opened.found("\"' & ) OR * :*") == []


async def test_search_stays_in_its_channel_or_in_the_conversations_of_one_browser(
    opened: Opened,
) -> None:
    mine = [Place("web", f"me/{i}", parent_id="me", private=True) for i in (1, 2)]
    await opened.say(1, "apple", place=mine[0])
    await opened.say(2, "apple", place=mine[1])
    await opened.say(3, "apple", place=WEB)
    await opened.say(4, "apple", place=Place("web", "you/1", parent_id="you", private=True))

    of_channel = await opened.memory.search(Channel.of(mine[0]), "apple", 10)
    of_browser = await opened.memory.search(Family("web", "me"), "apple", 10)

    assert [hit.channel for hit in of_channel] == [Channel.of(mine[0])]
    assert [hit.channel.id for hit in of_browser] == ["me/2", "me/1"]


async def test_the_newest_lines_of_each_word_are_found(opened: Opened) -> None:
    for number in range(1, 6):
        await opened.say(number, f"apple {number}")

    words = ("apple", "pear", "3")
    wanted = Wanted(HERE, words=words, until=4, choose=lambda found: found[0].seqs[1:])
    read = await opened.memory.recollect(wanted)

    apple, nothing, third = read.found
    assert [line.text for line in read.lines] == ["apple 3", "apple 2", "apple 1"]
    assert (len(apple.seqs), nothing.seqs) == (4, ())
    assert third.seqs == apple.seqs[1:2]


async def test_of_a_common_word_only_the_newest_lines_are_found(opened: Opened) -> None:
    for number in range(COMMON + 3):
        await opened.say(number, "apple")

    (apple,) = (await opened.memory.recollect(Wanted(HERE, words=("apple",), until=99))).found

    assert len(apple.seqs) == COMMON
    assert list(apple.seqs) == sorted(apple.seqs, reverse=True)
    assert apple.seqs[0] == COMMON + 3


async def test_lines_before_a_reset_and_of_opted_out_people_are_left_out(opened: Opened) -> None:
    await opened.say(1, "before")
    await opened.inbox.reset(HERE)
    await opened.say(2, "secret")
    await opened.say(3, "after", BOB)
    await opened.preferences.set_opt_out("discord", ANN.id, out=True)

    read = await opened.memory.recollect(Wanted(HERE, choose=lambda _: [1, 2, 3]))

    assert [line.text for line in read.lines] == ["after"]


async def test_summary_and_notes_are_read_together(opened: Opened) -> None:
    await opened.summarized("one", "two")
    note = await opened.memory.add_note(ANNS, "tea", 100.0)

    read = await opened.memory.recollect(Wanted(HERE, (ANNS,)))

    assert read.summary == await opened.memory.summary(HERE)
    assert read.notes == {ANNS: (note,)}
    assert read.found == ()


@pytest.mark.parametrize(
    "change",
    [CHANGES[name] for name in ("edit", "delete", "forget", "opt out", "delete conversation")],
)
async def test_changed_text_is_not_found(opened: Opened, change: Change) -> None:
    await opened.say(1, "apple pie")

    await change(opened)

    assert await opened.found("pie") == []
    (found,) = (await opened.memory.recollect(Wanted(HERE, words=("pie",), until=99))).found
    assert found.seqs == ()


async def test_quotations_of_others_are_not_found(opened: Opened) -> None:
    await opened.say(1, "apple pie")
    await opened.say(2, f"{quoting('Ann', 'apple pie')}\nYum!", BOB, reply_to="m1")

    assert await opened.found("pie") == ["apple pie"]
    assert await opened.found("yum") == ["Yum!"]


async def test_pruned_lines_are_not_found(opened: Opened) -> None:
    await opened.say(1, "apple")
    await opened.say(2, "apple again")

    await opened.inbox.prune(102.0)

    assert await opened.found("apple") == ["apple again"]


def proposed(text: str = "I like tea", proposal_id: str = "p1", made_at: float = 200.0) -> Proposal:
    return Proposal(proposal_id, ANNS, text, made_at, made_at + 100.0)


async def propose(opened: Opened, proposal: Proposal | None = None) -> bool:
    """Propose a note about Ann, made of her second message."""
    await opened.say(1, "hello")
    await opened.say(2, "I like tea")
    return await opened.memory.add_proposal(proposal or proposed(), [Source(2, "I like tea")])


async def test_a_proposal_is_taken_once_and_by_its_person_alone(opened: Opened) -> None:
    assert await propose(opened)

    by_bob = await opened.memory.take_proposal("discord", BOB.id, "p1", 201.0)
    other = await opened.memory.take_proposal("discord", ANN.id, "p2", 201.0)
    waiting = await opened.other.proposal(ANNS, 201.0)
    taken = await opened.memory.take_proposal("discord", ANN.id, "p1", 201.0)
    again = await opened.memory.take_proposal("discord", ANN.id, "p1", 201.0)

    assert (by_bob, other, again) == (None, None, None)
    assert waiting == taken == proposed()
    assert await opened.memory.notes([ANNS]) == {}


async def test_a_later_proposal_replaces_an_earlier_one_of_its_scope(opened: Opened) -> None:
    await propose(opened)
    later = proposed("I like coffee", "p2")
    assert await opened.memory.add_proposal(later, [Source(2, "I like tea")])

    assert await opened.memory.take_proposal("discord", ANN.id, "p1", 201.0) is None
    assert await opened.memory.proposal(ANNS, 201.0) == later


async def test_a_proposal_expires(opened: Opened) -> None:
    await propose(opened)
    late = await opened.memory.proposal(ANNS, 300.0)
    taken = await opened.memory.take_proposal("discord", ANN.id, "p1", 300.0)
    gone = await opened.memory.proposal(ANNS, 201.0)
    await opened.memory.add_proposal(proposed(), [Source(2, "I like tea")])
    await opened.memory.drop_expired_proposals(300.0)

    assert (late, taken, gone) == (None, None, None)
    assert await opened.memory.proposal(ANNS, 201.0) is None


PROPOSAL_CHANGES: dict[str, Change] = {
    "edit": lambda opened: opened.inbox.edit(message("m2", "I like coffee", ANN, LOUNGE)),
    "delete": lambda opened: opened.inbox.delete("discord", "m2"),
    "forget": CHANGES["forget"],
    "opt out": CHANGES["opt out"],
    "delete conversation": CHANGES["delete conversation"],
}


@pytest.mark.parametrize("change", PROPOSAL_CHANGES.values(), ids=PROPOSAL_CHANGES)
async def test_a_proposal_goes_with_the_message_that_it_is_made_of(
    opened: Opened, change: Change
) -> None:
    await propose(opened)
    await opened.inbox.delete("discord", "m1")
    await opened.say(3, "mine", BOB)
    await opened.inbox.delete("discord", "m3")
    assert await opened.memory.proposal(ANNS, 201.0) == proposed()

    await change(opened)

    assert await opened.memory.proposal(ANNS, 201.0) is None
    assert not await opened.memory.add_proposal(proposed(), [Source(2, "I like tea")])


async def test_a_proposal_that_the_notes_have_no_room_for_is_not_stored(opened: Opened) -> None:
    await opened.memory.add_note(ANNS, "x" * (MAX_NOTES_CHARS - 5), 1.0)

    assert not await propose(opened)
    assert await opened.memory.proposal(ANNS, 201.0) is None
