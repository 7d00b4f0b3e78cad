"""`/model`: the order of servers that a channel uses."""

import discord
from discord import app_commands

from understudy.conversation.inbox import Channel
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

_MOST_CHOICES = 25
"""Discord's limit per option."""
_MOST_NAMED = 12


def add_model(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_ModelCommands(context, is_admin))


def _order_text(context: CommandContext, interaction: Interaction) -> str:
    place = place_in(interaction.channel, interaction.channel_id, interaction.guild_id)
    roles = getattr(interaction.user, "roles", ())
    found = context.order_at(place, frozenset(str(role.id) for role in roles))
    return "the usual one" if found is None else str(found)


class _ModelCommands(app_commands.Group):
    def __init__(self, context: CommandContext, is_admin: IsAdmin) -> None:
        super().__init__(
            name="model",
            description="Which model servers answer here",
            default_permissions=discord.Permissions(manage_messages=True),
        )
        self._context = context
        self._is_admin = is_admin

    @app_commands.command(name="set", description="Choose an order, a server or a model here")
    @app_commands.describe(name="An order, or the server or model to ask first")
    async def choose(self, interaction: Interaction, name: str) -> None:
        await defer(interaction)
        if (no := self._refusal(interaction)) is not None:
            await respond(interaction, no)
        elif not self._context.orders().entries(name):
            await respond(interaction, f"There is no order of that name. {self._known()}")
        else:
            await self._set(interaction, name)
            await respond(interaction, f"Replies in this channel now come from {name}.")

    @choose.autocomplete("name")
    async def known(self, _interaction: Interaction, typed: str) -> list[app_commands.Choice[str]]:
        names = [n for n in self._context.orders().names() if typed.casefold() in n.casefold()]
        # Discord refuses a longer name or value.
        fitting = [name for name in names if len(name) <= 100]
        return [app_commands.Choice(name=n, value=n) for n in fitting[:_MOST_CHOICES]]

    @app_commands.command(name="show", description="The order here, and what can be chosen")
    async def show(self, interaction: Interaction) -> None:
        await defer(interaction)
        if (no := self._refusal(interaction)) is not None:
            await respond(interaction, no)
            return
        now = _order_text(self._context, interaction)
        await respond(interaction, f"Order here: {now}. {self._known()}")

    @app_commands.command(name="clear", description="Return to the order that is configured")
    async def clear(self, interaction: Interaction) -> None:
        await defer(interaction)
        if (no := self._refusal(interaction)) is not None:
            await respond(interaction, no)
            return
        await self._set(interaction, None)
        now = _order_text(self._context, interaction)
        await respond(interaction, f"Done. Order here: {now}.")

    async def _set(self, interaction: Interaction, name: str | None) -> None:
        channel = Channel(PLATFORM, str(interaction.channel_id))
        await self._context.preferences.choose_candidate(channel, name)

    def _refusal(self, interaction: Interaction) -> str | None:
        return refusal(interaction, permission="manage_messages", is_admin=self._is_admin)

    def _known(self) -> str:
        names = self._context.orders().names()
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"Available: {', '.join(names[:_MOST_NAMED])}{more}."
