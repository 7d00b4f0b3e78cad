"""Chat in a terminal: replies are streamed, followed by their route."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol, TextIO

from understudy.control_characters import visible
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.follow_ups import Answered
from understudy.conversation.inbox import Decision
from understudy.conversation.messages import Addressed, Author, Inbound, Place
from understudy.memory import command_line
from understudy.memory.commands import proposal_line
from understudy.memory.store import Proposal
from understudy.routing.records import ReplyRecord, describe_route

PLATFORM = "terminal"
PROMPT = "you › "
_LEAVING = ("/quit", "/exit", "/q")
HELP = "Ctrl-C stops a reply, /quit leaves, /help lists the commands."
COMMANDS = f"""\
/new             begin a new conversation
/why             show how the last reply was made
/persona [NAME]  show or choose the persona
/model [NAME]    show the order of servers, or choose one
/image FILE      attach an image to the next message
/file FILE       attach a text or PDF file to the next message
{command_line.HELP}/quit            leave
Ctrl-J, or a backslash at the end of a line, goes on in a new line; a paste is one message.
"""
CHANNEL = "chat"
_MAX_TEXT = 32_000


_COMMAND = re.compile(r"/[a-z]+( .*)?")

Command = Callable[[str], Awaitable[str]]
"""Takes the rest of the line, returns the text to show."""


class ReplyControl(Protocol):
    """The part of the message router that a terminal needs."""

    async def receive(self, inbound: Inbound, /) -> Decision | None: ...

    def stop(self, reply_id: str, /) -> bool: ...


class Screen:
    """Terminal output. `held` suspends log lines while a reply is written."""

    def __init__(
        self, out: TextIO, *, name: str, held: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._out = out
        self._name = name
        self._held = held
        self._dim, self._plain = ("\x1b[2m", "\x1b[0m") if out.isatty() else ("", "")
        self.writing: str | None = None
        """Id of the running reply."""
        self.ended = asyncio.Event()
        """Set when a reply has ended."""
        self.prompt = ""
        self.asking = False
        """Whether the prompt is shown and no line has been entered since."""

    def open_delivery(self, task: ReplyContext) -> "TerminalDelivery":
        """The terminal's `OpenDelivery`."""
        return TerminalDelivery(self, task, self._held())

    def put(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def show(self, text: str) -> None:
        """Write text of a model, without control characters that a terminal obeys."""
        self.put(visible(text))

    def aside(self, text: str) -> None:
        self.put(f"{self._dim}{visible(text)}{self._plain}\n")

    def begin(self) -> None:
        self.put(f"{visible(self._name)} › ")

    def ask(self) -> None:
        """Show the prompt for the next line."""
        self.asking = True
        self.put(self.prompt)


class TerminalDelivery:
    """Writes one reply. Written text cannot be removed, so a restarted reply begins below it."""

    def __init__(
        self, screen: Screen, task: ReplyContext, held: AbstractContextManager[None]
    ) -> None:
        self._screen = screen
        self._held = ExitStack()
        self._held.enter_context(held)
        self._shown = ""
        self._thoughts = ""
        self._begun = False
        self._late = bool(task.offline_message_ids)
        screen.writing = task.reply_id

    async def earlier(self) -> tuple[str, ...]:
        """A closed terminal has no earlier messages."""
        return ()

    def shown(self) -> bool:
        return bool(self._shown)

    def think(self, text: str) -> None:
        """Reasoning is not shown; it explains why text that was shown is no part of the reply."""
        self._thoughts = text

    async def write(self, text: str) -> None:
        if not self._begun:
            self._begun = True
            self._screen.put("\n" if self._late else "")
            self._screen.begin()
        if not text.startswith(self._shown):
            self._screen.aside(f"\n({self._why_again()})")
            self._shown = ""
        self._screen.show(text[len(self._shown) :])
        self._shown = text

    def _why_again(self) -> str:
        if self._thoughts.startswith(self._shown):
            return "that was the model's reasoning; its reply follows"
        return "the reply was interrupted; another model starts again"

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        text, shown = reply.text.rstrip(), self._shown.rstrip()
        shortened = bool(text) and shown.startswith(text)
        if not shortened:
            await self.write(reply.text)
        self._screen.put("\n")
        if shortened and text != shown:
            self._screen.aside("(the end of the text above repeated itself and is no part of it)")
        if reply.partial:
            self._screen.aside("(cut off)")
        for note in reply.notes:
            self._screen.aside(f"({note})")
        self._show_route(reply.record)
        return (reply.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        if not notice.text:
            return ()
        await self.write(notice.text)
        self._screen.put("\n")
        self._show_route(notice.record)
        return (notice.reply_id,)

    async def withdraw(self) -> None:
        self._screen.aside("\n(stopped)" if self._begun else "(stopped)")

    async def aclose(self) -> None:
        self._screen.writing = None
        self._held.close()
        self._screen.ended.set()
        if self._screen.asking:  # a late answer was written below the prompt
            self._screen.ask()

    def _show_route(self, record: ReplyRecord) -> None:
        self._screen.aside(f"{describe_route(record.attempts)}\n")


class TerminalChat:
    """Passes input to the message router. Ctrl-C stops the reply, not the program."""

    def __init__(
        self,
        router: ReplyControl,
        screen: Screen,
        new_id: Callable[[], str],
        *,
        prompt: str = "",
        commands: Mapping[str, Command] | None = None,
        attach: Callable[[Inbound], Inbound] = lambda inbound: inbound,
    ) -> None:
        self._router = router
        self._screen = screen
        self._new_id = new_id
        screen.prompt = prompt
        self._commands = commands or {}
        self._attach = attach
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._interrupted = False

    def typed(self, line: str | None) -> None:
        """One line, or `None` for the end of the input."""
        self._lines.put_nowait(line)

    def continue_line(self) -> None:
        """Ctrl-J: the terminal echoed it without moving to a new line."""
        self._screen.put("\n")

    def interrupt(self) -> None:
        """Ctrl-C: stop the running reply; pressed twice without one: leave."""
        if self._screen.writing is not None:
            self._router.stop(self._screen.writing)
        elif self._interrupted:
            self.typed(None)
        else:
            self._interrupted = True
            self._screen.aside("\n(Ctrl-C again, Ctrl-D or /quit leaves)")
            self._screen.ask()

    async def propose(self, proposal: Proposal, _answered: Answered) -> None:
        """Ask whether a proposed note may be stored, after a running reply."""
        if self._screen.writing is not None:
            await self._screen.ended.wait()
        self._screen.put("\n")
        self._screen.aside(f"({proposal_line(proposal)})")
        self._screen.ask()

    async def run(self) -> None:
        """Run until the input ends or the person leaves."""
        self._screen.ask()
        while (line := await self._lines.get()) is not None and line.strip() not in _LEAVING:
            self._interrupted = False
            self._screen.asking = False
            if _COMMAND.fullmatch(line.strip()):
                await self._run_command(line.strip())
            elif line.strip():
                await self._send(line.strip()[:_MAX_TEXT])
            self._screen.ask()
        self._screen.put("\n" if self._screen.prompt else "")

    async def _run_command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        command = self._commands.get(name)
        if name == "/help":
            self._screen.aside(COMMANDS)
        elif command is None:
            self._screen.aside(f"There is no command {name}. /help lists them.\n")
        else:
            self._screen.aside(f"{await command(rest.strip())}\n")

    async def _send(self, text: str) -> None:
        self._screen.ended.clear()
        inbound = self._attach(message(text, self._new_id()))
        decision = await self._router.receive(inbound)
        if decision is None or not decision.answer:
            self._screen.aside("(Too many messages within a minute; wait a moment.)")
            return
        await self._screen.ended.wait()


def message(text: str, message_id: str, channel: str = CHANNEL) -> Inbound:
    """A message typed at the terminal."""
    return Inbound(
        message_id=message_id,
        place=Place(PLATFORM, channel, private=True),
        author=Author("me", "You"),
        text=text,
        sent_at=time.time(),
        addressed=Addressed.DM,
        unlimited=True,
    )
