"""Replies as Discord messages."""

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, groupby
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from understudy.platforms.discord.rendering import LIMIT, pieces, split, units, with_emoji

FENCE = re.compile(r"[ \t]*(`{3,16}|~{3,16})[ \t]*([^`\n]{0,40})")

WORDS = st.sampled_from(
    [
        "word",
        "a",
        "Sentence.",
        "**bold text**",
        "`in line`",
        "||secret||",
        "👩‍👩‍👧",
        "🇩🇪🇫🇷",
        "é",
        "<@123456789012345678>",
        "<:smile:123456789012345678>",
        "<t:1700000000:R>",
        "https://example.org/a/long/path?with=query",
        "[label](https://example.org/x)",
        "日本語。",
    ]
)
PROSE = st.lists(WORDS, min_size=1, max_size=30).map(" ".join)
CODE = st.builds(
    lambda lang, lines, mark: f"{mark}{lang}\n" + "\n".join(lines) + f"\n{mark}",
    st.sampled_from(["", "python", "c++"]),
    st.lists(st.text("abc (){}=", min_size=1, max_size=120), min_size=1, max_size=20),
    st.sampled_from(["```", "````", "~~~"]),
)
MARKDOWN = st.lists(PROSE | CODE, min_size=1, max_size=12).map("\n\n".join)


def _open_fence(part: str) -> str | None:
    marker = None
    for line in part.split("\n"):
        found = FENCE.fullmatch(line)
        if found and marker is None:
            marker = found[1]
        elif found and marker and line.strip().startswith(marker) and not found[2]:
            marker = None
    return marker


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(MARKDOWN, st.integers(200, 2000))
def test_parts_fit_stand_alone_and_lose_nothing(text: str, limit: int) -> None:
    cut = list(pieces(text, limit))

    assert "".join(text[p.start : p.end] for p in cut) == text
    for part in split(text, limit):
        assert 1 <= units(part) <= limit
        assert part.strip()
        assert _open_fence(part) is None


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=900), st.integers(100, 300))
def test_any_text_at_all_is_cut_within_the_limit_without_loss(text: str, limit: int) -> None:
    cut = list(pieces(text, limit))

    assert "".join(text[p.start : p.end] for p in cut) == text
    assert all(units(part) <= limit for part in split(text, limit))


@settings(max_examples=25, deadline=None)
@given(MARKDOWN)
def test_fenceless_parts_join_to_the_original(text: str) -> None:
    text = text.replace("`", "").replace("~", "")
    shown = [text[p.start : p.end] for p in pieces(text, 200)]

    # A stretch of nothing but white space, as long as a message, is no message.
    assert list(split(text, 200)) == [piece for piece in shown if piece.strip()]
    assert "".join(shown) == text


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=60, max_size=200).map(" ".join), st.integers(200, 400))
def test_mentions_links_and_emoji_are_never_cut(text: str, limit: int) -> None:
    whole = text.split()

    assert " ".join(split(text, limit)).split() == whole


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(PROSE, min_size=8, max_size=14).map("\n\n".join), st.data())
def test_parts_already_sent_stay_as_they_are_while_text_streams_in(
    text: str, data: st.DataObject
) -> None:
    so_far = data.draw(st.integers(1, len(text)))
    early, late = split(text[:so_far], 200), split(text, 200)

    assert late[: len(early) - 1] == early[:-1]


def test_a_code_block_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"line_{n} = {n}" for n in range(300))
    parts = split(f"Here:\n\n```python\n{code}\n```\nDone.")

    assert len(parts) == 3
    assert parts[0].endswith("\n```")
    assert all(part.startswith("```python\nline_") for part in parts[1:])
    assert parts[-1].endswith("\n```\nDone.")


def test_an_unclosed_fence_is_closed() -> None:
    assert split("```js\nlet a") == ("```js\nlet a\n```",)


def test_a_blank_line_is_the_best_place_to_cut() -> None:
    first, second = "a " * 600, "b " * 600

    assert split(f"{first}\n\n{second}") == (f"{first}\n\n", second)


