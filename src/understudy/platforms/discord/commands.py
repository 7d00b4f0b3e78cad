"""The slash commands. Each defers first: Discord allows three seconds, and a lookup on a busy host
may take longer."""

import re
import time
from functools import partial
from typing import Literal

import discord
import structlog
from discord import app_commands

from understudy.errors import StorageError
from understudy.platforms.discord.access import can_read, lacking
from understudy.platforms.discord.command_context import (
    Client,
    CommandContext,
    Interaction,
    IsAdmin,
    Tree,
    defer,
    refusal,
    respond,
)
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.memory_commands import add_memory, channel_of
from understudy.platforms.discord.model_commands import add_model
from understudy.platforms.discord.persona_commands import add_persona

_log = structlog.get_logger()

Level = Literal["debug", "info", "warning", "error"]

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_NOT_MINE = "I have no record of a reply there."
_ADMINS_ONLY = "Only my operator can do that."
_UNREADABLE = "You cannot read the channel of that message."
_moderators = app_commands.default_permissions(manage_messages=True)


class CommandTree(app_commands.CommandTree[Client]):
    """Reports every failed command to its caller and logs the cause."""

    async def on_error(
        self, interaction: Interaction, error: app_commands.AppCommandError, /
    ) -> None:
        cause = error.__cause__ or error
        _log.error(
            "discord.command_failed",
            command=interaction.command.qualified_name if interaction.command else "",
            error=type(cause).__name__,
            exc_info=cause,
        )
        words = "My database is not available right now." if isinstance(cause, StorageError) else ""
        try:
            await respond(
                interaction, words or "That failed, sorry. The cause is in my operator's log."
            )
        except discord.HTTPException:
            _log.info("discord.command_unanswered")


def build_tree(client: Client, context: CommandContext, is_admin: IsAdmin) -> Tree:
    """All commands, bound to one context."""
    tree = CommandTree(client)
    _add_why(tree, context)
    _add_reset(tree, context, is_admin)
    add_memory(tree, context, is_admin)
    _add_privacy(tree, context)
    _add_mute(tree, context, is_admin)
    _add_operation(tree, context, is_admin)
    add_persona(tree, context, is_admin)
    add_model(tree, context, is_admin)
    return tree


async def sync_if_changed(tree: Tree) -> bool:
    """Register the commands only when they differ: Discord limits creations per day."""
    known = [_outline(_fetched(command)) for command in await tree.fetch_commands()]
    wanted = [_outline(command.to_dict(tree)) for command in tree.get_commands()]
    if sorted(known, key=repr) == sorted(wanted, key=repr):
        return False
    await tree.sync()
    return True


def _fetched(command: app_commands.AppCommand) -> dict[str, object]:
    allowed = command.default_member_permissions
    text = {"default_member_permissions": None if allowed is None else allowed.value}
    return {**command.to_dict(), **text}


def _outline(command: object) -> tuple[object, ...]:
    """The fields in which two versions of a command are compared."""
    if not isinstance(command, dict):
        return ()
    options = tuple(_outline(option) for option in command.get("options") or ())
    choices = tuple(choice["value"] for choice in command.get("choices") or ())
    allowed = command.get("default_member_permissions")
    return (
        command["name"],
        command.get("type", 1),
        command.get("description", ""),
        bool(command.get("required")),
        None if allowed is None else int(allowed),
        options,
        choices,
    )


def _add_why(tree: Tree, context: CommandContext) -> None:
    async def explain(interaction: Interaction, reply_id: str | None) -> None:
        text = await context.why(reply_id) if reply_id else None
        await respond(interaction, text or _NOT_MINE)

    async def explain_message(interaction: Interaction, message_id: str) -> None:
        reply_id = await context.store.reply_at(PLATFORM, message_id)
        channel = await context.store.channel_of_reply(reply_id) if reply_id else None
        if channel is not None and not await _reads(interaction, int(channel.id)):
            await respond(interaction, _UNREADABLE)
        else:
            await explain(interaction, reply_id)

    @tree.command(name="why", description="Which model answered, and what failed before")
    @app_commands.describe(message="Link or id of one of my replies; default: my last one here")
    async def why(interaction: Interaction, message: str | None = None) -> None:
        await defer(interaction)
        if message is None:
            await explain(interaction, await context.store.last_reply(channel_of(interaction)))
        elif found := re.search(r"(\d{17,20})\s*\Z", message):
            await explain_message(interaction, found[1])
        else:
            await explain(interaction, None)

    @tree.context_menu(name="Why this reply?")
    async def why_this(interaction: Interaction, message: discord.Message) -> None:
        await defer(interaction)
        await explain_message(interaction, str(message.id))


