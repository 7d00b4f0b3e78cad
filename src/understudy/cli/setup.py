"""`understudy setup`: a short conversation that writes `config.yaml` and `.env`."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import ConfigFile

if TYPE_CHECKING:
    from understudy.app.setup.files import SetupPlan
    from understudy.cli.setup_dialogue import SetupFlags
    from understudy.config.load import Config

Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="The bot's name.")]
OpenRouterKey = Annotated[
    Path | None,
    typer.Option(
        "--openrouter-key-file",
        metavar="FILE",
        help="A file with an OpenRouter key; - reads stdin.",
    ),
]
DiscordToken = Annotated[
    Path | None,
    typer.Option(
        "--discord-token-file",
        metavar="FILE",
        help="A file with a Discord bot token; - reads stdin.",
    ),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server", metavar="URL", help="Address of a model server to add; can be repeated."
    ),
]
Ports = Annotated[
    list[int] | None,
    typer.Option(
        "--port",
        metavar="PORT",
        help="Look for model servers on this port of this machine; can be repeated.",
        show_default="the usual ports",
    ),
]
Found = Annotated[bool, typer.Option("--found/--no-found", help="Add model servers found here.")]
OwnModel = Annotated[
    bool | None,
    typer.Option(
        "--own-model/--no-own-model",
        help="Fetch a small model (93 MB) that answers when nothing else does.",
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a key or token that is set already.")
]
Reply = Annotated[bool, typer.Option("--reply/--no-reply", help="End with a first reply.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: flags and defaults decide.")]


def setup(  # noqa: PLR0913 - one per option
    config: ConfigFile = None,
    name: Name = None,
    openrouter_key_file: OpenRouterKey = None,
    discord_token_file: DiscordToken = None,
    server: Servers = None,
    port: Ports = None,
    found: Found = True,  # noqa: FBT002
    own_model: OwnModel = None,
    replace: Replace = False,  # noqa: FBT002
    reply: Reply = True,  # noqa: FBT002
    yes: Yes = False,  # noqa: FBT002
) -> None:
    """Find model servers, ask for keys, test them, and write config.yaml and .env.

    Every question can be skipped with Enter. Run it again to add things.
    Without a terminal, or with --yes, nothing is asked.
    """
    from understudy.cli.setup_dialogue import SetupFlags

    flags = SetupFlags(
        name=name,
        openrouter_key=_secret(openrouter_key_file),
        discord_token=_secret(discord_token_file),
        servers=tuple(server or ()),
        ports=tuple(port or ()),
        add_found=found,
        own_model=own_model,
        replace=replace,
    )
    asks = not yes and sys.stdin.isatty()
    written = set_up(config, flags, asks=asks)
    if reply:
        _first_reply(written)
    typer.echo("\nStart the bot:  understudy run")


def set_up(path: Path | None, flags: "SetupFlags | None" = None, *, asks: bool = True) -> "Config":
    """The conversation without its last step. Returns the configuration that is in force then.

    Raises ConfigError, and then nothing was written.
    """
    from understudy.app.setup.files import load_written, plan, read_files
    from understudy.cli.setup_dialogue import SetupDialogue, SetupFlags

    files = read_files(path)
    answers = asyncio.run(SetupDialogue(files, flags or SetupFlags(), asks=asks).run())
    planned = plan(files, answers)
    if planned.is_empty:
        typer.echo("\nNothing to write: the files are as they should be.")
    else:
        _write(planned, asks=asks)
    if answers.own_model:
        _fetch_own_model()
    return load_written(files.config)


def _write(planned: "SetupPlan", *, asks: bool) -> None:
    from understudy.app.setup.files import write

    typer.echo(f"\nThis will be written:\n{planned.describe()}")
    if asks and not typer.confirm("Write it?", default=True):
        typer.echo("Nothing was written.")
        raise typer.Exit(1)
    for path in write(planned):
        typer.echo(f"Wrote {path}")


def _fetch_own_model() -> None:
    from understudy.cli.models import fetch
    from understudy.model_files.catalogue import SMALLEST

    fetch(SMALLEST)


def _first_reply(config: "Config") -> None:
    """One real reply, so that a person sees it work. A failure is explained by its route."""
    from understudy.app.one_shot import FIRST_MESSAGE, ask_once
    from understudy.app.run import NEXT_STEP
    from understudy.cli.options import logs_for
    from understudy.control_characters import visible
    from understudy.routing.candidates import usable_providers
    from understudy.routing.records import describe_route

    if not usable_providers(config.settings.model):
        typer.echo(f"\n{NEXT_STEP}")
        return
    typer.echo(f"\nYou: {FIRST_MESSAGE}")
    logs = logs_for(config, verbose=False, in_dialogue=True)
    answer = asyncio.run(ask_once(config, logs, FIRST_MESSAGE))
    typer.echo(f"{config.settings.persona.name}: {visible(answer.text)}")
    typer.echo(describe_route(answer.record.attempts))


def _secret(path: Path | None) -> str | None:
    """The text of a file, without spaces and line feeds around it. Raises ConfigError."""
    from understudy.errors import ConfigError

    if path is None:
        return None
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text.") from error
    if not text.strip():
        raise ConfigError(f"{path} is empty.")
    return text.strip()
