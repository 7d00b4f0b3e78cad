"""Replies as HTML: markdown without raw HTML and remote images, in blocks that can be streamed."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_SCHEMES = frozenset({"http", "https", "mailto"})
_ALIGNED = re.compile(r"text-align:(left|center|right)")
RENDERED = 60_000
"""Characters that are read as markdown; what comes after stands as it was written. Rendering
takes about a millisecond per thousand, and nothing else runs meanwhile."""

_TAIL = 400
_OPEN_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\s]*$")


def _is_safe_link(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    parser.validateLink = _is_safe_link  # type: ignore[method-assign]
    return parser


_MARKDOWN = _parser()


def _as_link(image: Token) -> list[Token]:
    """An image becomes a link: fetching it would tell a stranger's server who reads this."""
    opening = Token("link_open", "a", 1, attrs={"href": image.attrGet("src") or ""})
    name = Token("text", "", 0, content=image.content or "image")
    return [opening, name, Token("link_close", "a", -1)]


def _tame(tokens: Sequence[Token]) -> Iterator[Token]:
    """Links open outside and tell nobody where they were clicked; styles become classes, because
    the page allows no inline style."""
    for token in tokens:
        if token.children:
            token.children = list(_tame(token.children))
        for tamed in _as_link(token) if token.type == "image" else [token]:
            if tamed.type == "link_open":
                tamed.attrSet("target", "_blank")
                tamed.attrSet("rel", "noopener noreferrer nofollow")
            if aligned := _ALIGNED.search(str(tamed.attrs.pop("style", ""))):
                tamed.attrSet("class", f"to-{aligned[1]}")
            yield tamed


def _groups(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield group
            group = []


def blocks(text: str) -> tuple[str, ...]:
    """The top-level blocks of `text` as safe HTML. Text that grows changes the last ones only."""
    tokens = list(_tame(_MARKDOWN.parse(text[:RENDERED])))
    rendered = [
        _MARKDOWN.renderer.render(group, _MARKDOWN.options, {}) for group in _groups(tokens)
    ]
    if len(text) > RENDERED:
        rendered.append(f'<pre class="rest">{escape(text[RENDERED:])}</pre>')
    return tuple(rendered)


def mended(text: str) -> str:
    """Unfinished text with the emphasis, code or link it is just writing closed, so that the page
    shows no loose asterisks for the moment it takes to write the second ones."""
    if text.count("```") % 2:
        return text
    head, gap, last = text.rpartition("\n\n")
    last = last[:-_TAIL] + _OPEN_LINK.sub(r"\1", last[-_TAIL:])
    if last.count("`") % 2:
        return head + gap + _closed(last, "`")
    for mark in ("**", "~~"):
        if last.count(mark) % 2:
            last = _closed(last, mark)
    if last.replace("**", "").count("*") % 2 and not last.lstrip().startswith("* "):
        last = _closed(last, "*")
    return head + gap + last


def _closed(text: str, mark: str) -> str:
    """Close the mark, or leave it out where nothing follows it yet."""
    bare = text.rstrip()
    if bare.endswith(mark):
        return bare.removesuffix(mark)
    return bare + mark
