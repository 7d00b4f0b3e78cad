"""`understudy lore`: test which lorebook entries a text activates."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.options import AsJson, ConfigFile, load
from understudy.control_characters import visible

app = typer.Typer(no_args_is_help=True)


@app.callback()
def lore() -> None:
    """Test lorebooks."""


@app.command("test")
def try_out(  # noqa: PLR0913 - the options of a command
    text: Annotated[str, typer.Argument(help="The message to test.")],
    persona: Annotated[str | None, typer.Option(help="The persona to use.")] = None,
    channel: Annotated[str, typer.Option(help="The channel's id.")] = "",
    server: Annotated[str, typer.Option(help="The server's id.")] = "",
    context: Annotated[
        int | None, typer.Option(help="The model's context length in tokens.")
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
    config: ConfigFile = None,
) -> None:
    """Show which entries a text activates, which not and why, and the resulting prompt."""
    from understudy.conversation.messages import Place
    from understudy.conversation.personas.folder import load_library
    from understudy.conversation.personas.registry import Personas
    from understudy.conversation.prompt.preview import Question, describe, describe_lore, preview
    from understudy.errors import PersonaError
    from understudy.routing.request import Fit

    loaded = load(config)
    base = loaded.path.parent if loaded.path is not None else Path()
    personas = Personas(loaded.settings.persona, load_library(loaded.settings.persona, base))
    if persona is not None and persona not in personas.keys:
        raise PersonaError(
            f"no persona {persona!r}; there are: {', '.join(personas.keys) or 'none'}"
        )
    place = Place("discord", channel, guild_id=server or None)
    question = Question(
        text=text,
        place=place,
        persona=personas.at(place, persona),
        fit=Fit(context, reply_tokens=0, vision=False, tokens_per_char=0.3),
        most_tokens=loaded.settings.conversation.max_prompt_tokens,
        now=datetime.now(UTC),
    )
    shown = preview(personas, question)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "persona": shown.persona,
                    "entries": describe_lore(shown.lore),
                    "prompt": [
                        {"part": p.name, "tokens": p.tokens, "text": p.text} for p in shown.pieces
                    ],
                },
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    typer.echo(visible(describe(shown)))
