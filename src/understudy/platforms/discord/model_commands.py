"""`/model`: the order of servers that a channel uses."""

from discord import app_commands

from understudy.platforms.discord.command_context import (
    Choice,
    CommandContext,
    Interaction,
    IsAdmin,
    ModeratorCommands,
    Tree,
    choices,
    defer,
    order_here,
    respond,
)

_MOST_NAMED = 12


def add_model(tree: Tree, context: CommandContext, is_admin: IsAdmin) -> None:
    tree.add_command(_ModelCommands("model", "Which model servers answer here", context, is_admin))


class _ModelCommands(ModeratorCommands):
    @app_commands.command(name="set", description="Choose an order, a server or a model here")
    @app_commands.describe(name="An order, or the server or model to ask first")
    async def choose(self, interaction: Interaction, name: str) -> None:
        await defer(interaction)
        if (no := self.refusal(interaction)) is not None:
            await respond(interaction, no)
        elif not self.context.orders().entries(name):
            await respond(interaction, f"There is no order of that name. {self._known()}")
        else:
            await self._set(interaction, name)
            await respond(interaction, f"Replies in this channel now come from {name}.")

    @choose.autocomplete("name")
    async def known(self, _interaction: Interaction, typed: str) -> list[Choice]:
        return choices(((name, name) for name in self.context.orders().names()), typed)

    @app_commands.command(name="show", description="The order here, and what can be chosen")
    async def show(self, interaction: Interaction) -> None:
        await defer(interaction)
        text = f"Order here: {self._now(interaction)}. {self._known()}"
        await respond(interaction, self.refusal(interaction) or text)

    @app_commands.command(name="clear", description="Return to the order that is configured")
    async def clear(self, interaction: Interaction) -> None:
        await defer(interaction)
        if (no := self.refusal(interaction)) is not None:
            await respond(interaction, no)
            return
        await self._set(interaction, None)
        await respond(interaction, f"Done. Order here: {self._now(interaction)}.")

    async def _set(self, interaction: Interaction, name: str | None) -> None:
        await self.context.preferences.choose_candidate(self.channel(interaction), name)

    def _now(self, interaction: Interaction) -> str:
        found = order_here(self.context, interaction)
        return "the usual one" if found is None else str(found)

    def _known(self) -> str:
        names = self.context.orders().names()
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        return f"Available: {', '.join(names[:_MOST_NAMED])}{more}."
