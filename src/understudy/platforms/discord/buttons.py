"""The buttons on a reply: Stop while it is written, then Regenerate and Delete.

The button's id contains everything a press needs, so buttons survive restarts.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

import discord

from understudy.platforms.discord.rendering import Controls

_PREFIX = "understudy"
_HISTORY_LIMIT = 30
ACKNOWLEDGED = 40060
"""Discord's code where another process was first."""


class Press(StrEnum):
    STOP = "stop"
    REGENERATE = "again"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class ButtonId:
    press: Press
    author_id: str
    """The person answered; only they, moderators and admins may press."""
    reply_id: str

    def __str__(self) -> str:
        return f"{_PREFIX}:{self.press}:{self.author_id}:{self.reply_id}"

    @staticmethod
    def parse(custom_id: str) -> "ButtonId | None":
        match custom_id.split(":", 3):
            case [prefix, press, author_id, reply_id] if prefix == _PREFIX and press in set(Press):
                return ButtonId(Press(press), author_id, reply_id)
        return None


def view_of(controls: Controls, author_id: str, reply_id: str) -> discord.ui.View | None:
    if controls is Controls.NONE:
        return None
    view = discord.ui.View(timeout=None)
    if controls is Controls.RUNNING:
        view.add_item(_button("Stop", ButtonId(Press.STOP, author_id, reply_id)))
    else:
        view.add_item(_button("Regenerate", ButtonId(Press.REGENERATE, author_id, reply_id)))
        view.add_item(_button("Delete", ButtonId(Press.DELETE, author_id, reply_id)))
    # discord.py does not store a stopped view; presses are recognised by their ids instead.
    view.stop()
    return view


def still_running(message: discord.Message) -> bool:
    """Whether a message of the bot belongs to an unfinished reply."""
    found = (
        ButtonId.parse(item.custom_id or "")
        for row in message.components
        if isinstance(row, discord.ActionRow)
        for item in row.children
        if isinstance(item, discord.Button)
    )
    return any(button is not None and button.press is Press.STOP for button in found)


def _button(label: str, button: ButtonId) -> discord.ui.Button[discord.ui.View]:
    return discord.ui.Button(
        label=label, style=discord.ButtonStyle.secondary, custom_id=str(button)
    )


async def _never(_channel_id: str, _reply_id: str) -> bool:
    return False


async def _unreachable(_reply_id: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ReplyButtons:
    """Handles presses."""

    stop: Callable[[str], bool]
    """False when that reply is not running."""
    regenerate: Callable[[str], Awaitable[str | None]]
    """None when there is no reply to replace."""
    parts: Callable[[str], Awaitable[tuple[str, ...]]]
    """The ids of the messages that carry a reply; empty when unknown."""
    is_admin: Callable[[int], bool]
    runs_elsewhere: Callable[[str, str], Awaitable[bool]] = _never
    """(channel id, reply id) → whether another process writes the reply now."""
    stop_elsewhere: Callable[[str], Awaitable[bool]] = _unreachable
    """Let that process stop it; False where it has to see the press itself."""

    async def pressed(self, interaction: discord.Interaction) -> bool:
        """Handle a press; False when the interaction is not a reply button.

        Every process that is connected with this token receives it, and only one can acknowledge
        it: for Stop that is the one which writes the reply. Where processes share a database, one
        is connected, and passes Stop on.
        """
        button = _button_of(interaction)
        if button is None or interaction.message is None:
            return False
        if not self._may(interaction, button):
            await interaction.response.send_message(
                "Only the person I answered, or a moderator, can do that.", ephemeral=True
            )
            return True
        channel_id, reply_id = str(interaction.channel_id), button.reply_id
        stops = button.press is Press.STOP
        elsewhere = stops and await self.runs_elsewhere(channel_id, reply_id)
        if elsewhere and not await self.stop_elsewhere(reply_id):
            return True
        try:
            await interaction.response.defer()
        except discord.HTTPException as error:
            if error.code != ACKNOWLEDGED:
                raise
            return True
        if not elsewhere:
            await self._perform(button, interaction.message, interaction)
        return True

    def _may(self, interaction: discord.Interaction, button: ButtonId) -> bool:
        user_id = interaction.user.id
        return (
            str(user_id) == button.author_id
            or self.is_admin(user_id)
            or (interaction.guild_id is not None and interaction.permissions.manage_messages)
        )

    async def _perform(
        self, button: ButtonId, message: discord.Message, interaction: discord.Interaction
    ) -> None:
        if button.press is Press.DELETE:
            await self._delete(button, message, interaction.client)
            return
        if button.press is Press.STOP:
            done = self.stop(button.reply_id)
        else:
            done = await self.regenerate(button.reply_id) is not None
        if not done:
            await interaction.followup.send("That reply has ended already.", ephemeral=True)

    async def _delete(
        self, button: ButtonId, last: discord.Message, client: discord.Client
    ) -> None:
        channel = client.get_partial_messageable(last.channel.id)
        known = await self.parts(button.reply_id)
        # Messages of other replies may lie in between, so the channel is searched only when the
        # ids are unknown.
        if not known:
            async for part in _parts(last):
                await part.delete()
        for message_id in reversed(known):
            with suppress(discord.NotFound):
                await channel.get_partial_message(int(message_id)).delete()


def _button_of(interaction: discord.Interaction) -> ButtonId | None:
    if interaction.type is not discord.InteractionType.component:
        return None
    data = interaction.data
    return ButtonId.parse(str(data.get("custom_id", "") if data else ""))


async def _parts(last: discord.Message) -> AsyncIterator[discord.Message]:
    """The messages of a reply, from the last to the first; only the first has a reference."""
    yield last
    if last.reference is not None:
        return
    async for message in last.channel.history(limit=_HISTORY_LIMIT, before=last):
        if message.author.id == last.author.id:
            yield message
            if message.reference is not None:
                return
