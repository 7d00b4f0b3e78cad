"""What the slash commands need from other packages, and how they respond."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import discord
from discord import app_commands

from understudy.config.settings import Persona as PersonaSettings
from understudy.conversation.inbox import Channel, InboxStore
from understudy.conversation.messages import Place
from understudy.conversation.orders import ChosenOrder, OrderBook
from understudy.conversation.personas.registry import Library, Personas
from understudy.conversation.preferences import Preferences
from understudy.memory.commands import MemoryCommands
from understudy.platforms.discord.inbound import PLATFORM, place_in
from understudy.platforms.discord.rendering import split

PRIVACY = (
    "I read the messages of channels I can see, to decide whether to answer. I store them for "
    "{days} days as the history of this conversation and send the recent ones to the model servers "
    "my operator has configured when I answer; of older ones I may store a summary, which "
    "`/memory show` shows. After `/optout` I no longer read your messages, and `/forget me` "
    "deletes what I have stored about you, your notes (`/memories`) too."
)
PRIVACY_UNKEPT = (
    "I read the messages of channels I can see, to decide whether to answer. I store only their "
    "ids, and send the message I answer to the model servers my operator has configured. After "
    "`/optout` I no longer read your messages."
)
PRIVACY_PICTURES = (
    " Pictures I was shown, and their descriptions, stay on my machine for {days} days, even if "
    "the message is deleted."
)


def _no_personas() -> Personas:
    return Personas(PersonaSettings(), Library())


async def _unknown(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class CommandContext:
    """Dependencies of the commands; texts are ready for display."""

    store: InboxStore
    preferences: Preferences
    forget: Callable[[str, str], Awaitable[int]]
    """(platform, author id) → how many messages were forgotten."""
    memory: MemoryCommands = field(default_factory=lambda: MemoryCommands(None, None))
    why: Callable[[str], Awaitable[str | None]] = _unknown
    """Reply id → answering model, failed attempts, tokens and cost."""
    providers: Callable[[], str] = lambda: "My providers are unknown."
    usage: Callable[[str | None], Awaitable[str | None]] = lambda _: _unknown("")
    """Of one user (`discord:id`), or of all users."""
    set_log_level: Callable[[str], None] = lambda _: None
    """`debug`, `info`, `warning` or `error`."""
    privacy: Callable[[], str] = lambda: PRIVACY.format(days=30)
    personas: Callable[[], Personas] = _no_personas
    """Of the current configuration."""
    orders: Callable[[], OrderBook] = lambda: OrderBook({}, ())
    """The orders and servers that can be chosen."""
    order_at: Callable[[Place, frozenset[str]], ChosenOrder | None] = lambda _place, _roles: None
    """The order for a person with these roles at a place; None is the usual one."""
    try_lore: Callable[[str, Place], str] = lambda _text, _place: "There are no lorebooks."
    """The lore entries a text activates at a place, and the resulting prompt."""


Client = discord.AutoShardedClient
Interaction = discord.Interaction[Client]
Tree = app_commands.CommandTree[Client]
IsAdmin = Callable[[int], bool]
"""Whether that user is an admin of the bot."""


Permission = Literal["manage_messages", "manage_guild"]
_NAMES: Mapping[Permission, str] = {
    "manage_messages": "Manage Messages",
    "manage_guild": "Manage Server",
}


def refusal(
    interaction: Interaction, *, permission: Permission, is_admin: IsAdmin, doing: str = "That"
) -> str | None:
    """Why the caller may not use a command; None where they may.

    Discord hides commands from people without the permission, but a server's settings may show
    them to anyone, and direct messages have no permissions.
    """
    if is_admin(interaction.user.id):
        return None
    if interaction.guild_id is None:
        return "Only my operator can do that in direct messages."
    if getattr(interaction.permissions, permission):
        return None
    return f"{doing} needs the permission {_NAMES[permission]}."


async def respond(interaction: Interaction, text: str) -> None:
    """Send a response that only the caller sees."""
    if not interaction.response.is_done():
        await defer(interaction)
    for part in split(text)[:3]:
        await interaction.followup.send(
            part, ephemeral=True, allowed_mentions=discord.AllowedMentions.none()
        )


async def defer(interaction: Interaction) -> None:
    await interaction.response.defer(ephemeral=True, thinking=True)


def order_here(context: CommandContext, interaction: Interaction) -> ChosenOrder | None:
    """The order for the caller where they are; None is the usual one."""
    roles = frozenset(str(role.id) for role in getattr(interaction.user, "roles", ()))
    place = place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
    return context.order_at(place, roles)


_MOST_CHOICES = 25
"""Discord's limit per option."""
_MOST_CHOICE_CHARS = 100
"""Discord refuses a longer name or value."""
Choice = app_commands.Choice[str]


def choices(options: Iterable[tuple[str, str]], typed: str) -> list[Choice]:
    """The (name, value) pairs whose names contain what was typed, as Discord can show them."""
    wanted = typed.casefold()
    found = [
        app_commands.Choice(name=name[:_MOST_CHOICE_CHARS], value=value)
        for name, value in options
        if wanted in name.casefold() and len(value) <= _MOST_CHOICE_CHARS
    ]
    return found[:_MOST_CHOICES]


class ModeratorCommands(app_commands.Group):
    """A group of commands that need Manage Messages."""

    def __init__(
        self, name: str, description: str, context: CommandContext, is_admin: IsAdmin
    ) -> None:
        super().__init__(
            name=name,
            description=description,
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self.context = context
        self.is_admin = is_admin

    def refusal(self, interaction: Interaction) -> str | None:
        return refusal(interaction, permission="manage_messages", is_admin=self.is_admin)

    def channel(self, interaction: Interaction) -> Channel:
        return Channel(PLATFORM, str(interaction.channel_id))

    def place(self, interaction: Interaction) -> Place:
        return place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
