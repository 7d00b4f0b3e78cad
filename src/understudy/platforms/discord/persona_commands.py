"""`/persona` and `/lore`: the persona of a channel, and which lore a text activates there."""

from datetime import UTC, datetime

import discord
import structlog
from discord import app_commands

from understudy.conversation.inbox import Channel
from understudy.conversation.personas.registry import Persona, greetings
from understudy.conversation.preferences import server_id
from understudy.platforms.discord.command_context import (
    Choice,
    CommandContext,
    Interaction,
    IsAdmin,
    ModeratorCommands,
    Tree,
    choices,
    defer,
    refusal,
    respond,
)
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.rendering import finished
from understudy.platforms.discord.sender import files_of

_log = structlog.get_logger()

_MOST_PARTS = 5
"""A longer greeting is attached as a file too."""
_NO_SERVER = "Direct messages belong to no server."


def add_persona(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_PersonaCommands("persona", "My persona here", context, is_admin))
    tree.add_command(_LoreCommands("lore", "My lorebooks", context, is_admin))


class _PersonaCommands(ModeratorCommands):
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
        found = self.context.personas().find(persona)
        if (no := self._refusal(interaction, everywhere=everywhere)) is not None:
            await respond(interaction, no)
        elif found is None:
            available = ", ".join(self.context.personas().keys) or "none yet"
            await respond(interaction, f"There is no persona of that name. Available: {available}.")
        else:
            await self._set_persona(interaction, persona, everywhere=everywhere)
            greeted = "" if everywhere else await _greet(interaction, found, greeting)
            where = "on this server" if everywhere else "here"
            await respond(interaction, f"I am {found.name} {where} from now on. {greeted}".strip())

    @choose.autocomplete("persona")
    async def known(self, _interaction: Interaction, typed: str) -> list[Choice]:
        personas = self.context.personas()
        known = ((key, personas.find(key)) for key in personas.keys)
        return choices(((f"{one.name} ({key})", key) for key, one in known if one), typed)

    @app_commands.command(name="show", description="My persona here, and the available ones")
    async def show(self, interaction: Interaction) -> None:
        await defer(interaction)
        if (no := self.refusal(interaction)) is not None:
            await respond(interaction, no)
            return
        personas = self.context.personas()
        place = self.place(interaction)
        now = personas.at(place, self.context.preferences.now.persona(place))
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
        place = self.place(interaction)
        now = self.context.personas().at(place, self.context.preferences.now.persona(place))
        await respond(interaction, f"Done. Here I am {now.name} now.")

    async def _set_persona(
        self, interaction: Interaction, key: str | None, *, everywhere: bool
    ) -> None:
        channel = self.channel(interaction)
        if everywhere:
            channel = Channel(PLATFORM, server_id(str(interaction.guild_id)))
        await self.context.preferences.choose_persona(channel, key)

    def _refusal(self, interaction: Interaction, *, everywhere: bool) -> str | None:
        no = self.refusal(interaction)
        if no is not None or not everywhere:
            return no
        if interaction.guild_id is None:
            return _NO_SERVER
        return refusal(
            interaction,
            permission="manage_guild",
            is_admin=self.is_admin,
            doing="Changing it on the whole server",
        )


class _LoreCommands(ModeratorCommands):
    @app_commands.command(
        name="test", description="Which lore entries a text activates here, and why"
    )
    @app_commands.describe(text="A message")
    async def test(self, interaction: Interaction, text: str) -> None:
        await defer(interaction)
        no = self.refusal(interaction)
        await respond(interaction, no or self.context.try_lore(text, self.place(interaction)))


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
