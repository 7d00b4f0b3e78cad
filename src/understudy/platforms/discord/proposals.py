"""Asks a person whether a proposed note may be stored, and handles the buttons of that question.

On a server the question is a message without the note: its person alone sees the note, after a
press. A button's id contains everything a press needs, so buttons survive restarts.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import discord
import structlog

from understudy.conversation.follow_ups import Answered
from understudy.memory.commands import MemoryCommands
from understudy.memory.store import NoteScope, Proposal
from understudy.platforms.discord.buttons import ACKNOWLEDGED
from understudy.platforms.discord.inbound import PLATFORM
from understudy.platforms.discord.sender import UNREADABLE, Connected, retry_discord

_PREFIX = "understudy:note"
_QUESTION = "-# I could remember something about you."
_log = structlog.get_logger()


class Press(StrEnum):
    SHOW = "show"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class _ButtonId:
    press: Press
    author_id: str
    """The person whom the note is about; only they may press."""
    proposal_id: str

    def __str__(self) -> str:
        return f"{_PREFIX}:{self.press}:{self.author_id}:{self.proposal_id}"

    @staticmethod
    def of(interaction: discord.Interaction) -> "_ButtonId | None":
        if interaction.type is not discord.InteractionType.component:
            return None
        data = interaction.data
        custom_id = str(data.get("custom_id", "") if data else "")
        match custom_id.removeprefix(f"{_PREFIX}:").split(":"):
            case [press, author_id, proposal_id] if custom_id.startswith(_PREFIX) and press in set(
                Press
            ):
                return _ButtonId(Press(press), author_id, proposal_id)
        return None


async def ask(connected: Connected, proposal: Proposal, answered: Answered) -> None:
    """Send the question, as a reply without a notification; a failure is logged."""
    private = answered.place.guild_id is None
    content = _shown(proposal) if private else _QUESTION
    presses = (Press.YES, Press.NO) if private else (Press.SHOW,)
    trigger = discord.MessageReference(
        message_id=int(answered.messages[-1].inbound.message_id),
        channel_id=int(answered.place.channel_id),
        fail_if_not_exists=False,
    )
    try:
        client = await connected()
        channel = client.get_partial_messageable(int(answered.place.channel_id))
        await retry_discord(
            partial(
                channel.send,
                content,
                view=_view(presses, proposal.scope.author_id, proposal.id),
                reference=trigger,
                silent=True,
                allowed_mentions=discord.AllowedMentions.none(),
            )
        )
    except (*UNREADABLE, TimeoutError) as error:
        _log.info("discord.proposal_not_shown", error=type(error).__name__)


class ProposalButtons:
    """Handles presses."""

    def __init__(self, memory: MemoryCommands) -> None:
        self._memory = memory

    async def pressed(self, interaction: discord.Interaction) -> bool:
        """Handle a press; False when the interaction is not a button of a question."""
        button = _ButtonId.of(interaction)
        if button is None:
            return False
        if str(interaction.user.id) != button.author_id:
            await interaction.response.send_message(
                "Only the person I asked can answer that.", ephemeral=True
            )
            return True
        try:
            if button.press is Press.SHOW:
                await interaction.response.defer(ephemeral=True, thinking=True)
            else:
                await interaction.response.defer()
        except discord.HTTPException as error:
            # Another process with this token was first.
            if error.code != ACKNOWLEDGED:
                raise
            return True
        await self._perform(button, interaction)
        return True

    async def _perform(self, button: _ButtonId, interaction: discord.Interaction) -> None:
        server = "" if interaction.guild_id is None else str(interaction.guild_id)
        scope = NoteScope(PLATFORM, server, button.author_id)
        if button.press is not Press.SHOW:
            yes = button.press is Press.YES
            text = await self._memory.answer(scope, button.proposal_id, yes=yes)
            await interaction.edit_original_response(content=text, view=None)
            return
        proposal = await self._memory.proposal(scope)
        if proposal is None:
            await interaction.followup.send(await self._memory.answer(scope, "", yes=False))
        else:
            view = _view((Press.YES, Press.NO), button.author_id, proposal.id)
            await interaction.followup.send(_shown(proposal), view=view, ephemeral=True)
        if interaction.message is not None:
            with suppress(*UNREADABLE):
                await interaction.message.delete()


_LABELS = {Press.SHOW: "What?", Press.YES: "Remember", Press.NO: "No"}


def _shown(proposal: Proposal) -> str:
    text = discord.utils.escape_markdown(discord.utils.escape_mentions(proposal.text))
    return f"May I remember this about you? “{text}”"


def _view(presses: tuple[Press, ...], author_id: str, proposal_id: str) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for press in presses:
        button: discord.ui.Button[discord.ui.View] = discord.ui.Button(
            label=_LABELS[press],
            style=discord.ButtonStyle.secondary,
            custom_id=str(_ButtonId(press, author_id, proposal_id)),
        )
        view.add_item(button)
    # discord.py does not store a stopped view; presses are recognised by their ids instead.
    view.stop()
    return view
