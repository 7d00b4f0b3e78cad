"""`/persona` and `/lore`: the persona of a channel, and which lore a text activates there."""

from datetime import UTC, datetime

import discord
import structlog
from discord import app_commands

from understudy.conversation.inbox import Channel
from understudy.conversation.personas.registry import Persona, greetings
from understudy.conversation.preferences import server_id
from understudy.platforms.discord.command_context import (
    CommandContext,
    Interaction,
    IsAdmin,
    Tree,
    defer,
    refusal,
    respond,
)
from understudy.platforms.discord.inbound import PLATFORM, place_in
from understudy.platforms.discord.rendering import finished
from understudy.platforms.discord.sender import files_of

_log = structlog.get_logger()

_MOST_CHOICES = 25
"""Discord's limit per option."""
_MOST_PARTS = 5
"""A longer greeting is attached as a file too."""
_NO_SERVER = "Direct messages belong to no server."


def add_persona(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_PersonaCommands(context, is_admin))
    tree.add_command(_LoreCommands(context, is_admin))


class _PersonaCommands(app_commands.Group):
    def __init__(self, context: CommandContext, is_admin: IsAdmin) -> None:
        super().__init__(
            name="persona",
            description="My persona here",
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self._context = context
        self._is_admin = is_admin

    @app_commands.command(name="set", description="Change my persona in this channel or thread")
    @app_commands.describe(
        persona="The persona",
        everywhere="On the whole server, except in channels with their own",
        greeting="Number of the greeting to send, from 1; 0 for none",
    )
    async def choose(
        self,
        interaction: Interaction,
        persona: str,
        everywhere: bool = False,  # noqa: FBT001, FBT002
        greeting: app_commands.Range[int, 0, 100] = 1,
    ) -> None:
        await defer(interaction)
        found = self._context.personas().find(persona)
        if (no := self._refusal(interaction, everywhere=everywhere)) is not None:
            await respond(interaction, no)
        elif found is None:
            available = ", ".join(self._context.personas().keys) or "none yet"
            await respond(interaction, f"There is no persona of that name. Available: {available}.")
        else:
            await self._set_persona(interaction, persona, everywhere=everywhere)
            greeted = "" if everywhere else await _greet(interaction, found, greeting)
            where = "on this server" if everywhere else "here"
            await respond(interaction, f"I am {found.name} {where} from now on. {greeted}".strip())

    @choose.autocomplete("persona")
    async def known(self, _interaction: Interaction, typed: str) -> list[app_commands.Choice[str]]:
        personas = self._context.personas()
        choices = [
            app_commands.Choice(name=f"{found.name} ({key})"[:100], value=key)
            for key in personas.keys
            if (found := personas.find(key)) is not None
            and typed.casefold() in f"{found.name} {key}".casefold()
        ]
        return choices[:_MOST_CHOICES]

    @app_commands.command(name="show", description="My persona here, and the available ones")
    async def show(self, interaction: Interaction) -> None:
        await defer(interaction)
        if (no := self._refusal(interaction, everywhere=False)) is not None:
            await respond(interaction, no)
            return
        personas = self._context.personas()
        place = place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
        now = personas.at(place, self._context.preferences.now.persona(place))
        available = ", ".join(personas.keys) or "none yet"
        await respond(interaction, f"Here I am {now.name}. Available: {available}.")

    @app_commands.command(
        name="clear", description="Return to the persona that my operator configured"
    )
    @app_commands.describe(everywhere="Clear the server's choice instead of this channel's")
    async def clear(
        self,
        interaction: Interaction,
        everywhere: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        await defer(interaction)
        if (no := self._refusal(interaction, everywhere=everywhere)) is not None:
            await respond(interaction, no)
            return
        await self._set_persona(interaction, None, everywhere=everywhere)
        place = place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
        now = self._context.personas().at(place, self._context.preferences.now.persona(place))
        await respond(interaction, f"Done. Here I am {now.name} now.")

    async def _set_persona(
        self, interaction: Interaction, key: str | None, *, everywhere: bool
    ) -> None:
        channel_id = (
            server_id(str(interaction.guild_id)) if everywhere else str(interaction.channel_id)
        )
        await self._context.preferences.choose_persona(Channel(PLATFORM, channel_id), key)

    def _refusal(self, interaction: Interaction, *, everywhere: bool) -> str | None:
        no = refusal(interaction, permission="manage_messages", is_admin=self._is_admin)
        if no is not None or not everywhere:
            return no
        if interaction.guild_id is None:
            return _NO_SERVER
        return refusal(
            interaction,
            permission="manage_guild",
            is_admin=self._is_admin,
            doing="Changing it on the whole server",
        )


class _LoreCommands(app_commands.Group):
    def __init__(self, context: CommandContext, is_admin: IsAdmin) -> None:
        super().__init__(
            name="lore",
            description="My lorebooks",
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self._context = context
        self._is_admin = is_admin

    @app_commands.command(
        name="test", description="Which lore entries a text activates here, and why"
    )
    @app_commands.describe(text="A message")
    async def test(self, interaction: Interaction, text: str) -> None:
        await defer(interaction)
        no = refusal(interaction, permission="manage_messages", is_admin=self._is_admin)
        if no is not None:
            await respond(interaction, no)
            return
        place = place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
        await respond(interaction, self._context.try_lore(text, place))


async def _greet(interaction: Interaction, persona: Persona, number: int) -> str:
    """Send the persona's greeting to the channel; returns a remark when it was not sent."""
    shared = interaction.guild_id is not None
    ready = greetings(persona, interaction.user.display_name, datetime.now(UTC), shared=shared)
    if not ready or number == 0:
        return ""
    if number > len(ready):
        return f"There are only {len(ready)} greetings, so I sent none."
    channel = interaction.channel
    if not isinstance(channel, discord.abc.Messageable):
        return ""
    try:
        for page in finished(ready[number - 1], (), _MOST_PARTS, controls=False):
            await channel.send(
                page.content,
                files=files_of(page),
                allowed_mentions=discord.AllowedMentions.none(),
            )
    except discord.HTTPException as error:
        _log.info("discord.greeting_failed", status=error.status)
        return "I lack the permission to send my greeting here."
    return ""
