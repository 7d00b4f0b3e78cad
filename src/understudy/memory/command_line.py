"""The commands of the memory as a person types them, on the page and in the terminal."""

from understudy.conversation.inbox import Channel
from understudy.memory.commands import MemoryCommands
from understudy.memory.store import NoteScope

HELP = """\
/remember TEXT   a note that I remember
/memories        my notes for you
/forget note N   delete a note
/memory          my summary of the earlier conversation; /memory forget deletes it
/compact         replace earlier messages by a summary, in prompts
/search WORDS    find earlier messages
"""
NAMES = frozenset(line.split()[0] for line in HELP.splitlines())


async def run(commands: MemoryCommands, line: str, channel: Channel, scope: NoteScope) -> str:
    """Run a line that begins with one of NAMES; returns the text to show. Raises StorageError."""
    name, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    match name, rest.split():
        case "/remember", _:
            return await commands.remember(scope, rest)
        case "/memories", []:
            return await commands.notes(scope)
        case "/forget", ["note", number] if number.isascii() and number.isdigit():
            return await commands.forget_note(scope, int(number[:9]))
        case "/memory", []:
            return await commands.summary(channel)
        case "/memory", ["forget"]:
            return await commands.forget_summary(channel)
        case "/compact", []:
            return await commands.compact(channel)
        case "/search", [_, *_]:
            return await commands.search(channel, rest)
    return f"The commands are:\n{HELP}"
