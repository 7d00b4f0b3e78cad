"""Previews the lorebook entries that a text activates, for `lore test`."""

from datetime import UTC, datetime

from understudy.app.bot import Bot
from understudy.conversation.messages import Place
from understudy.conversation.prompt.preview import Preview, Question, preview
from understudy.routing.request import Fit


def try_lore(bot: Bot, text: str, place: Place, persona: str | None = None) -> Preview:
    """As for a message at `place`, to `persona` or to the persona of that place."""
    chosen = persona or bot.messages.preferences.now.persona(place)
    return preview(
        bot.personas,
        Question(
            text=text,
            place=place,
            persona=bot.personas.at(place, chosen),
            fit=Fit(None, reply_tokens=0, vision=False, tokens_per_char=0.3),
            most_tokens=bot.settings().conversation.max_prompt_tokens,
            now=datetime.now(UTC),
        ),
    )
