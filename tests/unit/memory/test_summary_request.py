"""The request for a summary: what it covers for each candidate."""

from sample_lines import BOT, line
from understudy.llm.messages import TextPart
from understudy.memory.store import Summary
from understudy.memory.summary_request import SummaryRequest, author_ids
from understudy.routing.request import Fit, Prompt

WIDE = Fit(n_ctx=8192, reply_tokens=400, vision=False, tokens_per_char=0.3)
NARROW = Fit(n_ctx=1024, reply_tokens=100, vision=False, tokens_per_char=0.3)


def exchange(count: int) -> list[object]:
    """Messages, each with its reply at the same position."""
    return [
        one
        for n in range(1, 2 * count, 2)
        for one in (line(n, f"question {n} " * 20), line(n + 1, "answer " * 20, BOT, position=n))
    ]


def text_of(prompt: Prompt) -> str:
    parts = [part for message in prompt.request.messages for part in message.parts]
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def test_the_prompt_has_the_earlier_summary_and_the_new_lines_with_their_speakers() -> None:
    lines = [line(5, "I moved to Oslo."), line(6, "How nice!", BOT, position=5)]
    request = SummaryRequest(Summary("Ann has a cat.", 1, 4), lines, "Bessie", 400)

    text = text_of(request.build(WIDE))

    assert "Ann has a cat." in text
    assert "Ann: I moved to Oslo.\nBessie: How nice!" in text
    assert "240 words" in text


def test_a_small_context_gets_the_oldest_lines_and_no_message_without_its_reply() -> None:
    lines = exchange(40)
    request = SummaryRequest(Summary(), lines, "Bessie", 100)  # type: ignore[arg-type]

    prompt = request.build(NARROW)
    made = request.result("They talked.", 50.0, compact=False)

    assert 0 < len(request.covered) < len(lines)
    assert len(request.covered) % 2 == 0
    assert prompt.input_tokens <= 1024 - 100
    assert made == Summary("They talked.", 1, request.covered[-1].position, 0, 50.0)


def test_the_last_prompt_built_says_what_is_covered() -> None:
    lines = exchange(20)
    request = SummaryRequest(Summary(), lines, "Bessie", 100)  # type: ignore[arg-type]
    request.build(NARROW)
    few = len(request.covered)
    request.build(WIDE)

    assert few < len(request.covered) == len(lines)


def test_one_endless_line_is_shortened() -> None:
    request = SummaryRequest(Summary(), [line(1, "a" * 5000 + "end")], "Bessie", 400)

    text = text_of(request.build(WIDE))

    assert len(text) < 4000
    assert "end" in text
    assert "[…]" in text


def test_a_summary_continues_where_the_earlier_one_began() -> None:
    request = SummaryRequest(Summary("Earlier.", 1, 4, 2), [line(5, "hi")], "Bessie", 400)
    request.build(WIDE)

    assert request.result("All.", 9.0, compact=False) == Summary("All.", 1, 5, 2, 9.0)
    assert request.result("All.", 9.0, compact=True) == Summary("All.", 1, 5, 5, 9.0)


def test_thoughts_are_no_part_of_a_summary_and_an_empty_one_is_none() -> None:
    request = SummaryRequest(Summary(), [line(1, "hi")], "Bessie", 400)
    request.build(WIDE)

    assert request.result("<think>hm</think> ", 9.0, compact=False) is None
    made = request.result("<think>hm</think>They met.", 9.0, compact=False)
    assert made is not None
    assert made.text == "They met."


def test_the_authors_are_the_people_and_not_the_bot() -> None:
    assert author_ids([line(1, "hi"), line(2, "ho", BOT, position=1)]) == ("1",)
