"""Closes the open markup of text that is still being written."""

import re
from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

_TAIL = 400
_OPEN_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*$")
_MARK_WITHOUT_TEXT = re.compile(r"(?:\s+|\A)[*_~`]+\Z")
_UNDERLINE = re.compile(r"\n {0,3}(?:-+|=+) *\Z")
_BACKTICKS = re.compile(r"`+")
_LEAVES = frozenset({"fence", "code_block", "hr", "formula_block"})


def without_underline(text: str) -> str:
    """Without a last line of dashes: it would make the line above a heading for a moment, though
    most often a list or a table begins there."""
    return _UNDERLINE.sub("\n", text)


def close_open_markup(state: StateCore) -> None:
    """A core rule that runs before inline markup is parsed."""
    if not state.env.get("unfinished"):
        return
    last = _last_inline(state.tokens)
    if last is not None:
        last.content = _closed(last.content)


def _last_inline(tokens: Sequence[Token]) -> Token | None:
    """The text that is being written; None where it is code or a formula."""
    for token in reversed(tokens):
        if token.type == "inline" and token.content:
            return token
        if token.type in _LEAVES:
            return None
    return None


def _closed(text: str) -> str:
    text = text[:-_TAIL] + _OPEN_LINK.sub(r"\1", text[-_TAIL:])
    text = _MARK_WITHOUT_TEXT.sub("", text)
    if mark := _open_code(text):
        text += mark
    env: dict[str, list[str]] = {}
    _PROBE.parseInline(text, env)
    for mark in reversed(env.get("open", [])):
        if mark == "~~" and text.endswith("~") and not text.endswith("~~"):
            text = text[:-1]
        text = text.rstrip() + mark
    return text


def _open_code(text: str) -> str:
    """The backticks that open a code span at the end of the text."""
    opened = ""
    for run in _BACKTICKS.findall(text):
        if not opened:
            opened = run
        elif run == opened:
            opened = ""
    return opened


def _collect_open(state: StateInline) -> None:
    """Inline rule after the delimiters were paired: keeps those that open and have no partner."""
    for delimiter in state.delimiters:
        position = delimiter.token
        before = state.tokens[position - 1].content[-1:] if position else ""
        in_word = before.isascii() and before.isalnum()
        if delimiter.open and delimiter.end == -1 and not in_word:
            state.env.setdefault("open", []).append(
                chr(delimiter.marker) * _WIDTH[delimiter.marker]
            )


_WIDTH = {ord("*"): 1, ord("_"): 1, ord("~"): 2}


def _probe() -> MarkdownIt:
    probe = MarkdownIt("commonmark", {"html": False}).enable("strikethrough")
    probe.inline.ruler2.after("balance_pairs", "collect_open", _collect_open)
    return probe


_PROBE = _probe()