def test_no_part_is_blank_even_in_a_desert_of_newlines() -> None:
    assert [p.strip() for p in split("start" + "\n" * 5000 + "end")] == ["start", "end"]


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧‍👦", "e\u0301", "👍🏽", "🇩🇪", "각"])
def test_what_reads_as_one_character_stays_whole(cluster: str) -> None:
    parts = split(cluster * 400, 103)

    assert "".join(parts) == cluster * 400
    assert all(part == cluster * (len(part) // len(cluster)) for part in parts)


def test_length_counts_utf16_units() -> None:
    assert [units(part) for part in split("🎭" * 1500)] == [2000, 1000]


def test_a_link_longer_than_a_message_is_cut_rather_than_lost() -> None:
    link = "https://example.org/" + "x" * 3000

    assert "".join(split(link)) == link


def test_a_long_fence_around_short_ones_is_closed_within_the_limit() -> None:
    document = f"````````md\n{'x' * 2300}\n```\n{'y' * 4000}"

    assert all(units(part) <= LIMIT for part in split(document))


def _document(dice: Random) -> str:
    """Blocks of every kind, nested and side by side, up to 20,000 characters.

    Two things are left out because Discord reads them in its own way: HTML, and fences that are
    never closed.
    """
    words = ["some", "words", "and", "- dash", "1. one", "# hash", "> more", "Fine.", "`x = 1`"]

    def sentence() -> str:
        return "Start " + " ".join(dice.choices(words, k=dice.randint(3, 60)))

    def fence(indent: str = "") -> str:
        mark, language = dice.choice(["```", "````", "~~~"]), dice.choice(["", "py", "c++"])
        size = dice.randint(1, 60)
        lines = ["".join(dice.choices("ab (){}=#-", k=dice.randint(1, 80))) for _ in range(size)]
        return "\n".join(f"{indent}{line}" for line in [mark + language, *lines, mark])

    def item(mark: str) -> str:
        inside = ["", f"\n{fence('  ')}", f"\n  - {sentence()}", f"\n\n  {sentence()}\n"]
        return f"{mark} {sentence()}{dice.choice(inside) if mark == '-' else ''}"

    def quotation() -> str:
        nested: list[Callable[[], str]] = [fence, sentence, lambda: item("-")]
        inside = dice.choice(nested)()
        return "\n".join(f"> {line}" for line in inside.split("\n"))

    def table() -> str:
        rows = [f"| {sentence()[:30]} | x |" for _ in range(dice.randint(1, 20))]
        return "\n".join(["| a | b |", "|---|---|", *rows])

    kinds: list[Callable[[], str]] = [
        sentence,
        fence,
        quotation,
        table,
        lambda: f"## {sentence()}",
        # The rule ends a quotation before it, of which the heading would be a paragraph.
        lambda: f"***\n{sentence()[:60]}\n====",
        lambda: f"Label:\n{fence()}",
        lambda: "\n".join(item("-") for _ in range(dice.randint(2, 12))),
        lambda: "\n".join(item(f"{n}.") for n in range(1, dice.randint(3, 12))),
        # A heading ends a list before it, of which it would be a paragraph.
        lambda: f"## {sentence()}\n\n" + "\n".join(f"    {n} = x" for n in range(99)),
    ]
    blocks = [dice.choice(kinds)() for _ in range(dice.randint(1, 30))]
    sizes = accumulate(len(block) + 2 for block in blocks)
    kept = [block for block, size in zip(blocks, sizes, strict=True) if size < 20_000]
    return "".join(block + dice.choice(["\n\n", "\n\n", "\n"]) for block in kept)


def _runs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """The leaf blocks of the texts; neighbours of one type are joined, white space left out."""
    leaves = [
        (token.type, re.sub(r"\s", "", token.content))
        for text in texts
        for token in MarkdownIt("commonmark").parse(text)
        if token.type in ("inline", "fence", "code_block", "html_block")
    ]
    return [
        (kind, "".join(content for _, content in run))
        for kind, run in groupby(leaves, key=lambda leaf: leaf[0])
    ]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_blocks_of_the_parts_are_those_of_the_text(seed: int) -> None:
    text = _document(Random(seed))

    assert _runs(split(text)) == _runs([text])


PROSE_2100 = " ".join(["prose"] * 350)


@pytest.mark.parametrize(
    "beginning",
    [
        "Here: ```py\nx = 1\n```\n",
        "- ```py\n  x = 1\n  ```\n",
        "Label:\n```py\nx = 1```\n",
        "```py\nx = 1\n``` and that is it.\n",
        "~~~\n",
    ],
)
def test_prose_behind_an_odd_fence_stays_prose(beginning: str) -> None:
    parts = split(f"{beginning}\n{PROSE_2100}")

    assert len(parts) == 2
    assert "```" not in parts[-1]
    assert "~~~" not in parts[-1]


def test_code_in_a_quotation_stays_code_in_a_quotation() -> None:
    code = "\n".join(f"> x = {number}" for number in range(500))
    parts = split(f"> ```py\n{code}\n> ```\nBehind it.")

    assert len(parts) == 3
    assert all(part.startswith("> ```py\n> x") for part in parts)
    assert all("\n> ```" in part for part in parts)
    assert parts[-1].endswith("\n> ```\nBehind it.")


def test_a_long_spoiler_is_closed_and_opened_again() -> None:
    parts = split(f"Careful: ||{PROSE_2100}|| over.")

    assert parts[0].startswith("Careful: ||prose")
    assert parts[0].endswith("||")
    assert parts[1].startswith("||")
    assert parts[1].endswith("|| over.")


def test_the_names_of_server_emoji_become_emoji_outside_code() -> None:
    emoji = {"party": "<:party:12>"}
    text = ":party: at 10:30:15 `:party:` <a:party:9> :other:\n```\n:party:\n```"

    assert with_emoji(text, emoji) == (
        "<:party:12> at 10:30:15 `:party:` <a:party:9> :other:\n```\n:party:\n```"
    )
