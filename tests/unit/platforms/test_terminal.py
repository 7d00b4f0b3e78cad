import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.follow_ups import Answered
from understudy.conversation.inbox import Decision, StoredMessage
from understudy.conversation.messages import Author, Inbound, Place
from understudy.memory.store import NoteScope, Proposal
from understudy.platforms.terminal import Screen, TerminalChat, message
from understudy.routing.records import OfflineReason, ReplyOutcome, ReplyRecord

RECORD = ReplyRecord(0.0, "r1", "terminal", ReplyOutcome.DELIVERED, ())
TASK = ReplyContext("r1", Place("terminal", "chat"), "m1", Author("me", "You"), ("m1",), "nonce")

Play = Callable[[Screen], Awaitable[None]]


def screen() -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(out, name="Bot", held=nullcontext), out


class Answers:
    """Plays one reply per message on the screen it is given."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self.screen: Screen | None = None
        self.heard: list[str] = []
        self.stopped: list[str] = []
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Future[None]] = set()

    async def receive(self, inbound: Inbound, /) -> Decision | None:
        assert self.screen is not None
        self.heard.append(inbound.text)
        self._tasks.add(asyncio.ensure_future(self._play(self.screen)))
        return Decision(answer=True, reason="dm", directed=True)

    def stop(self, reply_id: str, /) -> bool:
        self.stopped.append(reply_id)
        self.stopping.set()
        return True


async def _says(on: Screen, *steps: str) -> None:
    delivery = on.open_delivery(TASK)
    for text in steps:
        await delivery.write(text)
    await delivery.finish(Reply("r1", steps[-1], RECORD))
    await delivery.aclose()


async def test_text_streams_and_is_never_written_twice() -> None:
    on, out = screen()

    await _says(on, "Good", "Good evening", "Good evening!")

    assert out.getvalue() == "Bot › Good evening!\n\n\n"


async def test_a_reply_that_starts_again_is_announced_and_stands_whole() -> None:
    on, out = screen()

    await _says(on, "I think that", "Hello there.")

    said = out.getvalue()
    assert "another model starts again" in said
    assert said.index("interrupted") < said.index("Hello there.")


async def test_a_thought_that_was_shown_is_named_as_one() -> None:
    on, out = screen()
    delivery = on.open_delivery(TASK)
    await delivery.write("They greet me. ")
    delivery.think("They greet me. ")
    await delivery.write("Hi!")
    await delivery.finish(Reply("r1", "Hi!", RECORD))

    said = out.getvalue()
    assert "interrupted" not in said
    assert said.index("reasoning; its reply follows") < said.index("Hi!")


async def test_a_loop_that_was_cut_off_is_not_written_again() -> None:
    on, out = screen()
    delivery = on.open_delivery(TASK)
    await delivery.write("All is well. ha ha ha ha")
    await delivery.finish(Reply("r1", "All is well.", RECORD))

    said = out.getvalue()
    assert said.count("All is well.") == 1
    assert "interrupted" not in said
    assert "repeated itself" in said


async def test_the_offline_message_is_shown_like_a_reply() -> None:
    on, out = screen()
    delivery = on.open_delivery(TASK)

    await delivery.offline(OfflineNotice("r1", "Nobody is here.", OfflineReason.ALL_DOWN, RECORD))
    await delivery.aclose()

    assert out.getvalue().startswith("Bot › Nobody is here.\n")
    assert on.ended.is_set()


async def test_a_chat_answers_line_by_line_until_the_input_ends() -> None:
    on, out = screen()

    async def play(shown: Screen) -> None:
        await _says(shown, "Yes?")

    answers = Answers(play)
    answers.screen = on
    chat = TerminalChat(answers, on, lambda: "m1")
    for line in ("one", "  ", "two", None):
        chat.typed(line)

    await chat.run()

    assert answers.heard == ["one", "two"]
    assert out.getvalue().count("Bot › Yes?") == 2


async def test_interrupting_stops_the_reply_and_goes_on_with_the_chat() -> None:
    on, _ = screen()

    async def play(shown: Screen) -> None:
        delivery = shown.open_delivery(TASK)
        chat.interrupt()
        await answers.stopping.wait()
        await delivery.withdraw()
        await delivery.aclose()

    answers = Answers(play)
    answers.screen = on
    chat = TerminalChat(answers, on, lambda: "m1")
    for line in ("go on", "/quit"):
        chat.typed(line)

    await chat.run()

    assert answers.stopped == ["r1"]


async def test_interrupting_twice_with_nothing_to_stop_leaves() -> None:
    on, out = screen()
    chat = TerminalChat(Answers(_says), on, lambda: "m1")

    chat.interrupt()
    chat.interrupt()
    await chat.run()

    assert "/quit leaves" in out.getvalue()


async def test_a_proposed_note_is_shown_after_a_running_reply() -> None:
    on, out = screen()
    answers = Answers(lambda screen: _says(screen, "Fine."))
    chat = TerminalChat(answers, on, lambda: "m1", prompt="you › ")
    delivery = on.open_delivery(TASK)
    await delivery.write("Good ")
    proposal = Proposal("p1", NoteScope("terminal", "", "me"), "I like tea.", 1.0, 2.0)
    stored = StoredMessage(1, message("I like tea.", "m1"), 1.0, directed=True)
    shown = asyncio.create_task(chat.propose(proposal, Answered((stored,), "Good")))
    await asyncio.sleep(0)
    before = out.getvalue()
    await delivery.write("Good evening.")
    await delivery.finish(Reply("r1", "Good evening.", RECORD))
    await delivery.aclose()
    await shown

    assert "remember" not in before
    assert out.getvalue().endswith(
        "\n(May I remember this? “I like tea.” /remember yes or /remember no)\nyou › "
    )


async def test_the_prompt_is_shown_again_below_a_late_answer() -> None:
    on, out = screen()
    chat = TerminalChat(Answers(_says), on, lambda: "m2", prompt="you › ")
    running = asyncio.create_task(chat.run())
    await asyncio.sleep(0)

    await _says(on, "Here is your answer.")

    assert out.getvalue().endswith("Here is your answer.\n\n\nyou › ")
    chat.typed(None)
    await running


async def test_help_is_told_here_and_not_by_a_model() -> None:
    on, out = screen()
    answers = Answers(_quiet)
    answers.screen = on
    chat = TerminalChat(answers, on, lambda: "m1")
    for line in ("/help", None):
        chat.typed(line)

    await chat.run()

    assert answers.heard == []
    assert "/quit" in out.getvalue()


async def test_a_command_runs_here_and_a_path_is_a_message() -> None:
    on, out = screen()

    async def play(shown: Screen) -> None:
        await _says(shown, "Yes?")

    async def echo(rest: str) -> str:
        return f"echo of {rest!r}"

    answers = Answers(play)
    answers.screen = on
    chat = TerminalChat(answers, on, lambda: "m1", commands={"/echo": echo})
    for line in ("/echo  a b", "/unknown", "/etc/passwd?", None):
        chat.typed(line)

    await chat.run()

    assert "echo of 'a b'" in out.getvalue()
    assert "There is no command /unknown" in out.getvalue()
    assert answers.heard == ["/etc/passwd?"]


async def _quiet(_: Screen) -> None:
    """Silence."""


async def test_control_characters_of_a_model_do_not_reach_the_terminal() -> None:
    on, out = screen()

    await _says(on, "\x1b]52;c;aGk=\x07copied\x9b31m\x08")

    assert "␛]52;c;aGk=␇copied<9B>31m␈" in out.getvalue()
    assert "\x1b" not in out.getvalue()
