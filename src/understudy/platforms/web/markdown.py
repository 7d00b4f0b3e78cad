"""Replies as HTML: markdown without raw HTML or remote images, in blocks that can be streamed."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_SCHEMES = frozenset({"http", "https", "mailto"})
_ALIGNED = re.compile(r"text-align:(left|center|right)")
MAX_RENDERED = 60_000
"""Characters that are rendered as markdown; the rest is shown as plain text. Rendering takes
about a millisecond per thousand characters and blocks the event loop."""

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
    """An image becomes a link: loading it would reveal the reader to a foreign server."""
    opening = Token("link_open", "a", 1, attrs={"href": image.attrGet("src") or ""})
    name = Token("text", "", 0, content=image.content or "image")
    return [opening, name, Token("link_close", "a", -1)]


def _sanitize(tokens: Sequence[Token]) -> Iterator[Token]:
    """Links open in a new tab without a referrer; styles become classes, because the page's
    Content-Security-Policy forbids inline styles."""
    for token in tokens:
        if token.children:
            token.children = list(_sanitize(token.children))
        for clean in _as_link(token) if token.type == "image" else [token]:
            if clean.type == "link_open":
                clean.attrSet("target", "_blank")
                clean.attrSet("rel", "noopener noreferrer nofollow")
            if aligned := _ALIGNED.search(str(clean.attrs.pop("style", ""))):
                clean.attrSet("class", f"to-{aligned[1]}")
            yield clean


def _groups(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        group.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield group
            group = []


def blocks(text: str) -> tuple[str, ...]:
    """The top-level blocks of `text` as safe HTML. Appended text changes the last ones only."""
    tokens = list(_sanitize(_MARKDOWN.parse(text[:MAX_RENDERED])))
    rendered = [
        _MARKDOWN.renderer.render(group, _MARKDOWN.options, {}) for group in _groups(tokens)
    ]
    if len(text) > MAX_RENDERED:
        rendered.append(f'<pre class="rest">{escape(text[MAX_RENDERED:])}</pre>')
    return tuple(rendered)


def close_open_markup(text: str) -> str:
    """Unfinished text with its open emphasis, code or link closed, so that a page does not show
    single asterisks until the closing ones arrive."""
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
    """Close the mark, or remove it where no text follows it yet."""
    bare = text.rstrip()
    if bare.endswith(mark):
        return bare.removesuffix(mark)
    return bare + mark
