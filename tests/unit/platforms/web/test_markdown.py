import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.platforms.web.markdown import blocks, close_open_markup


def html(text: str) -> str:
    return "".join(blocks(text))


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "[x](vbscript:x)",
        "[x](file:///etc/passwd)",
        "[x](//evil.example)",
        "<javascript:alert(1)>",
        "![x](javascript:alert(1))",
        "![x](https://evil.example/pixel.png)",
        "![<img src=x onerror=alert(1)>](https://evil.example)",
        '[x](https://a.example "onmouseover=alert(1)")',
        "```html\n<script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "| a |\n|:-:|\n| <b onclick=alert(1)>x</b> |",
        "&lt;script&gt;",
        "[x]: javascript:alert(1)\n\n[x]",
    ],
)
def test_html_of_a_model_is_never_rendered(attack: str) -> None:
    shown = html(attack).lower()

    assert "<script" not in shown
    assert "<img" not in shown
    assert "<b onclick" not in shown
    assert 'href="javascript' not in shown
    assert 'href="data' not in shown
    assert 'href="//' not in shown
    assert "style=" not in shown


def test_links_open_in_a_new_tab_without_referrer() -> None:
    assert html("[a](https://a.example/?b=1&c=2)") == (
        '<p><a href="https://a.example/?b=1&amp;c=2" target="_blank" '
        'rel="noopener noreferrer nofollow">a</a></p>\n'
    )


def test_an_image_becomes_a_link_with_its_description() -> None:
    shown = html("![A **cat**](https://a.example/cat.png)")

    assert 'href="https://a.example/cat.png"' in shown
    assert ">A **cat**</a>" in shown


def test_each_top_level_block_is_separate() -> None:
    text = "# Title\n\nOne\n\n- a\n- b\n\n```\ncode\n```\n\n---\n\n> quote"

    shown = blocks(text)

    assert [block[:4] for block in shown] == ["<h1>", "<p>O", "<ul>", "<pre", "<hr ", "<blo"]


def test_appended_text_does_not_change_finished_blocks() -> None:
    text = "First paragraph.\n\nSecond **one** here.\n\n1. a\n2. b\n\nThe end."

    for length in range(20, len(text)):
        assert blocks(close_open_markup(text[:length]))[0] == blocks(text)[0]


@pytest.mark.parametrize(
    ("unfinished", "shown"),
    [
        ("a **bold", "a **bold**"),
        ("a **", "a "),
        ("a *it", "a *it*"),
        ("a `co", "a `co`"),
        ("a `", "a "),
        ("see [the rules](https://a.exa", "see the rules"),
        ("~~gone", "~~gone~~"),
        ("whole **bold** text", "whole **bold** text"),
        ("* item", "* item"),
        ("```\na * b", "```\na * b"),
        ("one **open\n\ntwo", "one **open\n\ntwo"),
    ],
)
def test_open_markup_of_unfinished_text_is_closed(unfinished: str, shown: str) -> None:
    assert close_open_markup(unfinished) == shown


@given(st.text(alphabet="ab *_`~[]()!<>|#-\n\"'&:/\\", max_size=200))
def test_any_text_renders_without_active_html(text: str) -> None:
    for block in (*blocks(text), *blocks(close_open_markup(text))):
        assert "<script" not in block
        assert "<img" not in block


def test_the_end_of_a_very_long_reply_is_shown_as_plain_text() -> None:
    text = "a *b* " * 20_000 + "<script>"

    shown = blocks(text)

    assert shown[-1].startswith('<pre class="rest">')
    assert shown[-1].endswith("&lt;script&gt;</pre>")


@pytest.mark.parametrize("piece", ["[", "[a](", "*a **b ", "![a](b", "|a", "- ", "> ", "`a``b "])
def test_hostile_markdown_renders_in_linear_time(piece: str) -> None:
    text = piece * 20_000
    # Of this thread alone, and generous: quadratic work would take minutes.
    began = time.thread_time()
    blocks(close_open_markup(text))

    assert time.thread_time() - began < 8
