"""What the slash commands ask of the rest of the program."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import discord
from discord import app_commands

from understudy.config.settings import Persona as PersonaSettings
from understudy.conversation.inbox import InboxStore
from understudy.conversation.messages import Place
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import Preferences
from understudy.platforms.discord.rendering import split

PRIVACY = (
    "I read the messages of channels I can see, to decide whether to answer. I keep them as this "
    "conversation's memory for {days} days and send the recent ones to the model servers my "
    "operator has chosen when I answer. `/optout` makes me leave your messages unread, and "
    "`/forget me` deletes what I have kept of you."
)
PRIVACY_UNKEPT = (
    "I read the messages of channels I can see, to decide whether to answer. I keep only their "
    "ids, and send the message I answer to the model servers my operator has chosen. `/optout` "
    "makes me leave your messages unread."
)
PRIVACY_PICTURES = (
    " Pictures I was shown, and what I noted of them, stay on my machine for {days} days, whatever "
    "is deleted meanwhile."
)


def _no_personas() -> Personas:
    return Personas(PersonaSettings(), Library())


async def _unknown(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The answers are ready to be read by people."""

    store: InboxStore
    preferences: Preferences
    forget: Callable[[str, str], Awaitable[int]]
    """(platform, author id) → how many messages were forgotten."""
    why: Callable[[str], Awaitable[str | None]] = _unknown
    """By reply id: who answered, what failed before, tokens and cost."""
    providers: Callable[[], str] = lambda: "I do not know my providers."
    usage: Callable[[str | None], Awaitable[str | None]] = lambda _: _unknown("")
    """Of one user (`discord:id`), or of everybody."""
    set_log_level: Callable[[str], None] = lambda _: None
    """Takes `debug`, `info`, `warning` or `error`."""
    privacy: Callable[[], str] = lambda: PRIVACY.format(days=30)
    personas: Callable[[], Personas] = _no_personas
    """Of the configuration of this moment."""
    try_lore: Callable[[str, Place], str] = lambda _text, _place: "There are no lorebooks."
    """Which entries a text brings up at a place, and the prompt it ends in."""


Client = discord.AutoShardedClient
Asked = discord.Interaction[Client]
Tree = app_commands.CommandTree[Client]
IsAdmin = Callable[[int], bool]
"""Whether that user may do everything."""


async def say(asked: Asked, text: str) -> None:
    """The answer, seen only by who asked."""
    if not asked.response.is_done():
        await think(asked)
    for part in split(text)[:3]:
        await asked.followup.send(
            part, ephemeral=True, allowed_mentions=discord.AllowedMentions.none()
        )


async def think(asked: Asked) -> None:
    await asked.response.defer(ephemeral=True, thinking=True)
