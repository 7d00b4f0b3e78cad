import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.platforms.web.markdown import blocks


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
        '<p dir="auto"><a href="https://a.example/?b=1&amp;c=2" target="_blank" '
        'rel="noopener noreferrer nofollow">a</a></p>\n'
    )


def test_an_image_becomes_a_link_with_its_description() -> None:
    shown = html("![A **cat**](https://a.example/cat.png)")

    assert 'href="https://a.example/cat.png"' in shown
    assert ">A **cat**</a>" in shown


def test_each_top_level_block_is_separate() -> None:
    text = "# Title\n\nOne\n\n- a\n- b\n\n```\ncode\n```\n\n---\n\n> quote"

    shown = blocks(text)

    assert [block[:3] for block in shown] == ["<h1", "<p ", "<ul", "<pr", "<hr", "<bl"]


def test_appended_text_does_not_change_finished_blocks() -> None:
    text = "First paragraph.\n\nSecond **one** here.\n\n1. a\n2. b\n\nThe end."

    for length in range(20, len(text)):
        assert blocks(text[:length], unfinished=True)[0] == blocks(text)[0]


@pytest.mark.parametrize(
    ("unfinished", "as_if"),
    [
        ("a **bold", "a **bold**"),
        ("a **bold*", "a **bold**"),
        ("a ***both", "a ***both***"),
        ("a **", "a "),
        ("a *it", "a *it*"),
        ("a `co", "a `co`"),
        ("a `", "a "),
        ("see [the rules](https://a.exa", "see the rules"),
        ("~~gone", "~~gone~~"),
        ("~~gone~", "~~gone~~"),
        ("whole **bold** text", "whole **bold** text"),
        ("* item", "* item"),
        ("- **item", "- **item**"),
        ("```\na * b", "```\na * b"),
        ("~~~\na * b", "~~~\na * b"),
        ("one **open\n\ntwo", "one **open\n\ntwo"),
        ("2 * 3", "2 * 3"),
        ("2 *", "2 "),
        ("5*3 is 15", "5*3 is 15"),
        ("A list:\n-", "A list:"),
        ("| a | b |\n|--|--|\n| **x", "| a | b |\n|--|--|\n| **x** |"),
    ],
)
def test_open_markup_of_unfinished_text_is_closed(unfinished: str, as_if: str) -> None:
    assert "".join(blocks(unfinished, unfinished=True)).split() == html(as_if).split()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("**“重点”**的", "<strong>“重点”</strong>的"),
        ("这是**重点（A）**。", "<strong>重点（A）</strong>"),
        ("https://a.example/x?b=1.", '<a href="https://a.example/x?b=1"'),
        ("main.py", '<p dir="auto">main.py</p>'),
        ("| a |\n|--|\n| x<br>y |", "<td>x<br />"),
        ("$x^2$ for $5 and $10", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("$5 and $10", '<p dir="auto">$5 and $10</p>'),
        ("$$\n\\int_0^1 x\n$$", '<math display="block">'),
        ("\\(a<b\\)", "<mi>a</mi><mo>&lt;</mo>"),
        ("$\\text{<script>}$", "<mtext>&lt;script&gt;</mtext>"),
        ("- [x] a", 'aria-label="done"'),
        ("x[^1]\n\n[^1]: note", '<li data-note="1"'),
        ("```python\nx < 1\n```", 'data-language="python"><code>x &lt; 1'),
        ("```unknown\n<b>\n```", '<pre dir="ltr" tabindex="0" data-language="unknown">'),
        ("مرحبا", '<p dir="auto">'),
    ],
)
def test_markup_that_people_expect_is_rendered(text: str, part: str) -> None:
    assert part in html(text)


def test_no_message_has_ids_or_anchors_that_collide_with_others() -> None:
    shown = html("# Title\n\nx[^1] y[^1]\n\n[^1]: note")

    assert " id=" not in shown
    assert "href=" not in shown


@given(st.text(alphabet="\\abx{}^_$&%#~[]() \n12<>|", max_size=60))
def test_any_formula_renders_or_is_shown_as_code(tex: str) -> None:
    for block in blocks(f"${tex}$"):
        assert "<script" not in block


@given(st.text(alphabet="ab *_`~[]()!<>|#-\n\"'&:/\\", max_size=200))
def test_any_text_renders_without_active_html(text: str) -> None:
    for block in (*blocks(text), *blocks(text, unfinished=True)):
        assert "<script" not in block
        assert "<img" not in block


def test_the_end_of_a_very_long_reply_is_shown_as_plain_text() -> None:
    text = "word " * 12_100 + "<script>"

    shown = blocks(text)

    assert shown[-1].startswith('<pre class="rest">')
    assert shown[-1].endswith("&lt;script&gt;</pre>")


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "[",
        "[a](",
        "*a **b ",
        "![a](b",
        "|a",
        "- ",
        "> ",
        "`a``b ",
        "$a ",
        "$$",
        "\\(",
        "\\[a",
        "http://",
        "[^1]",
        "[^",
        "- [ ] ",
        "~~a ",
        "```\n",
        "$\\frac{",
        "<br",
        "**重",
    ],
)
def test_hostile_markdown_renders_in_linear_time(piece: str) -> None:
    small, large = (piece * (size // len(piece)) for size in (3_000, 24_000))

    # Eight times the text: quadratic work takes 64 times as long.
    limit_s = 24 * min(cpu_time_s(small) for _ in range(3))
    assert any(cpu_time_s(large) < limit_s for _ in range(3))


def cpu_time_s(text: str) -> float:
    """Of this thread alone, so that other programs do not count."""
    began = time.thread_time()
    blocks(text, unfinished=True)
    return time.thread_time() - began
