"""`understudy persona`: character cards in and out of the personas folder."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.options import ConfigFile, load
from understudy.control_characters import visible

if TYPE_CHECKING:
    from understudy.config.load import Config
    from understudy.conversation.personas.card import Card

app = typer.Typer(no_args_is_help=True)


@app.callback()
def persona() -> None:
    """Import and export character cards; list the personas."""


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A card: PNG, JSON, CHARX or YAML.")],
    key: Annotated[str | None, typer.Option("--as", help="The key to store it under.")] = None,
    replace: Annotated[  # noqa: FBT002
        bool, typer.Option("--replace", help="Replace the card of the same key.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Import a character card into the personas folder; a running bot reloads it at once."""
    from understudy.conversation.personas.importing import ImportOptions, import_card
    from understudy.errors import PersonaError, PersonaExists

    options = ImportOptions(key, file.stem, replace=replace)
    loaded = load(config)
    try:
        imported = import_card(_read(file), _folder(loaded), options)
    except PersonaExists as error:
        raise PersonaError(f"{error} (--as), or replace it (--replace)") from None
    done = "replaced" if imported.replaced else "was imported as"
    typer.echo(
        visible(f"{imported.file.card.name} {done} persona {imported.key!r} ({imported.path}).")
    )
    _describe(imported.file.card)
    if left_out := _lore_left_out(loaded, imported.key):
        typer.echo(visible(f"note: {left_out}"), err=True)


@app.command()
def export(
    key: Annotated[str, typer.Argument(help="The persona.")],
    to: Annotated[Path, typer.Argument(help="A file ending in .png, .json or .charx.")],
    config: ConfigFile = None,
) -> None:
    """Write a persona's card to a file, with every field of the original."""
    from understudy.conversation.personas.importing import CARD_ENDINGS, export_card
    from understudy.errors import PersonaError

    folder = _folder(load(config))
    found = sorted(p for p in folder.glob("*") if p.stem == key and p.suffix in CARD_ENDINGS)
    if not found:
        there = ", ".join(sorted({p.stem for p in folder.glob("*.*")})) or "none"
        raise PersonaError(f"there is no card {key!r} in {folder}; there are: {there}")
    export_card(found[0], to)
    typer.echo(f"Exported {key} to {to}.")


@app.command("list")
def list_(config: ConfigFile = None) -> None:
    """List the personas and what each one contains."""
    from understudy.conversation.personas.folder import load_library
    from understudy.conversation.personas.registry import Personas

    loaded = load(config)
    personas = Personas(
        loaded.settings.persona, load_library(loaded.settings.persona, _base(loaded))
    )
    for key in personas.keys:
        one = personas.find(key)
        assert one is not None
        made_of = "card" if one.card else "text"
        entries = sum(len(book.book.entries) for book in one.books)
        lore = f", {entries} lore entries" if entries else ""
        mark = "  (default)" if key == loaded.settings.persona.default else ""
        typer.echo(visible(f"{key}: {one.name}, {made_of}{lore}{mark}"))
    for warning in personas.warnings:
        typer.echo(visible(f"not used: {warning}"), err=True)
    if not personas.keys:
        typer.echo(f"No personas in {_folder(loaded)} yet; `understudy persona import FILE`.")


def _describe(card: "Card") -> None:
    """Print what the operator should know about a card: its notes and problems in its file."""
    if card.book is not None:
        typer.echo(f"It contains {len(card.book.entries)} lore entries.")
    if card.system_prompt.strip():
        typer.echo("It has its own system prompt (persona.cards_replace_style).")
    if card.creator_notes.strip():
        typer.echo(visible(f"\nCreator's notes:\n{card.creator_notes.strip()[:2000]}"))
    for note in card.notes[:20]:
        typer.echo(visible(f"note: {note}"), err=True)


def _lore_left_out(config: "Config", key: str) -> str:
    from understudy.conversation.personas.folder import load_library
    from understudy.conversation.personas.registry import Personas
    from understudy.conversation.prompt.preview import lore_left_out
    from understudy.errors import ConfigError

    try:
        library = load_library(config.settings.persona, _base(config))
    except ConfigError:
        # Another persona or lorebook is at fault; `config check` says which.
        return ""
    personas = Personas(config.settings.persona, library)
    persona = personas.find(key)
    most = config.settings.conversation.max_prompt_tokens
    return "" if persona is None else lore_left_out(personas, persona, most, datetime.now(UTC))


def _base(config: "Config") -> Path:
    return config.path.parent if config.path is not None else Path()


def _folder(config: "Config") -> Path:
    return _base(config) / config.settings.persona.folder


def _read(file: Path) -> bytes:
    from understudy.conversation.personas.containers import MAX_CHARX
    from understudy.errors import PersonaError

    try:
        if file.stat().st_size > MAX_CHARX:
            raise PersonaError(f"{file} is larger than {MAX_CHARX // 1024**2} MB")
        return file.read_bytes()
    except OSError as error:
        raise PersonaError(f"{file}: {error.strerror}") from None
