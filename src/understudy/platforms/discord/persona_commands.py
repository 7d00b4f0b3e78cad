"""`/persona` and `/lore`: who the bot is in a channel, and which facts a text brings up there."""

from datetime import UTC, datetime

import discord
import structlog
from discord import app_commands

from understudy.conversation.inbox import Channel
from understudy.conversation.personas.registry import Persona, greetings
from understudy.conversation.preferences import server_id
from understudy.platforms.discord.command_context import (
    Asked,
    CommandContext,
    IsAdmin,
    Tree,
    say,
    think,
)
from understudy.platforms.discord.inbound import PLATFORM, place_in
from understudy.platforms.discord.rendering import split

_log = structlog.get_logger()

_MOST_CHOICES = 25
"""What Discord shows under an option."""
_MOST_PARTS = 3
_NOT_YOURS = "Only my operator can do that in direct messages."
_NOT_SERVER = "For the whole server I need to hear that from somebody who may manage the server."


def add_persona(tree: Tree, desk: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_PersonaCommands(desk, is_admin))
    tree.add_command(_LoreCommands(desk, is_admin))


class _PersonaCommands(app_commands.Group):
    def __init__(self, desk: CommandContext, is_admin: IsAdmin) -> None:
        super().__init__(
            name="persona",
            description="Who I am here",
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self._desk = desk
        self._is_admin = is_admin

    @app_commands.command(name="set", description="Be somebody else in this channel or thread")
    @app_commands.describe(
        persona="Who to be",
        everywhere="On the whole server, except where a channel has its own",
        greeting="Which greeting to say, from 1; 0 for none",
    )
    async def choose(
        self,
        asked: Asked,
        persona: str,
        everywhere: bool = False,  # noqa: FBT001, FBT002
        greeting: app_commands.Range[int, 0, 100] = 1,
    ) -> None:
        await think(asked)
        found = self._desk.personas().find(persona)
        if (no := self._refusal(asked, everywhere=everywhere)) is not None:
            await say(asked, no)
        elif found is None:
            there = ", ".join(self._desk.personas().keys) or "none yet"
            await say(asked, f"I know no persona of that name. There are: {there}.")
        else:
            await self._wish(asked, persona, everywhere=everywhere)
            greeted = "" if everywhere else await _greet(asked, found, greeting)
            where = "on this server" if everywhere else "here"
            await say(asked, f"I am {found.name} {where} from now on. {greeted}".strip())

    @choose.autocomplete("persona")
    async def known(self, _asked: Asked, typed: str) -> list[app_commands.Choice[str]]:
        personas = self._desk.personas()
        choices = [
            app_commands.Choice(name=f"{found.name} ({key})"[:100], value=key)
            for key in personas.keys
            if (found := personas.find(key)) is not None
            and typed.casefold() in f"{found.name} {key}".casefold()
        ]
        return choices[:_MOST_CHOICES]

    @app_commands.command(name="show", description="Who I am here, and who I could be")
    async def show(self, asked: Asked) -> None:
        await think(asked)
        personas = self._desk.personas()
        place = place_in(asked.channel, asked.channel_id, asked.guild_id)
        now = personas.at(place, self._desk.preferences.now.persona(place))
        there = ", ".join(personas.keys) or "none yet"
        await say(asked, f"Here I am {now.name}. Personas I know: {there}.")

    @app_commands.command(name="clear", description="Be who my operator made me again")
    @app_commands.describe(everywhere="Forget the server's choice instead of this channel's")
    async def clear(
        self,
        asked: Asked,
        everywhere: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        await think(asked)
        if (no := self._refusal(asked, everywhere=everywhere)) is not None:
            await say(asked, no)
            return
        await self._wish(asked, None, everywhere=everywhere)
        place = place_in(asked.channel, asked.channel_id, asked.guild_id)
        now = self._desk.personas().at(place, self._desk.preferences.now.persona(place))
        await say(asked, f"Done. Here I am {now.name} now.")

    async def _wish(self, asked: Asked, key: str | None, *, everywhere: bool) -> None:
        kept = server_id(str(asked.guild_id)) if everywhere else str(asked.channel_id)
        await self._desk.preferences.choose_persona(Channel(PLATFORM, kept), key)

    def _refusal(self, asked: Asked, *, everywhere: bool) -> str | None:
        """Discord has checked the command's permission, but there is none in direct messages."""
        if self._is_admin(asked.user.id):
            return _NOT_SERVER if everywhere and asked.guild_id is None else None
        if asked.guild_id is None:
            return _NOT_YOURS
        return _NOT_SERVER if everywhere and not asked.permissions.manage_guild else None


class _LoreCommands(app_commands.Group):
    def __init__(self, desk: CommandContext, is_admin: IsAdmin) -> None:
        super().__init__(
            name="lore",
            description="My lorebooks",
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self._desk = desk
        self._is_admin = is_admin

    @app_commands.command(name="test", description="Which facts a text brings up here, and why")
    @app_commands.describe(text="What somebody would say")
    async def test(self, asked: Asked, text: str) -> None:
        await think(asked)
        if asked.guild_id is None and not self._is_admin(asked.user.id):
            await say(asked, _NOT_YOURS)
            return
        place = place_in(asked.channel, asked.channel_id, asked.guild_id)
        await say(asked, self._desk.try_lore(text, place))


async def _greet(asked: Asked, persona: Persona, number: int) -> str:
    """Say the persona's greeting for all to see; what became of it, where that needs words."""
    shared = asked.guild_id is not None
    ready = greetings(persona, asked.user.display_name, datetime.now(UTC), shared=shared)
    if not ready or number == 0:
        return ""
    if number > len(ready):
        return f"There are only {len(ready)} greetings, so I said none."
    channel = asked.channel
    if not isinstance(channel, discord.abc.Messageable):
        return ""
    try:
        for part in split(ready[number - 1])[:_MOST_PARTS]:
            await channel.send(part, allowed_mentions=discord.AllowedMentions.none())
    except discord.HTTPException as error:
        _log.info("discord.greeting_failed", status=error.status)
        return "I may not write my greeting here, though."
    return ""
