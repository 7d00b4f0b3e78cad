"""Which order of servers holds for a reply."""

import pytest

from conversation_driver import ANN, LOUNGE, WEB, settings
from understudy.config.settings import Participation, Settings, Web
from understudy.conversation.inbox import Channel
from understudy.conversation.messages import Author, Place
from understudy.conversation.orders import ChosenOrder, OrderBook, order_for
from understudy.conversation.preferences import (
    ChannelPreferences,
    PreferenceSnapshot,
    server_id,
)

BOOK = OrderBook({"fast": ("local",), "careful": ("chutes", "a/b")}, ("local/x", "a/b"), ("c/d",))
HELPER = Author("7", "Helper", roles=frozenset(("r2", "r1")))
THREAD = Place("discord", "thread", parent_id="parent", guild_id="g")


def chosen(channel_id: str, name: str, platform: str = "discord") -> PreferenceSnapshot:
    return PreferenceSnapshot({Channel(platform, channel_id): ChannelPreferences(candidate=name)})


def found(
    place: Place = LOUNGE,
    author: Author = ANN,
    conf: Settings | None = None,
    preferences: PreferenceSnapshot | None = None,
) -> ChosenOrder | None:
    return order_for(place, author, conf or settings(), preferences or PreferenceSnapshot(), BOOK)


def test_without_a_choice_the_usual_order_holds() -> None:
    assert found() is None


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("fast", ("local",)),
        ("careful", ("chutes", "a/b")),
        ("a", ("a", "local/x", "a/b")),
        ("c/d", ("c/d", "local/x", "a/b")),
        ("gone", ()),
    ],
)
def test_a_name_means_an_order_or_the_server_to_ask_first(
    name: str, entries: tuple[str, ...]
) -> None:
    assert BOOK.entries(name) == entries


@pytest.mark.parametrize("at", ["thread", "parent", server_id("g")])
def test_a_thread_takes_the_choice_of_its_channel_or_server(at: str) -> None:
    order = found(THREAD, preferences=chosen(at, "fast"))

    assert order == ChosenOrder("fast", ("local",), "chosen here")


def test_a_choice_precedes_the_channel_and_the_channel_precedes_the_role() -> None:
    conf = settings(
        participation=Participation(
            channel_orders={"parent": "careful"}, role_orders={"r1": "fast", "r2": "careful"}
        )
    )
    own = found(THREAD, HELPER, conf, chosen("thread", "c/d"))
    of_channel = found(THREAD, HELPER, conf)
    of_role = found(LOUNGE, HELPER, conf)

    names = [order.name for order in (own, of_channel, of_role) if order]
    assert names == ["c/d", "careful", "fast"]


def test_a_choice_that_no_longer_exists_is_passed_over() -> None:
    conf = settings(participation=Participation(channel_orders={"parent": "careful"}))

    order = found(THREAD, conf=conf, preferences=chosen("thread", "removed"))

    assert order is not None
    assert order.name == "careful"


def test_on_the_page_a_choice_holds_only_where_it_is_allowed() -> None:
    preferences = chosen(WEB.channel_id, "fast", "web")

    assert found(WEB, preferences=preferences) is None
    assert found(WEB, conf=settings(web=Web(choose_order=True)), preferences=preferences)
