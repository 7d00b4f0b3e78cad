"""The slash commands of the memory: notes, the summary of a channel, search, and forgetting."""

from functools import partial

from discord import app_commands

from understudy.conversation.inbox import Channel
from understudy.memory.commands import forgotten_text
from understudy.memory.store import Hit, NoteScope
from understudy.platforms.discord.command_context import (
    CommandContext,
    Interaction,
    IsAdmin,
    Tree,
    defer,
    order_here,
    refusal,
    respond,
)
from understudy.platforms.discord.inbound import PLATFORM

_MAX_NOTE = 1000
_MAX_QUERY = 200
_UNREADABLE = "You cannot read the history of this channel."


def add_memory(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_forget(context))
    _add_notes(tree, context)
    _add_summary(tree, context, is_admin)
    _add_search(tree, context)


def channel_of(interaction: Interaction) -> Channel:
    return Channel(PLATFORM, str(interaction.channel_id))


def _scope(interaction: Interaction) -> NoteScope:
    server = "" if interaction.guild_id is None else str(interaction.guild_id)
    return NoteScope(PLATFORM, server, str(interaction.user.id))


def _forget(context: CommandContext) -> app_commands.Group:
    forget: app_commands.Group = app_commands.Group(
        name="forget", description="Delete what I have stored"
    )

    @forget.command(name="me", description="Delete everything I have stored about you")
    async def forget_me(interaction: Interaction) -> None:
        await defer(interaction)
        number = await context.forget(PLATFORM, str(interaction.user.id))
        await respond(interaction, forgotten_text(number))

    @forget.command(name="note", description="Delete one of your notes")
    @app_commands.describe(number="Its number in /memories")
    async def forget_note(
        interaction: Interaction, number: app_commands.Range[int, 1, 1_000_000]
    ) -> None:
        await defer(interaction)
        await respond(interaction, await context.memory.forget_note(_scope(interaction), number))

    return forget


def _add_notes(tree: Tree, context: CommandContext) -> None:
    @tree.command(name="remember", description="Give me a short note to remember about you here")
    @app_commands.describe(text="What I should remember")
    async def remember(
        interaction: Interaction, text: app_commands.Range[str, 1, _MAX_NOTE]
    ) -> None:
        await defer(interaction)
        await respond(interaction, await context.memory.remember(_scope(interaction), text))

    @tree.command(name="memories", description="The notes that I remember for you here")
    async def memories(interaction: Interaction) -> None:
        await defer(interaction)
        await respond(interaction, await context.memory.notes(_scope(interaction)))


def _add_summary(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    moderators = partial(refusal, permission="manage_messages", is_admin=is_admin)
    memory: app_commands.Group = app_commands.Group(
        name="memory", description="My summary of this conversation"
    )

    def no(interaction: Interaction) -> str | None:
        # A direct message is the conversation of the person who writes there.
        return None if interaction.guild_id is None else moderators(interaction)

    @memory.command(name="show", description="Show my summary of the earlier conversation")
    async def show(interaction: Interaction) -> None:
        await defer(interaction)
        unreadable = _unreadable(interaction)
        text = unreadable or await context.memory.summary(channel_of(interaction))
        await respond(interaction, text)

    @memory.command(name="forget", description="Delete my summary of the earlier conversation")
    async def forget(interaction: Interaction) -> None:
        await defer(interaction)
        text = no(interaction) or await context.memory.forget_summary(channel_of(interaction))
        await respond(interaction, text)

    @tree.command(name="compact", description="Replace earlier messages by a summary, in prompts")
    @app_commands.default_permissions(manage_messages=True)
    async def compact(interaction: Interaction) -> None:
        await defer(interaction)
        found = order_here(context, interaction)
        order = None if found is None else found.entries
        text = no(interaction) or await context.memory.compact(channel_of(interaction), order)
        await respond(interaction, text)

    tree.add_command(memory)


def _add_search(tree: Tree, context: CommandContext) -> None:
    @tree.command(name="search", description="Find earlier messages of this channel")
    @app_commands.describe(words="All of these words; of the last one the beginning is enough")
    async def search(
        interaction: Interaction, words: app_commands.Range[str, 1, _MAX_QUERY]
    ) -> None:
        await defer(interaction)
        link = partial(_link, server=interaction.guild_id)
        text = _unreadable(interaction) or await context.memory.search(
            channel_of(interaction), words, link
        )
        await respond(interaction, text)


def _unreadable(interaction: Interaction) -> str | None:
    """The caller sees the channel, but may not be allowed to read what was said before."""
    if interaction.guild_id is None or interaction.permissions.read_message_history:
        return None
    return _UNREADABLE


def _link(hit: Hit, server: int | None) -> str:
    place = "@me" if server is None else server
    return f" <https://discord.com/channels/{place}/{hit.channel.id}/{hit.line.message_id}>"
