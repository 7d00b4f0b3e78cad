"""The slash commands. Each defers first: Discord gives three seconds, and a busy host may need
more to look something up."""

import re
import time
from typing import Literal

import discord
import structlog
from discord import app_commands

from understudy.conversation.inbox import Channel
from understudy.errors import StorageError
from understudy.platforms.discord.command_context import (
    Asked,
    Client,
    CommandContext,
    IsAdmin,
    Tree,
    say,
    think,
)
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.persona_commands import add_persona

_log = structlog.get_logger()

Level = Literal["debug", "info", "warning", "error"]

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}
_NOT_MINE = "I have no reply of mine on record there."
_ADMINS_ONLY = "Only my operator can do that."
_moderators = app_commands.default_permissions(manage_messages=True)


class CommandTree(app_commands.CommandTree[Client]):
    """Says so when a command fails, whatever the cause; the cause goes to the log."""

    async def on_error(self, asked: Asked, error: app_commands.AppCommandError, /) -> None:
        cause = error.__cause__ or error
        _log.error(
            "discord.command_failed",
            command=asked.command.qualified_name if asked.command else "",
            error=type(cause).__name__,
        )
        words = "I can't reach my memory right now." if isinstance(cause, StorageError) else ""
        try:
            await say(asked, words or "That didn't work, sorry. My operator finds why in the log.")
        except discord.HTTPException:
            _log.info("discord.command_unanswered")


def build_tree(client: Client, desk: CommandContext, is_admin: IsAdmin) -> Tree:
    """All commands over one desk."""
    tree = CommandTree(client)
    _add_why(tree, desk)
    _add_memory(tree, desk)
    _add_privacy(tree, desk)
    _add_mute(tree, desk)
    _add_operation(tree, desk, is_admin)
    add_persona(tree, desk, is_admin)
    return tree


async def sync_if_changed(tree: Tree) -> bool:
    """Tell Discord of the commands only when they differ: it counts what is created."""
    known = [_outline(_fetched(command)) for command in await tree.fetch_commands()]
    wanted = [_outline(command.to_dict(tree)) for command in tree.get_commands()]
    if sorted(known, key=repr) == sorted(wanted, key=repr):
        return False
    await tree.sync()
    return True


def _fetched(command: app_commands.AppCommand) -> dict[str, object]:
    allowed = command.default_member_permissions
    told = {"default_member_permissions": None if allowed is None else allowed.value}
    return {**command.to_dict(), **told}


def _outline(command: object) -> tuple[object, ...]:
    """What makes two descriptions of a command the same."""
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


def _channel(asked: Asked) -> Channel:
    return Channel(PLATFORM, str(asked.channel_id))


def _add_why(tree: Tree, desk: CommandContext) -> None:
    async def explain(asked: Asked, reply_id: str | None) -> None:
        told = await desk.why(reply_id) if reply_id else None
        await say(asked, told or _NOT_MINE)

    @tree.command(name="why", description="Which model answered, and what failed before it")
    @app_commands.describe(message="Link or id of a reply of mine; else my last one here")
    async def why(asked: Asked, message: str | None = None) -> None:
        await think(asked)
        if message is None:
            await explain(asked, await desk.store.last_reply(_channel(asked)))
            return
        found = re.search(r"(\d{17,20})\s*\Z", message)
        await explain(asked, await desk.store.reply_at(PLATFORM, found[1]) if found else None)

    @tree.context_menu(name="Why this reply?")
    async def why_this(asked: Asked, message: discord.Message) -> None:
        await think(asked)
        await explain(asked, await desk.store.reply_at(PLATFORM, str(message.id)))


def _add_memory(tree: Tree, desk: CommandContext) -> None:
    @tree.command(name="reset", description="Start this conversation afresh")
    @_moderators
    async def reset(asked: Asked) -> None:
        await think(asked)
        await desk.store.reset(_channel(asked))
        await say(asked, "Done. I start afresh here and look at nothing said before.")

    forget: app_commands.Group = app_commands.Group(
        name="forget", description="Delete what I have kept"
    )

    @forget.command(name="me", description="Delete everything I have kept of you")
    async def forget_me(asked: Asked) -> None:
        await think(asked)
        number = await desk.forget(PLATFORM, str(asked.user.id))
        await say(asked, f"Done. I deleted what {number} messages of yours said, and your name.")

    tree.add_command(forget)


def _add_privacy(tree: Tree, desk: CommandContext) -> None:
    @tree.command(name="privacy", description="What I read, keep and pass on")
    async def privacy(asked: Asked) -> None:
        await say(asked, desk.privacy())

    @tree.command(name="optout", description="Leave your messages unread, or read them again")
    @app_commands.describe(back="Take part again")
    async def optout(asked: Asked, back: bool = False) -> None:  # noqa: FBT001, FBT002
        await think(asked)
        await desk.preferences.opt_out(PLATFORM, str(asked.user.id), out=not back)
        out = "I leave your messages unread from now on. `/optout back:True` ends that."
        await say(asked, "Welcome back. I read your messages again." if back else out)


def _add_mute(tree: Tree, desk: CommandContext) -> None:
    @tree.command(name="mute", description="Keep me silent in this channel for a while")
    @app_commands.describe(duration="Such as 30m, 2h or 1d; 0 lets me speak again")
    @app_commands.guild_only()
    @_moderators
    async def mute(asked: Asked, duration: str = "1h") -> None:
        await think(asked)
        seconds = _seconds(duration)
        if seconds is None:
            await say(asked, f"I don't understand “{duration[:50]}”. Try 30m, 2h, 1d, or 0.")
            return
        until = time.time() + seconds if seconds else 0.0
        await desk.preferences.mute(_channel(asked), until)
        silent = f"I keep silent here until <t:{int(until)}:t> (<t:{int(until)}:R>)."
        await say(asked, silent if seconds else "I may speak here again.")


def _seconds(duration: str) -> float | None:
    if duration.strip() == "0":
        return 0.0
    found = re.fullmatch(r"\s*(\d{1,4})\s*([mhd])\s*", duration.lower())
    return float(found[1]) * _SECONDS[found[2]] if found else None


def _add_operation(tree: Tree, desk: CommandContext, is_admin: IsAdmin) -> None:
    def may(asked: Asked) -> bool:
        """Discord has checked the permission already, but there is none in direct messages."""
        return asked.guild_id is not None or is_admin(asked.user.id)

    @tree.command(name="providers", description="How my model servers are doing")
    @app_commands.default_permissions(manage_guild=True)
    async def providers(asked: Asked) -> None:
        await say(asked, desk.providers() if may(asked) else _ADMINS_ONLY)

    @tree.command(name="usage", description="Your replies, tokens and cost; the operator sees all")
    async def usage(asked: Asked) -> None:
        await think(asked)
        everybody = is_admin(asked.user.id)
        told = await desk.usage(None if everybody else f"{PLATFORM}:{asked.user.id}")
        await say(asked, told or "Nothing yet.")

    @tree.command(name="loglevel", description="How much I write to my log; for my operator")
    @app_commands.default_permissions(administrator=True)
    async def loglevel(asked: Asked, level: Level) -> None:
        if not is_admin(asked.user.id):
            await say(asked, _ADMINS_ONLY)
            return
        desk.set_log_level(level)
        await say(asked, f"I log from {level.upper()} up now, until I am restarted.")
