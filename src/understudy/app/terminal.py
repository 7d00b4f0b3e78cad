"""Commands of `understudy chat`: what a person types with a slash in front."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path

from understudy.app.bot import Bot
from understudy.conversation.inbox import Channel
from understudy.conversation.messages import ImageRef
from understudy.images.intake import ImageSource
from understudy.observability.reply_report import format_runs
from understudy.platforms.terminal import CHANNEL, PLATFORM, message

_CHANNEL = Channel(PLATFORM, CHANNEL)
_MAX_FILE = 20_000_000
_NEWEST = 2**62


class TerminalCommands:
    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._images: tuple[ImageRef, ...] = ()

    def table(self) -> Mapping[str, Callable[[str], Awaitable[str]]]:
        """The commands by name; each takes the rest of the line and returns the text to show."""
        return {
            "/new": self.new,
            "/why": self.why,
            "/persona": self.persona,
            "/image": self.image,
        }

    def take_images(self) -> tuple[ImageRef, ...]:
        """The attached images, for the message that is being sent."""
        images, self._images = self._images, ()
        return images

    async def greeting(self) -> str:
        """Whether an earlier conversation continues, and since when."""
        lines = await self._bot.messages.store.history(_CHANNEL, _NEWEST, 1)
        if not lines:
            return ""
        last = datetime.fromtimestamp(lines[-1].at).astimezone()
        return f"The conversation of {last:%Y-%m-%d %H:%M} continues; /new begins another."

    async def new(self, _rest: str) -> str:
        await self._bot.messages.store.reset(_CHANNEL)
        return "A new conversation: earlier messages are not sent to models any more."

    async def why(self, _rest: str) -> str:
        reply_id = await self._bot.messages.store.last_reply(_CHANNEL)
        ledger = self._bot.ledger
        runs = await ledger.reply(reply_id) if ledger is not None and reply_id is not None else ()
        return format_runs(runs) if runs else "There is no reply yet."

    async def persona(self, rest: str) -> str:
        personas, preferences = self._bot.personas, self._bot.messages.preferences
        if not rest:
            place = message("", "").place
            here = personas.at(place, preferences.now.persona(place))
            names = ", ".join(personas.keys) or "none"
            return f"Persona: {here.name}. Others: {names}. /persona NAME chooses one."
        if personas.find(rest) is None:
            return f"There is no persona {rest!r}. Known: {', '.join(personas.keys) or 'none'}."
        await preferences.choose_persona(_CHANNEL, rest)
        return f"The persona is now {rest}."

    async def image(self, rest: str) -> str:
        path = Path(rest.strip("'\""))
        if not rest:
            return "Usage: /image FILE"
        try:
            data = await asyncio.to_thread(_read, path)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
        refs, notes = await self._bot.images.take([ImageSource(path.name, data=data)], "")
        self._images += refs
        attached = f"{path.name} goes with the next message." if refs else ""
        return " ".join([attached, *notes]).strip() or f"{path.name} is not an image."


def _read(path: Path) -> bytes:
    path = path.expanduser()
    if path.stat().st_size > _MAX_FILE:
        raise OSError(f"larger than {_MAX_FILE // 1_000_000} MB")
    return path.read_bytes()
