"""Personas and servers as the chat page offers them."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from understudy.app.bot import Bot, config_folder
from understudy.conversation.inbox import Channel
from understudy.conversation.messages import Place
from understudy.conversation.personas.folder import picture_of
from understudy.conversation.personas.registry import Persona, greetings
from understudy.llm.messages import ImagePart
from understudy.platforms.web.chat import PLATFORM
from understudy.platforms.web.persona_choice import PersonaChoice, PersonaView, ServerChoice

_EDGE = 256
_YOU = "You"


def persona_choice(bot: Bot) -> PersonaChoice:
    pictures: dict[tuple[Path, float], ImagePart | None] = {}

    def view(persona: Persona) -> PersonaView:
        now = datetime.fromtimestamp(bot.clocks.wall(), UTC)
        spoken = greetings(persona, _YOU, now, shared=False)
        picture = persona.key and picture_of(_folder(bot), persona.key)
        return PersonaView(persona.key, persona.name, spoken, has_picture=bool(picture))

    def available() -> list[PersonaView]:
        found = (bot.personas.find(key) for key in bot.personas.keys)
        return [view(persona) for persona in found if persona is not None]

    async def picture(key: str) -> ImagePart | None:
        path = picture_of(_folder(bot), key) if bot.personas.find(key) else None
        if path is None:
            return None
        seen = (path, path.stat().st_mtime)
        if seen not in pictures:
            data = await asyncio.to_thread(path.read_bytes)
            pictures[seen] = await bot.images.service.small(data, path.name, _EDGE)
        return pictures[seen]

    preferences = bot.messages.preferences
    return PersonaChoice(
        default=lambda: view(bot.personas.at(Place(PLATFORM, ""))),
        available=available,
        current=lambda channel: preferences.now.channel(channel).persona,
        choose=preferences.choose_persona,
        picture=picture,
    )


def server_choice(bot: Bot) -> ServerChoice:
    preferences = bot.messages.preferences

    def current(channel: Channel) -> str | None:
        return preferences.now.channel(channel).candidate

    return ServerChoice(
        allowed=lambda: bot.settings().web.choose_order,
        available=lambda: bot.orders().names(),
        current=current,
        choose=preferences.choose_candidate,
    )


def _folder(bot: Bot) -> Path:
    return config_folder(bot.config) / bot.settings().persona.folder
