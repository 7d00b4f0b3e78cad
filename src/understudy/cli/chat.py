"""`understudy chat`: the bot in this terminal."""

import asyncio
import sys
from typing import TYPE_CHECKING

import typer

from understudy.cli.options import ConfigFile, Verbose, load, logs_for

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.observability.logs import Logs


def chat(config: ConfigFile = None, verbose: Verbose = False) -> None:  # noqa: FBT002
    """Chat with the bot in this terminal, with the route under each reply."""
    loaded = load(config)
    logs = logs_for(loaded, verbose=verbose, in_dialogue=True)
    asyncio.run(_chat(loaded, logs))


async def _chat(config: "Config", logs: "Logs") -> None:
    from understudy.app.bot import answering, open_bot
    from understudy.app.reload import watching_for_changes
    from understudy.app.run import require_provider
    from understudy.app.terminal import TerminalCommands
    from understudy.conversation.dependencies import new_id
    from understudy.platforms.terminal import (
        HELP,
        PLATFORM,
        PROMPT,
        Screen,
        TerminalChat,
    )
    from understudy.platforms.terminal_input import editing_mode, listening

    require_provider(config)
    async with open_bot(config, logs) as bot:
        name = config.settings.persona.name
        screen = Screen(sys.stdout, name=name, held=logs.held)
        bot.messages.register(PLATFORM, screen.open_delivery)
        async with answering(bot, grace_s=0), watching_for_changes(bot):
            typed_by_a_person = sys.stdin.isatty()
            if typed_by_a_person:
                typer.echo(f"You are talking to {name}. {HELP}\n")
            commands = TerminalCommands(bot)
            if typed_by_a_person and (greeting := await commands.greeting()):
                screen.aside(f"{greeting}\n")
            dialogue = TerminalChat(
                bot.messages,
                screen,
                new_id,
                prompt=PROMPT if typed_by_a_person else "",
                commands=commands.table(),
                attach=commands.attach,
            )
            bot.memory.show_proposals(PLATFORM, dialogue.propose)
            with (
                editing_mode(0, sys.stdout) as editing,
                listening(dialogue, editing=editing),
            ):
                await dialogue.run()