async def _reads(interaction: Interaction, channel_id: int) -> bool:
    """Whether the caller can read that channel. They see the one where they call the command."""
    here = interaction.channel_id == channel_id
    return here or await can_read(interaction.client, interaction.user, channel_id)


def _add_reset(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    moderators = partial(refusal, permission="manage_messages", is_admin=is_admin)

    @tree.command(name="reset", description="Ignore everything said here so far")
    @_moderators
    async def reset(interaction: Interaction) -> None:
        await defer(interaction)
        # A direct message is the conversation of the person who writes there.
        if interaction.guild_id is not None and (no := moderators(interaction)) is not None:
            await respond(interaction, no)
            return
        await context.store.reset(channel_of(interaction))
        await respond(interaction, "Done. I ignore everything said here before this.")


def _add_privacy(tree: Tree, context: CommandContext) -> None:
    @tree.command(name="privacy", description="What I read, store and send to model servers")
    async def privacy(interaction: Interaction) -> None:
        await respond(interaction, context.privacy())

    @tree.command(name="optout", description="Stop reading your messages, or start again")
    @app_commands.describe(back="Take part again")
    async def optout(interaction: Interaction, back: bool = False) -> None:  # noqa: FBT001, FBT002
        await defer(interaction)
        await context.preferences.opt_out(PLATFORM, str(interaction.user.id), out=not back)
        out = "I no longer read your messages. `/optout back:True` ends that."
        await respond(interaction, "Welcome back. I read your messages again." if back else out)


def _add_mute(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    @tree.command(name="mute", description="Silence me in this channel for a while")
    @app_commands.describe(duration="For example 30m, 2h or 1d; 0 ends it")
    @app_commands.guild_only()
    @_moderators
    async def mute(interaction: Interaction, duration: str = "1h") -> None:
        await defer(interaction)
        no = refusal(interaction, permission="manage_messages", is_admin=is_admin)
        if no is not None:
            await respond(interaction, no)
            return
        seconds = _seconds(duration)
        if seconds is None:
            await respond(
                interaction, f"I don't understand “{duration[:50]}”. Try 30m, 2h, 1d, or 0."
            )
            return
        until = time.time() + seconds if seconds else 0.0
        await context.preferences.mute(channel_of(interaction), until)
        silent = f"I stay silent here until <t:{int(until)}:t> (<t:{int(until)}:R>)."
        await respond(interaction, silent if seconds else "I may speak here again.")


def _seconds(duration: str) -> float | None:
    if duration.strip() == "0":
        return 0.0
    found = re.fullmatch(r"\s*(\d{1,4})\s*([mhd])\s*", duration.lower())
    return float(found[1]) * _SECONDS[found[2]] if found else None


def _add_operation(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    @tree.command(name="providers", description="The state of my model servers")
    @app_commands.default_permissions(manage_guild=True)
    async def providers(interaction: Interaction) -> None:
        no = refusal(interaction, permission="manage_guild", is_admin=is_admin)
        guild, me = interaction.guild, interaction.client.user
        missing = lacking(guild, me.id) if guild is not None and me is not None else []
        await respond(interaction, no or "\n".join([context.providers(), *missing]))

    @tree.command(name="usage", description="Your replies, tokens and cost; the operator sees all")
    async def usage(interaction: Interaction) -> None:
        await defer(interaction)
        all_users = is_admin(interaction.user.id)
        text = await context.usage(None if all_users else f"{PLATFORM}:{interaction.user.id}")
        await respond(interaction, text or "Nothing yet.")

    @tree.command(name="loglevel", description="Set my log level; for my operator")
    @app_commands.default_permissions(administrator=True)
    async def loglevel(interaction: Interaction, level: Level) -> None:
        if not is_admin(interaction.user.id):
            await respond(interaction, _ADMINS_ONLY)
            return
        context.set_log_level(level)
        await respond(interaction, f"My log level is {level.upper()} until I am restarted.")
