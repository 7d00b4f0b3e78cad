"""Whether the bot answers, and why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation_driver import ANN, BOB, LOUNGE, message
from understudy.config.settings import ConversationMode, Participation, QuietHours
from understudy.conversation.activity import ActivityTracker
from understudy.conversation.inbox import Channel, Decision
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.conversation.participation import AuthorStatus, decide, in_quiet_hours

OPEN = Participation(channels=("lounge",), chance=0.5)
ELSEWHERE = replace(LOUNGE, channel_id="elsewhere")
THREAD = replace(LOUNGE, channel_id="thread", parent_id="lounge")
DM = Place("discord", "dm", private=True)
ROBOT = Author("9", "Beep", is_bot=True)
HERE = Channel.of(LOUNGE)
NOON = 1_790_000_000.0


def said(
    addressed: Addressed | None = None, author: Author = ANN, place: Place = LOUNGE, **more: object
) -> Inbound:
    text = str(more.pop("text", "hello"))
    return message("m1", text, author, place, addressed=addressed, **more)


def judged(
    inbound: Inbound,
    settings: Participation = OPEN,
    tracker: ActivityTracker | None = None,
    *,
    now: float = NOON,
    luck: float = 0.9,
    status: AuthorStatus | None = None,
) -> Decision:
    return decide(
        inbound, settings, tracker or ActivityTracker(), status or AuthorStatus(), now, lambda: luck
    )


YES, GENERAL, NO = (True, True), (True, False), (False, False)


@pytest.mark.parametrize(
    ("inbound", "luck", "expected", "reason"),
    [
        (said(Addressed.MENTION, place=ELSEWHERE), 0.9, YES, "mention"),
        (said(Addressed.REPLY, place=ELSEWHERE), 0.9, YES, "reply"),
        (said(Addressed.DM, place=DM), 0.9, YES, "dm"),
        (said(Addressed.NAME), 0.9, YES, "name"),
        (said(Addressed.NAME, place=THREAD), 0.9, YES, "name"),
        (said(Addressed.NAME, place=ELSEWHERE), 0.0, NO, "not_addressed"),
        (said(), 0.1, GENERAL, "chance"),
        (said(place=THREAD), 0.1, GENERAL, "chance"),
        (said(), 0.5, NO, "chance"),
        (said(place=ELSEWHERE), 0.0, NO, "not_addressed"),
        (said(to_others=True), 0.0, NO, "to_others"),
        (said(text=" "), 0.0, NO, "empty"),
        (said(Addressed.MENTION, ROBOT), 0.0, NO, "bot"),
    ],
)
def test_who_is_answered(
    inbound: Inbound, luck: float, expected: tuple[bool, bool], reason: str
) -> None:
    decision = judged(inbound, luck=luck)

    assert ((decision.answer, decision.directed), decision.reason) == (expected, reason)


def test_a_channel_can_have_a_chance_of_its_own() -> None:
    settings = Participation(channels=("lounge",), chance=0.0, channel_chance={"lounge": 1.0})

    assert judged(said(), settings).answer
    assert judged(said(place=THREAD), settings).answer


def test_after_speaking_up_the_bot_holds_back_for_a_while() -> None:
    tracker = ActivityTracker()
    tracker.record_reply(HERE, BOB.id, NOON, directed=False)

    assert judged(said(), tracker=tracker, now=NOON + 59, luck=0.0).reason == "cooldown"
    assert judged(said(), tracker=tracker, now=NOON + 60, luck=0.0).reason == "chance"
    assert judged(said(Addressed.MENTION), tracker=tracker, now=NOON + 1).answer


def test_a_conversation_goes_on_without_mentions_for_some_messages() -> None:
    settings = Participation(
        channels=("lounge",), conversation_mode=ConversationMode(max_messages=2)
    )
    tracker = ActivityTracker()
    tracker.record_reply(HERE, ANN.id, NOON, directed=True)
    reasons = []
    for second in range(3):
        decision = judged(said(), settings, tracker, now=NOON + 10 + second)
        tracker.record_message(said(), decision, NOON + 10 + second)
        tracker.record_claim(HERE, ANN.id)
        reasons.append(decision.reason)

    assert reasons == ["conversation", "conversation", "chance"]
    assert judged(said(author=BOB), settings, tracker, now=NOON + 10).reason == "chance"
    assert judged(said(place=ELSEWHERE), settings, tracker, now=NOON).reason == "not_addressed"


def test_a_conversation_ends_with_its_window() -> None:
    tracker = ActivityTracker()
    tracker.record_reply(HERE, ANN.id, NOON, directed=True)

    assert judged(said(), tracker=tracker, now=NOON + 119).reason == "conversation"
    assert judged(said(), tracker=tracker, now=NOON + 120).reason == "chance"


def test_what_follows_a_mention_at_once_belongs_to_it() -> None:
    tracker = ActivityTracker()
    first = said(Addressed.MENTION, place=ELSEWHERE)
    tracker.record_message(first, judged(first, tracker=tracker), NOON)

    follow = judged(said(place=ELSEWHERE), tracker=tracker, now=NOON + 1)
    assert (follow.answer, follow.directed, follow.reason) == (True, True, "burst")
    assert judged(said(author=BOB, place=ELSEWHERE), tracker=tracker).reason == "not_addressed"
    assert judged(said(place=ELSEWHERE), tracker=tracker, now=NOON + 8).reason == "not_addressed"
    tracker.record_claim(Channel.of(ELSEWHERE), ANN.id)
    assert judged(said(place=ELSEWHERE), tracker=tracker, now=NOON + 1).reason == "not_addressed"


def test_bots_are_answered_only_when_allowed_and_only_a_few_times_in_a_row() -> None:
    settings = Participation(channels=("lounge",), answer_bots=True, chance=1.0)
    tracker = ActivityTracker()
    call = said(Addressed.MENTION, ROBOT)
    reasons = []
    for second in range(5):
        decision = judged(call, settings, tracker, now=NOON + second)
        tracker.record_message(call, decision, NOON + second)
        reasons.append(decision.reason)

    assert reasons == ["mention", "mention", "mention", "bot_loop", "bot_loop"]
    assert judged(said(author=ROBOT), settings).reason == "bot_unaddressed"
    tracker.record_message(said(), Decision(answer=False, reason="chance"), NOON + 6)
    assert judged(call, settings, tracker, now=NOON + 7).reason == "bot_loop"
    assert judged(call, settings, tracker, now=NOON + 604).reason == "mention"


def test_a_person_in_between_ends_a_row_of_replies_to_bots() -> None:
    settings = Participation(answer_bots=True, max_bot_replies=1)
    tracker = ActivityTracker()
    call = said(Addressed.MENTION, ROBOT)
    tracker.record_message(call, judged(call, settings, tracker), NOON)
    tracker.record_message(said(), Decision(answer=False, reason="chance"), NOON)

    assert judged(call, settings, tracker).answer


def test_rate_limits_apply_to_every_author_and_channel() -> None:
    settings = Participation(user_per_minute=2, channel_per_minute=3)
    tracker = ActivityTracker()

    def ask(author: Author, now: float) -> str:
        tracker.record_claim(HERE, author.id)
        call = said(Addressed.MENTION, author)
        decision = judged(call, settings, tracker, now=now)
        tracker.record_message(call, decision, now)
        return decision.reason

    asked = [ask(a, NOON + i) for i, a in enumerate([ANN, ANN, ANN, BOB, BOB])]
    assert asked == ["mention", "mention", "user_rate_limit", "mention", "channel_rate_limit"]
    assert ask(ANN, NOON + 60) == "mention"


def test_mutes_and_opt_outs_come_before_everything() -> None:
    call = said(Addressed.MENTION)

    assert judged(call, status=AuthorStatus(muted_until=NOON + 1)).reason == "muted"
    assert judged(call, status=AuthorStatus(muted_until=NOON)).answer
    assert judged(call, status=AuthorStatus(opted_out=True)).reason == "opted_out"


def test_in_quiet_hours_only_those_who_ask_are_answered() -> None:
    settings = Participation(
        channels=("lounge",), chance=1.0, quiet_hours=QuietHours(start="14:00", end="15:00")
    )

    assert judged(said(), settings).reason == "quiet_hours"
    assert judged(said(Addressed.MENTION), settings).answer


@pytest.mark.parametrize(
    ("start", "end", "zone", "quiet"),
    [
        ("14:00", "15:00", "UTC", True),
        ("14:14", "15:00", "UTC", False),
        ("22:00", "08:00", "UTC", False),
        ("22:00", "14:30", "UTC", True),
        ("16:00", "17:00", "Europe/Berlin", True),
        ("14:00", "15:00", "Nowhere/Land", True),
        ("14:00", "14:00", "UTC", False),
        ("", "", "UTC", False),
        ("soon", "later", "UTC", False),
    ],
)
def test_quiet_hours_are_read_from_the_clock_on_the_wall(
    start: str, end: str, zone: str, quiet: bool
) -> None:
    assert in_quiet_hours(QuietHours(start=start, end=end, timezone=zone), NOON - 30) == quiet


def test_idle_channels_are_forgotten() -> None:
    tracker = ActivityTracker()
    tracker.record_message(said(Addressed.MENTION), Decision(True, "mention", directed=True), NOON)
    tracker.record_offline(HERE, NOON)
    tracker.forget_idle(NOON + 4000)

    assert tracker.may_send_offline(HERE, NOON + 1)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *Addressed]),
            st.sampled_from([ANN, BOB, ROBOT]),
            st.floats(0, 30),
            st.floats(0, 0.999),
        ),
        max_size=40,
    )
)
def test_bots_alone_never_get_more_than_the_breaker_allows(
    events: list[tuple[Addressed | None, Author, float, float]],
) -> None:
    settings = Participation(channels=("lounge",), chance=1.0, answer_bots=True)
    tracker, now, row = ActivityTracker(), NOON, 0
    for addressed, author, gap_s, luck in events:
        now += gap_s
        inbound = said(addressed, author)
        decision = judged(inbound, settings, tracker, now=now, luck=luck)
        tracker.record_message(inbound, decision, now)
        if not author.is_bot:
            row = 0
        elif decision.answer:
            row += 1
        assert decision.reason
        assert row <= settings.max_bot_replies


def test_people_of_one_address_share_the_limit_of_a_person() -> None:
    settings, tracker = Participation(user_per_minute=2), ActivityTracker()

    def ask(author: Author, address: str) -> str:
        call = replace(said(Addressed.MENTION, author), address=address)
        decision = judged(call, settings, tracker)
        tracker.record_message(call, decision, NOON)
        tracker.record_claim(HERE, author.id)
        return decision.reason

    people = [Author(f"browser-{number}", "You") for number in range(4)]
    assert [ask(person, "203.0.113.5") for person in people[:3]] == [
        "mention",
        "mention",
        "address_rate_limit",
    ]
    assert ask(people[3], "203.0.113.6") == "mention"
