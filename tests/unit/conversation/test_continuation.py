"""Continuing replies that broke off."""

import pytest

from conversation_driver import WEB, ConversationDriver, message
from understudy.conversation.continuation import INSTRUCTION, joined, kept_start
from understudy.conversation.inbox import Channel


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("It was a dark and sto", "It was a dark and "),
        ("It was dark.", "It was dark."),
        ("Line\nhalf", "Line\n"),
        ("Wo", "Wo"),
        ("ends here ", "ends here "),
    ],
)
def test_a_broken_word_at_the_end_is_left_out(text: str, start: str) -> None:
    assert kept_start(text) == start


@pytest.mark.parametrize(
    ("start", "rest", "whole"),
    [
        ("It was a dark and ", "stormy night.", "It was a dark and stormy night."),
        ("It was dark.", "Then it rained.", "It was dark. Then it rained."),
        ("It was", ", they say", "It was, they say"),
        ("It was a dark and ", "was a dark and stormy night", "It was a dark and stormy night"),
        ("- one\n", "- two", "- one\n- two"),
    ],
)
def test_the_rest_is_joined_without_what_it_repeats(start: str, rest: str, whole: str) -> None:
    assert joined(start, rest) == whole


async def test_a_continued_reply_begins_with_the_broken_off_one() -> None:
    async with ConversationDriver() as driver:
        driver.models.script = ["It was a dark and sto", "stormy night."]
        await driver.router.receive(message("m1", "A story"))
        await driver.hear(1)
        await driver.router.regenerate(driver.platform.said[0][1].id, continues=True)
        await driver.hear(2)
        lines = await driver.router.store.transcript(Channel.of(WEB), 10)

    assert driver.platform.texts[1] == "It was a dark and stormy night."
    assert len(lines[-1].versions) == 2
    asked = [part.text for m in driver.models.prompts[1].request.messages for part in m.parts]  # type: ignore[union-attr]
    assert asked[-3:] == ["A story", "It was a dark and ", INSTRUCTION]
