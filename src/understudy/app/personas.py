"""Personas on the operator's page: list, preview, import, choose the default, delete."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from understudy.app.bot import Bot, config_folder
from understudy.app.config_editor import ConfigEditor
from understudy.app.lore import try_lore
from understudy.config.settings import Persona as PersonaSettings
from understudy.conversation.messages import Place
from understudy.conversation.personas.folder import persona_path
from understudy.conversation.personas.importing import ImportOptions, import_card
from understudy.conversation.prompt.preview import lore_left_out
from understudy.errors import ConfigError, PersonaError
from understudy.platforms.web.chat import PLATFORM
from understudy.platforms.web.personas import PersonaActions, PersonaView

_MAX_NOTES = 5
_DELETED = ".deleted"
"""A folder that is not read, because its name begins with a dot."""


def persona_actions(bot: Bot, editor: ConfigEditor) -> PersonaActions:
    here = Place(PLATFORM, "")

    async def import_persona(card: bytes, options: ImportOptions) -> str:
        imported = await asyncio.to_thread(import_card, card, _folder(bot), options)
        await bot.reload_personas()
        notes = [f"Note: {note}." for note in imported.file.card.notes[:_MAX_NOTES]]
        if left_out := _lore_left_out(bot, imported.key):
            notes.append(f"Note: {left_out}.")
        return " ".join([f"Imported {imported.file.card.name} as {imported.key!r}.", *notes])

    async def set_default(key: str | None) -> str:
        await editor.set(("persona", "default"), key)
        return f"The default persona is now {key}." if key else "No persona is the default now."

    async def delete(key: str) -> str:
        if key in named_personas(bot.settings().persona):
            raise ConfigError(f"{key} is named in the configuration; choose another one there.")
        place = await asyncio.to_thread(_move_away, _folder(bot), key)
        await bot.reload_personas()
        return f"{key} is deleted; its files are in {place}."

    return PersonaActions(
        import_persona,
        lambda: bot.personas.keys,
        lambda text, persona: try_lore(bot, text, here, persona),
        views=lambda: tuple(_views(bot)),
        warnings=lambda: bot.personas.warnings,
        set_default=set_default,
        delete=delete,
    )


def _lore_left_out(bot: Bot, key: str) -> str:
    persona = bot.personas.find(key)
    if persona is None:
        return ""
    most = bot.settings().conversation.max_prompt_tokens
    return lore_left_out(bot.personas, persona, most, datetime.now(UTC))


def named_personas(settings: PersonaSettings) -> frozenset[str]:
    """The keys that the configuration names."""
    chosen = {*settings.by_channel.values(), *settings.by_guild.values()}
    return frozenset(chosen | ({settings.default} if settings.default else set()))


def _views(bot: Bot) -> list[PersonaView]:
    settings = bot.settings().persona
    named = named_personas(settings)
    found = ((key, bot.personas.find(key)) for key in bot.personas.keys)
    return [
        PersonaView(
            key=key,
            name=persona.name,
            is_card=persona.card is not None,
            books=len(persona.books),
            is_default=key == settings.default,
            is_named=key in named,
        )
        for key, persona in found
        if persona is not None
    ]


def _folder(bot: Bot) -> Path:
    return config_folder(bot.config) / bot.settings().persona.folder


def _move_away(folder: Path, key: str) -> Path:
    """Move a persona's file or folder into `_DELETED`. Raises PersonaError."""
    path = persona_path(folder, key)
    if path is None:
        raise PersonaError(f"There is no file of a persona {key!r} any more.")
    try:
        (folder / _DELETED).mkdir(exist_ok=True)
        target, number = folder / _DELETED / path.name, 1
        while os.path.lexists(target):
            number += 1
            target = folder / _DELETED / f"{path.name}.{number}"
        path.rename(target)
    except OSError as error:
        raise PersonaError(f"{path} cannot be moved ({error.strerror}).") from None
    return target
