"""The commands of the memory as a person types them, on the page and in the terminal."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from understudy.conversation.inbox import Channel
from understudy.conversation.orders import Order
from understudy.memory.commands import MemoryCommands, forgotten_text
from understudy.memory.store import NoteScope

HELP = """\
/remember TEXT   a note that I remember; /remember yes or no answers my proposal of one
/memories        my notes for you
/forget note N   delete a note
/forget me       delete everything that I have stored about you
/memory          my summary of the earlier conversation; /memory forget deletes it
/compact         replace earlier messages by a summary, in prompts
/search WORDS    find earlier messages
"""
_USAGE = f"The commands are:\n{HELP}"
NAMES = frozenset(line.split()[0] for line in HELP.splitlines())


@dataclass(frozen=True, slots=True)
class Person:
    """The one who types."""

    scope: NoteScope
    forget: Callable[[], Awaitable[int]]
    """Deletes all that is stored about them; returns the number of messages."""
    order: Order = None
    """The order that was chosen for the conversation."""


async def run(commands: MemoryCommands, line: str, channel: Channel, person: Person) -> str:
    """Run a line that begins with one of NAMES; returns the text to show. Raises StorageError."""
    scope = person.scope
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    match name, rest.split():
        case "/remember", _:
            return await commands.remember(scope, rest)
        case "/memories", []:
            return await commands.notes(scope)
        case "/forget", words:
            return await _forget(commands, words, person)
        case "/memory", [] | ["show"]:
            return await commands.summary(channel)
        case "/memory", ["forget"]:
            return await commands.forget_summary(channel)
        case "/compact", []:
            return await commands.compact(channel, person.order)
        case "/search", [_, *_]:
            return await commands.search(channel, rest)
    return _USAGE


async def _forget(commands: MemoryCommands, words: Sequence[str], person: Person) -> str:
    match words:
        case ["me"]:
            return forgotten_text(await person.forget())
        case ["note", number] if number.isascii() and number.isdigit():
            return await commands.forget_note(person.scope, int(number[:9]))
    return _USAGE
