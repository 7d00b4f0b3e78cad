"""Typed lines over a real pseudo-terminal, as keys send them."""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import pytest

from understudy.conversation.inbox import Decision
from understudy.conversation.messages import Inbound
from understudy.platforms.terminal import Screen, TerminalChat
from understudy.platforms.terminal_input import LineAssembler, editing_mode, listening
from waiting import LIMIT_S

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")

ENTER, CTRL_J = b"\r", b"\n"


@dataclass(slots=True)
class Terminal:
    keys: int
    """What is written here was typed."""
    program: int


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    keys, program = os.openpty()
    yield Terminal(keys, program)
    with suppress(OSError):
        os.close(keys)
    # A reader that is left would read from the next terminal, which gets the same number.
    for reader in threading.enumerate():
        if reader.name == "stdin":
            reader.join(LIMIT_S)
            assert not reader.is_alive()
    with suppress(OSError):
        os.close(program)


class Heard:
    """Notes every message and answers none."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def receive(self, inbound: Inbound, /) -> Decision | None:
        self.texts.append(inbound.text)
        return None

    def stop(self, reply_id: str, /) -> bool:
        raise AssertionError(reply_id)


async def _heard(terminal: Terminal, typed: bytes) -> tuple[list[str], str]:
    """The messages that typing this makes, and what the program writes."""
    heard, out = Heard(), io.StringIO()
    chat = TerminalChat(heard, Screen(out, name="Bot", held=nullcontext), lambda: "m1")
    screen = os.fdopen(os.dup(terminal.program), "w")
    with (
        screen,
        editing_mode(terminal.program, screen) as editing,
        listening(chat, terminal.program, editing=editing),
    ):
        os.write(terminal.keys, typed + b"/quit" + ENTER)
        await asyncio.wait_for(chat.run(), LIMIT_S)
    return heard.texts, out.getvalue()


async def test_enter_sends_a_line_and_ctrl_j_begins_another(terminal: Terminal) -> None:
    typed = b"one" + CTRL_J + b"two" + ENTER + b"three" + ENTER
    texts, written = await _heard(terminal, typed)

    assert texts == ["one\ntwo", "three"]
    assert written.startswith("\n")


async def test_a_paste_of_several_lines_is_one_message_over_the_terminal(
    terminal: Terminal,
) -> None:
    typed = b"\x1b[200~one" + ENTER + b"two" + CTRL_J + b"three\x1b[201~" + ENTER

    assert (await _heard(terminal, typed))[0] == ["one\ntwo\nthree"]


async def test_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    import termios

    before = termios.tcgetattr(terminal.program)
    await _heard(terminal, b"one" + ENTER)

    assert termios.tcgetattr(terminal.program) == before


def test_a_paste_of_several_lines_is_one_message() -> None:
    assembler = LineAssembler()

    assert assembler.add("\x1b[200~one") is None
    assert assembler.add("two") is None
    assert assembler.add("three\x1b[201~") == "one\ntwo\nthree"
    assert assembler.add("next") == "next"


def test_a_backslash_at_the_end_goes_on_in_a_new_line() -> None:
    assembler = LineAssembler()

    assert assembler.add("one\\") is None
    assert assembler.add("two") == "one\ntwo"
    assert assembler.rest() is None
