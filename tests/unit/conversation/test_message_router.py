"""The conversation room from a message to its reply, with everything in memory."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from conversation_driver import (
    ANN,
    BOB,
    LOUNGE,
    WEB,
    Clock,
    ConversationDriver,
    message,
    offline_record,
    settings,
)
from understudy.config.settings import Conversation, Participation
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.lore.formats import parse_book
from understudy.conversation.lore.scan import IndexedBook
from understudy.conversation.messages import Addressed
from understudy.conversation.personas.registry import Library, Persona, Personas
from understudy.errors import Undeliverable
from understudy.routing.records import OfflineReason, Origin
from waiting import LIMIT_S

EAGER = Participation(channels=("lounge",), chance=1.0, cooldown_seconds=0)


async def test_a_message_gets_its_reply() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["Good evening."]
        await driver.router.receive(message("m1"))
        await driver.hear(1)

    task, reply = driver.platform.said[0]
    assert (task.trigger_id, reply.text) == ("m1", "Good evening.")
    assert driver.platform.screens[0].closed


async def test_the_same_message_twice_is_answered_once() -> None:
    async with ConversationDriver() as driver:
        await driver.router.receive(message("m1"))
        assert await driver.router.receive(message("m1")) is None
        await driver.hear(1)
        await driver.router.receive(message("m2"))
        await driver.hear(2)

    assert [task.trigger_id for task, _ in driver.platform.said] == ["m1", "m2"]


async def test_a_reply_is_part_of_the_next_prompt() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["I am Understudy.", "As I said."]
        await driver.router.receive(message("m1", "who are you?"))
        await driver.hear(1)
        await driver.router.receive(message("m2", "who?"))
        await driver.hear(2)

    roles = [(m.role, m.parts[0].text) for m in driver.models.prompts[1].request.messages[1:]]  # type: ignore[union-attr]
    assert roles == [
        ("user", "who are you?"),
        ("assistant", "I am Understudy."),
        ("user", "who?"),
    ]


async def test_a_burst_of_one_author_is_answered_at_its_last_message() -> None:
    async with ConversationDriver() as driver:
        await driver.router.receive(message("m1", "hey", place=LOUNGE))
        await driver.router.receive(message("m2", "how are you", place=LOUNGE, addressed=None))
        await driver.hear(1)

    (task, _), *more = driver.platform.said
    assert (task.message_ids, task.trigger_id, more) == (("m1", "m2"), "m2", [])


async def test_two_authors_are_answered_at_the_same_time_without_seeing_later_lines() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1", "first", place=LOUNGE))
        await driver.router.receive(message("m2", "second", BOB, LOUNGE))
        await driver.models.speaking.wait()
        driver.models.gate.set()
        await driver.hear(2)

    first = driver.models.prompts[0].request.messages[-1].parts[0]
    assert "second" not in str(first)
    assert {task.author.id for task, _ in driver.platform.said} == {"1", "2"}


async def test_a_message_that_comes_while_the_reply_is_made_is_answered_next() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.receive(message("m2"))
        await driver.router.receive(message("m3"))
        driver.models.gate.set()
        await driver.hear(2)

    assert [task.message_ids for task, _ in driver.platform.said] == [("m1",), ("m2", "m3")]


async def test_stop_keeps_what_was_said_so_far() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["one two three"]
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        assert driver.router.stop(driver.models.requests[0].id)
        await driver.hear(1)

    _, reply = driver.platform.said[0]
    assert (reply.text, reply.stopped, driver.models.closed) == ("one", True, 1)


async def test_a_deleted_trigger_takes_its_reply_back() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.deleted("web", "m1")
        await driver.platform.until(lambda: driver.platform.withdrawn)

    assert driver.platform.said == []


async def test_an_edited_trigger_restarts_the_reply_while_nothing_is_visible() -> None:
    async with ConversationDriver() as driver:
        driver.platform.shows_at_once = False
        driver.models.gate.clear()
        await driver.router.receive(message("m1", "1+1?"))
        await driver.models.speaking.wait()
        await driver.router.edited(message("m1", "2+2?"))
        driver.models.gate.set()
        await driver.hear(1)

    assert len(driver.platform.said) == 1
    assert driver.models.prompts[-1].request.messages[-1].parts[0].text == "2+2?"  # type: ignore[union-attr]


async def test_regenerate_replaces_the_reply_and_its_line_in_the_memory() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["bad", "good"]
        await driver.router.receive(message("m1"))
        await driver.hear(1)
        await driver.router.regenerate(driver.platform.said[0][1].id)
        await driver.hear(2)
        lines = await driver.router.store.transcript(Channel.of(WEB), 10)

    task, reply = driver.platform.said[1]
    assert task.replaces == (f"bot-{driver.platform.said[0][1].id}",)
    assert task.nonce != driver.platform.said[0][0].nonce
    assert [line.text for line in lines] == ["hello", "good"]
    assert lines[-1].record == reply.record


async def test_when_all_fail_it_says_so_and_answers_late() -> None:
    async with ConversationDriver() as driver:
        now = driver.out.now()
        driver.models.script = [offline_record(OfflineReason.ALL_RATE_LIMITED, now), "there you go"]
        await driver.router.receive(message("m1"))
        await driver.platform.until(lambda: driver.platform.notices)
        task, notice = driver.platform.notices[0]

    assert notice.text == "I have to catch my breath - ask me again in a moment."
    assert notice.retry_at is not None
    assert task.attempt == 1


async def test_a_late_answer_knows_the_offline_message_and_how_long_it_took() -> None:
    clock = Clock()
    async with ConversationDriver(now=clock) as driver:
        driver.models.script = [
            offline_record(OfflineReason.ALL_DOWN),
            offline_record(OfflineReason.ALL_DOWN),
            "there you go",
        ]
        await driver.router.receive(message("m1", "hello?", place=LOUNGE, sent_at=clock.at))
        clock.at += 2
        await driver.platform.until(lambda: driver.platform.notices)
        for tries in (2, 3):
            await driver.platform.until(lambda: driver.platform.screens[-1].closed)
            clock.at += 61
            await driver.router.start()
            await driver.platform.tried(tries)

    (first, notice), (second, again) = driver.platform.notices
    (task, reply), *more = driver.platform.said
    assert (notice.text != "", again.text, more) == (True, "", [])
    assert (reply.text, task.attempt, task.nonce) == ("there you go", 3, first.nonce)
    assert task.offline_message_ids == (f"off-{first.reply_id}",)
    assert (second.attempt, task.waited_s) == (2, 124.0)


async def test_newer_messages_do_not_wait_for_a_late_answer() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = [offline_record(OfflineReason.ALL_DOWN), "first", "second"]
        await driver.router.receive(message("m1"))
        await driver.platform.until(lambda: driver.platform.notices)
        await driver.router.receive(message("m2"))
        await driver.hear(1)

    assert driver.platform.said[0][0].trigger_id == "m2"


async def test_the_offline_message_is_sent_once_a_minute_per_channel() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = [offline_record(OfflineReason.ALL_DOWN)] * 2
        for message_id, author in (("m1", ANN), ("m2", BOB)):
            await driver.router.receive(message(message_id, author=author, place=LOUNGE))
        await driver.platform.until(lambda: len(driver.platform.notices) == 2)

    assert sorted(bool(notice.text) for _, notice in driver.platform.notices) == [False, True]


async def out_of_quota(_reply_id: str, origin: Origin) -> float | None:
    return 9e9 if origin.user == "web:1" else None


async def test_who_has_used_up_their_share_is_told_without_asking_a_model() -> None:
    async with ConversationDriver(reserve=out_of_quota) as driver:
        await driver.router.receive(message("m1"))
        await driver.platform.until(lambda: driver.platform.notices)

    (_, notice), *_ = driver.platform.notices
    assert (notice.reason, driver.models.requests) == (OfflineReason.BUDGET, [])


@pytest.mark.slow
async def test_passing_trouble_of_the_platform_is_tried_again_with_the_same_nonce() -> None:
    clock = Clock()
    async with ConversationDriver(now=clock) as driver:
        driver.platform.trouble = [ConnectionError("5xx")]
        await driver.router.receive(message("m1"))
        await driver.platform.until(
            lambda: driver.platform.screens and driver.platform.screens[0].closed
        )
        clock.at += 16
        await driver.router.start()
        await driver.hear(1)

    task, _ = driver.platform.said[0]
    assert (task.attempt, task.nonce) == (2, driver.platform.screens[0].task.nonce)


@pytest.mark.slow
async def test_what_never_works_is_given_up() -> None:
    clock = Clock()
    async with ConversationDriver(now=clock) as driver:
        driver.platform.trouble = [ConnectionError("5xx")] * 9
        await driver.router.receive(message("m1"))
        for tries in range(1, 4):
            await driver.platform.tried(tries)
            clock.at += 16
            await driver.router.start()
        (line,) = await driver.router.store.transcript(Channel.of(WEB), 9)

    assert (line.state, len(driver.platform.screens)) == ("failed", 3)


async def test_a_reply_that_got_through_before_the_crash_is_not_made_again() -> None:
    clock = Clock()
    first = ConversationDriver(now=clock)
    first.models.gate.clear()
    await first.router.receive(message("m1"))
    await first.models.speaking.wait()
    await first.router.aclose()

    clock.at += 150
    async with ConversationDriver(first.out.store, now=clock) as second:
        second.platform.earlier = ("bot-1",)
        await second.router.start()
        await second.platform.until(
            lambda: second.platform.screens and second.platform.screens[0].closed
        )
        work = await second.router.store.work(Channel.of(WEB))

    assert (second.models.requests, work.batches) == ([], ())
    assert await first.out.store.reply_at("web", "bot-1") is not None


async def test_a_deleted_conversation_takes_its_running_reply_back() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.delete_conversation(Channel.of(WEB))
        await driver.platform.until(lambda: driver.platform.withdrawn)
        lines = await driver.router.store.transcript(Channel.of(WEB), 9)

    assert (lines, driver.platform.said) == ((), [])


async def test_stopping_or_remaking_what_is_not_there_does_nothing() -> None:
    async with ConversationDriver() as driver:
        assert not driver.router.stop("nothing")
        assert await driver.router.regenerate("nothing") is None


async def test_a_failed_second_version_leaves_the_first() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["good", offline_record(OfflineReason.ALL_DOWN)]
        await driver.router.receive(message("m1"))
        await driver.hear(1)
        await driver.router.regenerate(driver.platform.said[0][1].id)
        await driver.platform.until(
            lambda: driver.platform.notices and driver.platform.screens[1].closed
        )
        lines = await driver.router.store.transcript(Channel.of(WEB), 9)

    assert [line.text for line in lines] == ["hello", "good"]


async def test_a_failed_reply_to_a_bot_is_not_spoken_of() -> None:
    robot = replace(ANN, is_bot=True)
    conf = settings(participation={"answer_bots": True})
    async with ConversationDriver(settings=conf) as driver:
        driver.models.script = [offline_record(OfflineReason.ALL_DOWN)]
        await driver.router.receive(message("m1", author=robot, place=LOUNGE))
        await driver.platform.until(lambda: driver.platform.notices)

    (_, notice), *more = driver.platform.notices
    assert (notice.text, notice.retry_at, more) == ("", None, [])


async def test_a_channel_that_refuses_replies_is_given_up() -> None:
    async with ConversationDriver() as driver:
        driver.platform.trouble = [Undeliverable("gone")]
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.receive(message("m2"))
        await driver.hear(1)
        lines = await driver.router.store.transcript(Channel.of(WEB), 10)

    assert [task.trigger_id for task, _ in driver.platform.said] == ["m2"]
    assert lines[0].state == "failed"


async def test_an_unaddressed_message_is_not_answered() -> None:
    async with ConversationDriver() as driver:
        decision = await driver.router.receive(message("m1", place=LOUNGE, addressed=None))
        other = replace(LOUNGE, channel_id="elsewhere")
        named = await driver.router.receive(message("m2", place=other, addressed=Addressed.NAME))

    assert decision is not None
    assert (decision.answer, decision.reason) == (False, "chance")
    assert named is not None
    assert (named.answer, named.reason) == (False, "not_addressed")


async def test_a_person_who_opted_out_is_neither_read_nor_answered() -> None:
    async with ConversationDriver() as driver:
        await driver.router.preferences.opt_out("discord", "1", out=True)
        decision = await driver.router.receive(message("m1", "my secret", place=LOUNGE))
        lines = await driver.router.store.transcript(Channel.of(LOUNGE), 10)

    assert decision is not None
    assert (decision.reason, lines) == ("opted_out", ())


async def test_a_reply_restarts_without_a_deleted_message_of_its_burst() -> None:
    async with ConversationDriver() as driver:
        driver.platform.shows_at_once = False
        driver.models.gate.clear()
        await driver.router.receive(message("m1", "my secret", place=LOUNGE))
        await driver.router.receive(message("m2", "how are you", place=LOUNGE))
        await driver.models.speaking.wait()
        await driver.router.deleted("discord", "m1")
        driver.models.gate.set()
        await driver.hear(1)

    first, second = (str(prompt.request.messages) for prompt in driver.models.prompts)
    assert "my secret" in first
    assert "my secret" not in second
    assert "how are you" in second


async def test_a_message_that_is_edited_and_deleted_right_after_gets_no_reply() -> None:
    async with ConversationDriver() as driver:
        driver.platform.shows_at_once = False
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.edited(message("m1", "never mind"))
        await driver.router.deleted("web", "m1")
        driver.models.gate.set()
        await driver.platform.tried(1)

    assert (driver.platform.said, len(driver.platform.withdrawn)) == ([], 1)


async def test_forgetting_a_person_cancels_the_running_reply_to_them() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1", "my secret", place=LOUNGE))
        await driver.models.speaking.wait()
        assert await driver.router.forget("discord", ANN.id) == 1
        driver.models.gate.set()
        await driver.platform.tried(1)

    assert (driver.platform.said, len(driver.platform.withdrawn)) == ([], 1)


async def test_a_reply_to_several_restarts_without_a_forgotten_person() -> None:
    async with ConversationDriver(settings=settings(participation=EAGER)) as driver:
        driver.platform.shows_at_once = False
        driver.models.gate.clear()
        await driver.router.receive(message("m1", "my secret", place=LOUNGE, addressed=None))
        await driver.router.receive(message("m2", "hello all", BOB, LOUNGE, addressed=None))
        await driver.models.speaking.wait()
        await driver.router.forget("discord", ANN.id)
        driver.models.gate.set()
        await driver.hear(1)

    first, second = (str(prompt.request.messages) for prompt in driver.models.prompts)
    assert "my secret" in first
    assert "my secret" not in second
    assert "hello all" in second


async def test_an_edit_by_a_person_who_opted_out_is_not_stored() -> None:
    async with ConversationDriver() as driver:
        await driver.router.preferences.opt_out("discord", "1", out=True)
        await driver.router.receive(message("m1", "my secret", place=LOUNGE))
        await driver.router.edited(message("m1", "my other secret", place=LOUNGE))

        assert await driver.router.store.transcript(Channel.of(LOUNGE), 10) == ()


async def test_a_shutdown_gives_the_batch_to_the_next_process() -> None:
    first = ConversationDriver()
    first.models.gate.clear()
    await first.router.receive(message("m1"))
    await first.models.speaking.wait()
    await first.router.aclose()

    async with ConversationDriver(first.out.store) as second:
        await second.router.start()
        await second.hear(1)

    task, _ = second.platform.said[0]
    assert (task.trigger_id, task.attempt, first.platform.said) == ("m1", 2, [])
    assert task.nonce == first.platform.screens[0].task.nonce


async def test_a_shutdown_lets_a_running_reply_end() -> None:
    driver = ConversationDriver()
    driver.models.gate.clear()
    await driver.router.receive(message("m1"))
    await driver.models.speaking.wait()

    closing = asyncio.create_task(driver.router.aclose(grace_s=10))
    await asyncio.sleep(0)
    driver.models.gate.set()
    await closing

    assert [task.attempt for task, _ in driver.platform.said] == [1]


async def test_a_shutdown_waits_no_longer_than_it_may() -> None:
    driver = ConversationDriver()
    driver.models.gate.clear()
    await driver.router.receive(message("m1"))
    await driver.models.speaking.wait()

    async with asyncio.timeout(LIMIT_S):
        await driver.router.aclose(grace_s=0.02)

    assert driver.platform.said == []


async def test_a_batch_that_is_too_old_is_not_answered() -> None:
    conf = settings(conversation=Conversation(late_answer_minutes=10))
    first = ConversationDriver(settings=conf)
    first.models.gate.clear()
    await first.router.receive(message("m1"))
    await first.models.speaking.wait()
    await first.router.aclose()

    hour_later = first.out.now() + 3600
    async with ConversationDriver(first.out.store, settings=conf, now=lambda: hour_later) as second:
        await second.router.start()
        await second.router.receive(message("m2"))
        await second.hear(1)

    assert [task.trigger_id for task, _ in second.platform.said] == ["m2"]


async def test_a_constant_entry_over_the_budget_is_logged_once() -> None:
    entries = [{"keys": [], "content": "word " * 20_000, "constant": True, "comment": "Too long"}]
    book = parse_book({"entries": entries, "name": "Farm"}, book_id="farm")
    assert book is not None
    persona = Persona("cow", "Cow", "Moo.", books=(IndexedBook(book),))
    library = Library(personas={"cow": persona})
    personas = Personas(settings().persona.model_copy(update={"default": "cow"}), library)

    with capture_logs() as logs:
        async with ConversationDriver(personas=lambda: personas) as driver:
            for number in range(2):
                await driver.router.receive(message(f"budget-{number}"))
                await driver.hear(number + 1)

    reported = [log for log in logs if log["event"] == "lore.over_budget"]
    assert [(log["book"], log["entry"]) for log in reported] == [("Farm", "Too long")]


async def test_a_platform_that_another_process_takes_over_has_no_claims_left() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.receive(message("m2"))

        await driver.router.unregister("web")

        work = await driver.out.store.work(Channel.of(WEB))
        assert [batch.lease_until for batch in work.batches] == [0.0] * len(work.batches)
        assert len(work.batches) + len(work.waiting) == 2
        assert not driver.router.stop(driver.models.requests[0].id)


async def test_a_platform_that_comes_back_gets_the_replies_that_were_given_up() -> None:
    async with ConversationDriver() as driver:
        driver.models.gate.clear()
        await driver.router.receive(message("m1"))
        await driver.models.speaking.wait()
        await driver.router.unregister("web")
        driver.models.gate.set()

        driver.router.register("web", driver.platform.open)
        await driver.router.start()
        await driver.platform.until(lambda: driver.platform.said)

        assert len(driver.platform.said) == 1


@pytest.mark.parametrize("does_upkeep", [True, False])
async def test_old_messages_are_deleted_by_the_process_that_does_the_upkeep(
    *, does_upkeep: bool
) -> None:
    async with ConversationDriver(does_upkeep=lambda: does_upkeep) as driver:
        ignored = Decision(answer=False, reason="chance")
        for message_id, arrived_at in (("old", 0.0), ("new", driver.out.now())):
            await driver.out.store.add(message(message_id), ignored, arrived_at)

        await driver.router.start()

        lines = await driver.out.store.transcript(Channel.of(WEB), 10)
        assert ("old" in {line.message_id for line in lines}) is not does_upkeep
