"""Titles of conversations."""

import pytest

from conversation_driver import LOUNGE, WEB, Models, message, offline_record
from understudy.conversation.follow_ups import Answered, FollowUpModels
from understudy.conversation.inbox import Channel, Decision, StoredMessage
from understudy.conversation.messages import Place
from understudy.conversation.titles import PURPOSE, TitleMaker, title_text
from understudy.routing.records import OfflineReason
from understudy.storage.in_memory_inbox import MemoryInbox

HERE = Channel.of(WEB)
ANSWER = Decision(answer=True, reason="dm", directed=True)


def answered(place: Place, question: str, answer: str) -> Answered:
    stored = StoredMessage(1, message("m1", question, place=place), 100.0, directed=True)
    return Answered((stored,), answer)


def maker(models: Models, store: MemoryInbox, *, enabled: bool = True) -> TitleMaker:
    return TitleMaker(
        store,
        FollowUpModels(
            models.reply,
            lambda own: own or ("local/free", "openrouter/paid"),
            lambda: enabled,
            lambda _: True,
            lambda: "t1",
        ),
    )


async def test_a_conversation_gets_a_title_from_free_candidates_first() -> None:
    store, models = MemoryInbox(), Models(script=["**Cats of the house.**"])
    titles = maker(models, store)
    titled: list[Channel] = []
    titles.on_title = titled.append

    titles.follow_up(answered(WEB, "Tell me about my cats", "They are fine."))
    await titles.idle()

    assert await store.title(HERE) == "Cats of the house"
    assert titled == [HERE]
    assert models.requests[0].order == ("local/free", "openrouter/paid")
    assert models.requests[0].purpose == PURPOSE
    assert models.requests[0].origin.user == "web:1"


async def test_a_given_title_is_kept() -> None:
    store, models = MemoryInbox(), Models(script=["Other"])
    await store.set_title(HERE, "Mine", replace=True)
    titles = maker(models, store)

    titles.follow_up(answered(WEB, "a", "b"))
    await titles.idle()

    assert await store.title(HERE) == "Mine"
    assert models.requests == []


async def test_no_title_is_made_elsewhere_when_switched_off_or_late() -> None:
    store, models = MemoryInbox(), Models()
    for number in range(3):
        await store.add(message(f"m{number}"), ANSWER, 100.0)

    maker(models, store).follow_up(answered(LOUNGE, "a", "b"))
    maker(models, store, enabled=False).follow_up(answered(WEB, "a", "b"))
    late = maker(models, store)
    late.follow_up(answered(WEB, "a", "b"))
    await late.idle()

    assert models.requests == []


async def test_a_failed_title_leaves_the_conversation_without() -> None:
    store, models = MemoryInbox(), Models(script=[offline_record(OfflineReason.ALL_DOWN)])
    titles = maker(models, store)

    titles.follow_up(answered(WEB, "a", "b"))
    await titles.idle()

    assert await store.title(HERE) is None


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("A tale", "A tale"),
        ('"A tale."', "A tale"),
        ("Title: **A tale**\n\nI hope you like it", "A tale"),
        ("# C# and F#", "C# and F#"),
        ("", ""),
        ("I am sorry, but I cannot give a title to this conversation, because it is empty.", ""),
    ],
)
def test_the_title_is_taken_out_of_the_answer(answer: str, title: str) -> None:
    assert title_text(answer) == title
