import asyncio

import discord

from understudy.platforms.discord.presence import AWAY, Presence
from understudy.routing.records import OfflineReason


async def _shown_after(*reasons: OfflineReason | None) -> list[discord.Status]:
    presence, shown = Presence(), list[discord.Status]()

    async def show(told: Presence) -> None:
        shown.append(told.status)

    showing = asyncio.create_task(presence.run(show))
    for reason in reasons:
        presence.ended(reason)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    showing.cancel()
    return shown


async def test_an_outage_is_shown_once_and_its_end_too() -> None:
    down = OfflineReason.ALL_DOWN

    assert await _shown_after(None, down, down, None, None) == [
        discord.Status.idle,
        discord.Status.online,
    ]


async def test_a_request_that_was_refused_is_no_outage() -> None:
    assert await _shown_after(OfflineReason.REJECTED, OfflineReason.NO_CAPABLE) == []


def test_away_says_why() -> None:
    presence = Presence()
    presence.ended(OfflineReason.ALL_RATE_LIMITED)

    assert str(presence.activity) == AWAY
