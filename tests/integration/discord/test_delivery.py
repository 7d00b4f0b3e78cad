"""One reply at a time, over real HTTP against the double."""

import asyncio
import time
from collections.abc import Callable

import discord
import pytest

from discord_double import payloads
from discord_double.double import DiscordDouble, buttons_of, pings_of
from discord_double.payloads import Json
from discord_double.rest import Fault
from discord_double.state import Window
from understudy.config.settings import Discord
from understudy.conversation.delivery import Delivery, OfflineNotice, Reply, ReplyContext
from understudy.conversation.messages import Author, Place
from understudy.errors import Undeliverable
from understudy.platforms.discord.delivery import Deliveries
from understudy.routing.records import OfflineReason, ReplyOutcome, ReplyRecord

SETTINGS = Discord(edit_interval_seconds=0.05, first_edit_seconds=0.05, first_edit_chars=40)
RECORD = ReplyRecord(0, "r1", "discord", ReplyOutcome.DELIVERED, ())

Open = Callable[..., Delivery]


@pytest.fixture
async def trigger(double: DiscordDouble, channel: Json, ann: Json) -> Json:
    return await double.say(channel, ann, double.mention("hello"))


@pytest.fixture
def open_(rest_client: discord.Client, trigger: Json) -> Open:
    async def connected() -> discord.Client:
        return rest_client

    usual = Deliveries(connected, lambda: SETTINGS, time.time)

    def opened(settings: Discord | None = None, **more: object) -> Delivery:
        deliveries = Deliveries(connected, lambda: settings, time.time) if settings else usual
        place = Place("discord", trigger["channel_id"], guild_id=trigger["guild_id"])
        author = Author(trigger["author"]["id"], "Ann")
        fixed = ("r1", place, trigger["id"], author, (trigger["id"],))
        named = {"nonce": "n0nce0000001", **more}
        return deliveries.open(ReplyContext(*fixed, **named))  # type: ignore[arg-type]

    return opened


def _reply(text: str, **more: object) -> Reply:
    return Reply("r1", text, RECORD, **more)  # type: ignore[arg-type]


def _offline(text: str = "I'm offline.") -> OfflineNotice:
    return OfflineNotice("r1", text, OfflineReason.ALL_DOWN, RECORD)


async def _finished(delivery: Delivery, reply: Reply) -> tuple[str, ...]:
    try:
        return await delivery.finish(reply)
    finally:
        await delivery.aclose()


async def _fully(delivery: Delivery, notice: OfflineNotice) -> tuple[str, ...]:
    try:
        return await delivery.offline(notice)
    finally:
        await delivery.aclose()


