"""Commands of `understudy chat`: what a person types with a slash in front."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from understudy.app.bot import Bot
from understudy.attachments.source import FileSource
from understudy.conversation.inbox import Channel
from understudy.conversation.messages import AttachedText, ImageRef, Inbound
from understudy.conversation.orders import order_for
from understudy.images.intake import ImageSource
from understudy.memory import command_line
from understudy.memory.command_line import Person
from understudy.memory.store import NoteScope
from understudy.observability.reply_report import format_runs
from understudy.platforms.terminal import CHANNEL, PLATFORM, message

_CHANNEL = Channel(PLATFORM, CHANNEL)
_MAX_FILE = 20_000_000
_NEWEST = 2**62

_AttachData = Callable[[str, bytes], Awaitable[str]]
"""(name, bytes) of a file that was read → the text to show"""


class TerminalCommands:
    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._images: tuple[ImageRef, ...] = ()
        self._files: tuple[AttachedText, ...] = ()

    def table(self) -> Mapping[str, Callable[[str], Awaitable[str]]]:
        """The commands by name; each takes the rest of the line and returns the text to show."""
        return {
            "/new": self.new,
            "/why": self.why,
            "/persona": self.persona,
            "/model": self.model,
            "/image": self.image,
            "/file": self.file,
            **{name: partial(self.memory, name) for name in command_line.NAMES},
        }

    def attach(self, inbound: Inbound) -> Inbound:
        """The message that is being sent, with what was attached to it."""
        complete = replace(inbound, images=self._images, files=self._files)
        self._images, self._files = (), ()
        return complete

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

    async def memory(self, name: str, rest: str) -> str:
        place = message("", "").place
        scope = NoteScope.of(place, message("", "").author.id)
        settings, preferences = self._bot.settings(), self._bot.messages.preferences.now
        order = order_for(place, None, settings, preferences, self._bot.orders())
        person = Person(
            scope,
            lambda: self._bot.messages.forget(PLATFORM, scope.author_id),
            None if order is None else order.entries,
        )
        commands = self._bot.memory.commands
        return await command_line.run(commands, f"{name} {rest}", _CHANNEL, person)

    async def model(self, rest: str) -> str:
        preferences, book = self._bot.messages.preferences, self._bot.orders()
        now = preferences.now.channel(_CHANNEL).candidate or "default"
        if not rest:
            names = ", ".join((*book.names(), "default"))
            return f"Order: {now}. Available: {names}. /model NAME chooses one."
        if rest != "default" and not book.entries(rest):
            return f"There is no order, server or model {rest!r}. /model lists them."
        await preferences.choose_candidate(_CHANNEL, None if rest == "default" else rest)
        return f"The order is now {rest}."

    async def image(self, rest: str) -> str:
        return await self._attach(rest, "/image", self._attach_image)

    async def file(self, rest: str) -> str:
        return await self._attach(rest, "/file", self._attach_file)

    async def _attach(self, rest: str, command: str, attach: _AttachData) -> str:
        """Read the named file and attach it; returns the text to show."""
        if not rest:
            return f"Usage: {command} FILE"
        path = _path(rest)
        try:
            data = await asyncio.to_thread(_read, path)
        except OSError as error:
            return f"{path}: {error.strerror or error}"
        return await attach(path.name, data)

    async def _attach_image(self, name: str, data: bytes) -> str:
        refs, notes = await self._bot.images.take([ImageSource(name, data=data)], "")
        self._images += refs
        return _attached(name, notes, done=bool(refs)) or f"{name} is not an image."

    async def _attach_file(self, name: str, data: bytes) -> str:
        read = await self._bot.attachments.read([FileSource(name, data=data)])
        self._files += read.files
        return (
            _attached(name, read.notes, done=bool(read.files)) or f"{name} is no text or PDF file."
        )


def _attached(name: str, notes: tuple[str, ...], *, done: bool) -> str:
    return " ".join([*([f"{name} goes with the next message."] if done else []), *notes]).strip()


def _path(rest: str) -> Path:
    """Terminals put quotes around a name with spaces that is dropped onto them."""
    return Path(rest.strip("'\""))


def _read(path: Path) -> bytes:
    path = path.expanduser()
    if path.stat().st_size > _MAX_FILE:
        raise OSError(f"larger than {_MAX_FILE // 1_000_000} MB")
    return path.read_bytes()