async def test_a_short_reply_is_one_message_that_replies_to_the_trigger(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    ids = await _finished(open_(), _reply("Hello Ann."))

    (sent,) = double.answers_to(trigger)
    assert ids == (sent["id"],)
    assert sent["content"] == "Hello Ann."
    assert [b["label"] for b in buttons_of(sent)] == ["Regenerate", "Delete"]


async def test_nothing_is_shown_before_the_hold_is_over(double: DiscordDouble, open_: Open) -> None:
    delivery = open_(SETTINGS.model_copy(update={"first_edit_seconds": 30.0}))
    await delivery.write("short")

    assert not delivery.shown()
    await delivery.write("x" * 40)
    await double.until(delivery.shown)
    assert [m["content"] for m in double.sent()] == ["x" * 40]
    await delivery.aclose()


async def test_edits_keep_their_distance_and_the_final_text_lands(
    double: DiscordDouble, open_: Open
) -> None:
    double.rest.edit_window = Window(5, 1.0)
    delivery = open_(SETTINGS.model_copy(update={"edit_interval_seconds": 0.3}))
    text, began = "", time.monotonic()
    for n in range(60):
        text += f"word{n} "
        await delivery.write(text)
        await asyncio.sleep(0.02)
    await _finished(delivery, _reply(text + "end"))

    edits = [c for c in double.calls("PATCH") if c.status == 200]
    assert double.sent()[0]["content"] == text + "end"
    # However long it took, one edit per interval; the final text may follow at once.
    assert 2 <= len(edits) <= (edits[-1].at - began) / 0.3 + 2
    assert not [c for c in double.rest.calls if c.status == 429]


async def test_two_replies_in_one_channel_share_its_limit_for_edits(
    double: DiscordDouble, open_: Open
) -> None:
    double.rest.edit_window = Window(5, 1.0)
    one, other = open_(), open_(nonce="n0nce0000002")
    for n in range(20):
        await one.write("a" * (50 + n))
        await other.write("b" * (50 + n))
        await asyncio.sleep(0.05)
    await asyncio.gather(_finished(one, _reply("one")), _finished(other, _reply("other")))

    assert sorted(m["content"] for m in double.sent()) == ["one", "other"]
    assert not [c for c in double.rest.calls if c.status == 429]


async def test_ten_thousand_characters_with_code_come_in_order_and_whole(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    code = "\n".join(f"value_{n} = compute({n})" for n in range(300))
    text = f"Here it is:\n\n```python\n{code}\n```\nThat was it."
    ids = await _finished(open_(SETTINGS.model_copy(update={"max_parts": 10})), _reply(text))

    sent = double.sent()
    assert len(sent) == len(ids) > 3
    assert len(double.answers_to(trigger)) == 1
    assert all(m["content"].count("```") == 2 for m in sent)
    assert "".join(m["content"] for m in sent).count("compute(") == 300
    assert [bool(buttons_of(m)) for m in sent] == [False] * (len(sent) - 1) + [True]


async def test_more_parts_than_allowed_become_a_file(double: DiscordDouble, open_: Open) -> None:
    text = "A sentence that goes on. " * 800
    delivery = open_()
    await delivery.write(text[:9000])
    await double.until(lambda: len(double.sent()) == 5)
    await _finished(delivery, _reply(text))

    sent = double.sent()
    assert len(sent) == 5
    assert sent[-1]["content"] == "-# The complete reply is in the file."
    (file,) = sent[-1]["attachments"]
    assert double.state.files[file["url"].removeprefix(double.state.cdn)].decode() == text


async def test_a_reply_mentions_no_one(double: DiscordDouble, open_: Open) -> None:
    delivery = open_()
    await delivery.write("@everyone <@&1> <@2> " + "x" * 40)
    await double.until(delivery.shown)
    await _finished(delivery, _reply("@everyone and @here, all of you"))

    writes = [*double.calls("POST", "/messages"), *double.calls("PATCH")]
    assert writes
    assert all(pings_of(call.body) == set() for call in writes)
    assert all(call.body["allowed_mentions"]["parse"] == [] for call in writes)


async def test_only_the_author_is_mentioned_if_configured(
    double: DiscordDouble, open_: Open
) -> None:
    settings = SETTINGS.model_copy(update={"mention_author": True})
    await _finished(open_(settings), _reply("@everyone hello"))

    assert pings_of(double.calls("POST", "/messages")[0].body) == {"author"}


async def test_a_partial_reply_is_marked_and_notes_stand_below(
    double: DiscordDouble, open_: Open
) -> None:
    await _finished(open_(), _reply("Half a", partial=True, notes=("I could not see it.",)))

    assert double.sent()[0]["content"] == (
        "Half a\n-# This reply was cut off here.\n-# I could not see it."
    )


async def test_a_restart_of_the_text_replaces_what_was_shown(
    double: DiscordDouble, open_: Open
) -> None:
    delivery = open_()
    await delivery.write("first try, " * 5)
    await double.until(delivery.shown)
    await delivery.write("")
    await _finished(delivery, _reply("second try"))

    assert [m["content"] for m in double.sent()] == ["second try"]


async def test_the_running_reply_can_be_stopped_by_button(
    double: DiscordDouble, open_: Open
) -> None:
    delivery = open_()
    await delivery.write("y" * 50)
    await double.until(delivery.shown)

    assert [b["label"] for b in buttons_of(double.sent()[0])] == ["Stop"]
    await delivery.aclose()


async def test_without_controls_there_are_no_buttons(double: DiscordDouble, open_: Open) -> None:
    await _finished(open_(SETTINGS.model_copy(update={"controls": False})), _reply("Hi."))

    assert buttons_of(double.sent()[0]) == []


async def test_a_deleted_trigger_is_answered_without_a_reference(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    del double.state.messages[trigger["channel_id"]][trigger["id"]]
    await _finished(open_(), _reply("Hello?"))

    assert [m["content"] for m in double.sent()] == ["Hello?"]


async def test_an_own_message_deleted_by_a_moderator_ends_the_reply(
    double: DiscordDouble, open_: Open
) -> None:
    delivery = open_()
    await delivery.write("y" * 50)
    await double.until(delivery.shown)
    await double.delete(double.sent()[0])

    with pytest.raises(Undeliverable):
        await _finished(delivery, _reply("y" * 60))


async def test_a_forbidden_channel_is_undeliverable(
    double: DiscordDouble, channel: Json, open_: Open
) -> None:
    double.state.forbidden.add((channel["id"], "send"))

    with pytest.raises(Undeliverable):
        await _finished(open_(), _reply("Hi."))


async def test_typing_that_is_forbidden_does_not_hinder_the_reply(
    double: DiscordDouble, channel: Json, open_: Open
) -> None:
    double.state.forbidden.add((channel["id"], "typing"))
    delivery = open_()
    await double.until(lambda: double.calls("POST", "/typing"))
    await _finished(delivery, _reply("Hi."))

    assert len(double.sent()) == 1


async def test_typing_that_hangs_does_not_hinder_the_reply(
    double: DiscordDouble, open_: Open
) -> None:
    double.spoil(Fault("POST", ".*/typing", 204, gate=asyncio.Event()))
    await _finished(open_(), _reply("Hi."))

    assert len(double.sent()) == 1


@pytest.mark.parametrize("status", [502, 503])
async def test_an_error_after_the_effect_does_not_double_the_reply(
    double: DiscordDouble, open_: Open, status: int
) -> None:
    double.spoil(Fault("POST", ".*/messages", status, after_effect=True))
    await _finished(open_(), _reply("Once."))

    assert [m["content"] for m in double.sent()] == ["Once."]
    assert len(double.calls("POST", "/messages")) == 2


async def test_a_second_try_with_the_nonce_remembered_goes_on_in_the_same_message(
    double: DiscordDouble, open_: Open
) -> None:
    first = open_()
    await first.write("the first try " * 4)
    await double.until(first.shown)
    await first.aclose()
    await _finished(open_(), _reply("the second try"))

    (sent,) = double.sent()
    assert sent["content"] == "the second try"
    assert [b["label"] for b in buttons_of(sent)] == ["Regenerate", "Delete"]


async def test_after_the_nonce_is_forgotten_the_half_written_reply_is_found_and_taken_over(
    double: DiscordDouble, open_: Open
) -> None:
    first = open_()
    await first.write("long " * 600)
    await double.until(lambda: len(double.sent()) == 2)
    await first.aclose()
    double.forget_nonces()
    second = open_(attempt=2, waited_s=150.0)

    assert await second.earlier() == ()
    await _finished(second, _reply("short now"))
    assert [m["content"] for m in double.sent()] == ["short now"]


async def test_a_complete_reply_is_recognised_after_a_crash(
    double: DiscordDouble, open_: Open
) -> None:
    ids = await _finished(open_(), _reply("word " * 600))
    double.forget_nonces()
    second = open_(attempt=2, waited_s=150.0)

    assert await second.earlier() == ids
    await second.aclose()


async def test_who_lost_the_batch_sends_nothing(double: DiscordDouble, open_: Open) -> None:
    async def lost() -> bool:
        return False

    with pytest.raises(Undeliverable):
        await _finished(open_(may_send=lost), _reply("Hi."))
    assert double.sent() == []


async def test_a_young_last_offline_message_is_edited_into_the_answer(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    (offline,) = await _fully(open_(), _offline())
    ids = await _finished(open_(attempt=2, offline_message_ids=(offline,)), _reply("Here I am."))

    assert ids == (offline,)
    assert [m["content"] for m in double.sent()] == ["Here I am."]


async def test_else_the_late_answer_is_a_new_reply_and_the_offline_message_points_to_it(
    double: DiscordDouble, trigger: Json, ann: Json, channel: Json, open_: Open
) -> None:
    (offline,) = await _fully(open_(), _offline())
    await double.say(channel, ann, "anyone?")
    ids = await _finished(open_(attempt=2, offline_message_ids=(offline,)), _reply("Here I am."))

    pointer, answer = double.sent()
    assert ids == (answer["id"],)
    assert pointer["content"].endswith(f"/{channel['id']}/{answer['id']}")
    assert pings_of(double.calls("POST", "/messages")[-1].body) == {"author"}


async def test_where_the_past_cannot_be_read_the_late_answer_is_a_new_reply(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    (offline,) = await _fully(open_(), _offline())
    double.rest.faults.append(Fault("GET", ".*/messages", 403, times=9))
    ids = await _finished(open_(attempt=2, offline_message_ids=(offline,)), _reply("Here I am."))

    pointer, answer = double.sent()
    assert (ids, answer["content"]) == ((answer["id"],), "Here I am.")
    assert pointer["content"].endswith(answer["id"])


async def test_what_an_offline_message_had_begun_to_say_is_not_gone_on_with_in_it(
    double: DiscordDouble, trigger: Json, ann: Json, channel: Json, open_: Open
) -> None:
    first = open_()
    await first.write("Half a sentence, and more than the forty characters it takes")
    await double.until(double.sent)
    (offline,) = await _fully(first, _offline())
    await double.say(channel, ann, "anyone?")
    ids = await _finished(open_(attempt=2, offline_message_ids=(offline,)), _reply("Here I am."))

    pointer, answer = double.sent()
    assert (ids, answer["content"]) == ((answer["id"],), "Here I am.")
    assert pointer["content"].endswith(f"/{channel['id']}/{answer['id']}")


async def test_an_old_offline_message_is_not_edited_into_the_answer(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    old = payloads.snowflake(time.time() - 300)
    double.state.write(
        trigger["channel_id"], double.state.me, "I'm offline.", message_id=old, flags=4096
    )
    ids = await _finished(open_(attempt=2, offline_message_ids=(old,)), _reply("Here I am."))

    assert ids != (old,)
    assert len(double.answers_to(trigger)) == 1


async def test_the_offline_message_is_sent_once_however_often_the_batch_fails(
    double: DiscordDouble, open_: Open
) -> None:
    first = await _fully(open_(), _offline())
    second = await _fully(open_(attempt=2, offline_message_ids=first), _offline())
    double.forget_nonces()
    third = await _fully(open_(attempt=3), _offline())

    assert first == second == third
    assert len(double.sent()) == 1


async def test_where_nothing_may_be_said_nothing_is(double: DiscordDouble, open_: Open) -> None:
    assert await _fully(open_(), _offline("")) == ()
    assert double.sent() == []


async def test_regenerate_writes_into_the_messages_of_the_old_reply(
    double: DiscordDouble, open_: Open
) -> None:
    old = await _finished(open_(), _reply("word " * 600))
    new = await _finished(open_(replaces=old), _reply("better"))

    assert new == old[:1]
    assert [m["content"] for m in double.sent()] == ["better"]


async def test_a_part_that_is_too_many_is_deleted_though_discord_refuses_at_first(
    double: DiscordDouble, open_: Open
) -> None:
    old = await _finished(open_(), _reply("word " * 600))
    double.rest.faults.append(Fault("DELETE", ".*/messages/.*", 503))
    new = await _finished(open_(replaces=old), _reply("better"))

    assert new == old[:1]
    assert [m["content"] for m in double.sent()] == ["better"]


async def test_a_withdrawn_reply_leaves_nothing(double: DiscordDouble, open_: Open) -> None:
    delivery = open_()
    await delivery.write("y" * 2500)
    await double.until(lambda: len(double.sent()) == 2)
    await delivery.withdraw()
    await delivery.aclose()

    assert double.sent() == []


async def test_without_read_message_history_the_answer_is_sent_without_a_reference(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    double.spoil(Fault("POST", r"/api/channels/\d+/messages", 403))

    await _finished(open_(), _reply("Hello."))

    (sent,) = double.sent()
    assert sent["content"] == "Hello."
    assert sent.get("message_reference") is None


async def test_a_late_answer_mentions_a_person_who_got_no_offline_message(
    double: DiscordDouble, trigger: Json, open_: Open
) -> None:
    await _finished(open_(attempt=2, waited_s=90.0), _reply("Here I am."))

    assert pings_of(double.calls("POST", "/messages")[-1].body) == {"author"}


async def test_a_send_that_always_fails_is_given_up_in_time(
    double: DiscordDouble, open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.platforms.discord.sender._LIMIT_S", 0.3)
    double.spoil(Fault("POST", r"/api/channels/\d+/messages", 500, times=50))

    with pytest.raises(TimeoutError):
        await _finished(open_(), _reply("Hello."))
