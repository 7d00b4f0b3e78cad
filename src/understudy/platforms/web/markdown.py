"""Messages as HTML: markdown without raw HTML or remote images, in blocks that can be streamed."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter
from markdown_it.token import Token
from mdit_py_plugins.tasklists import tasklists_plugin

from understudy.platforms.web.footnotes import footnotes
from understudy.platforms.web.formulas import formulas
from understudy.platforms.web.unfinished_markdown import close_open_markup, without_underline

_SCHEMES = frozenset({"http", "https", "mailto"})
_ALIGNED = re.compile(r"text-align:(left|center|right)")
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
MAX_RENDERED = 60_000
"""Characters that are rendered as markdown; the rest is shown as plain text. Rendering takes
about a millisecond per thousand characters and blocks the event loop."""

_CJK = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fff\u3001-\u303f\u3040-\u30ff\u3100-\u312f\u3130-\u318f"
    "\u31c0-\u31ff\u3200-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003ffff]"
)


def _is_safe_link(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _code_block(code: str, language: str, _attributes: str) -> str:
    """A fenced block; the page adds its colours and its copy button."""
    label = f' data-language="{escape(language[:40])}"' if language else ""
    return f'<pre dir="ltr" tabindex="0"{label}><code>{escape(code)}</code></pre>\n'


def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark",
        {"html": False, "breaks": True, "linkify": True, "highlight": _code_block},
    )
    parser.enable(["table", "strikethrough", "linkify"])
    assert parser.linkify is not None
    # Only addresses with a scheme: "main.py" is a file, not a host in Paraguay.
    parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False})
    parser.validateLink = _is_safe_link  # type: ignore[method-assign]
    parser.inline.ruler.at("emphasis", _emphasis)
    parser.use(tasklists_plugin)
    formulas(parser)
    footnotes(parser)
    parser.core.ruler.before("inline", "close_open_markup", close_open_markup)
    return parser


def _emphasis(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - the parser's signature
    """Emphasis marks, also between Chinese, Japanese or Korean text and punctuation.

    CommonMark's flanking rules expect spaces between words, which these scripts do not use.
    """
    marker = state.src[state.pos]
    if silent or marker not in "_*":
        return False
    scanned = state.scanDelims(state.pos, marker == "*")
    can_open, can_close = scanned.can_open, scanned.can_close
    if marker == "*":
        before = state.src[state.pos - 1] if state.pos else " "
        end = state.pos + scanned.length
        after = state.src[end] if end < state.posMax else " "
        can_open = can_open or (_is_punctuation(after) and bool(_CJK.match(before)))
        can_close = can_close or (_is_punctuation(before) and bool(_CJK.match(after)))
    for _ in range(scanned.length):
        token = state.push("text", "", 0)
        token.content = marker
        state.delimiters.append(
            Delimiter(
                marker=ord(marker),
                length=scanned.length,
                token=len(state.tokens) - 1,
                end=-1,
                open=can_open,
                close=can_close,
            )
        )
    state.pos += scanned.length
    return True


def _is_punctuation(char: str) -> bool:
    return not isWhiteSpace(ord(char)) and (isMdAsciiPunct(ord(char)) or isPunctChar(char))


_MARKDOWN = _parser()


def _as_link(image: Token) -> list[Token]:
    """An image becomes a link: loading it would reveal the reader to a foreign server."""
    opening = Token("link_open", "a", 1, attrs={"href": image.attrGet("src") or ""})
    name = Token("text", "", 0, content=image.content or "image")
    return [opening, name, Token("link_close", "a", -1)]


def _with_line_breaks(children: Sequence[Token]) -> Iterator[Token]:
    """`<br>`, the only way to break a line in a cell of a table, as a line break."""
    for child in children:
        if child.type != "text" or "<" not in child.content:
            yield child
            continue
        for number, part in enumerate(_LINE_BREAK.split(child.content)):
            if number:
                yield Token("hardbreak", "br", 0)
            yield Token("text", "", 0, content=part)


def _sanitize(tokens: Sequence[Token]) -> Iterator[Token]:
    """Links open in a new tab without a referrer; styles become classes, because the page's
    Content-Security-Policy forbids inline styles; each block finds its own text direction."""
    in_cell = False
    for token in tokens:
        in_cell = token.type in ("td_open", "th_open") or (in_cell and token.type == "inline")
        if token.children:
            children = _with_line_breaks(token.children) if in_cell else token.children
            token.children = list(_sanitize(list(children)))
        if token.block and token.level == 0 and token.nesting == 1:
            token.attrSet("dir", "auto")
        for clean in _as_link(token) if token.type == "image" else [token]:
            if clean.type == "html_inline":  # the parser makes these for task lists only
                done = "checked" in clean.content
                label = "done" if done else "not done"
                clean.content = clean.content.replace("<input", f'<input aria-label="{label}"')
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


def blocks(text: str, *, unfinished: bool = False) -> tuple[str, ...]:
    """The top-level blocks of `text` as safe HTML. Appended text changes the last ones only.

    Open markup of `unfinished` text is closed, so that a page does not show single asterisks
    until the closing ones arrive.
    """
    source = text[:MAX_RENDERED]
    env = {"unfinished": unfinished}
    tokens = list(
        _sanitize(_MARKDOWN.parse(without_underline(source) if unfinished else source, env))
    )
    rendered = [
        _MARKDOWN.renderer.render(group, _MARKDOWN.options, env) for group in _groups(tokens)
    ]
    if len(text) > MAX_RENDERED:
        rendered.append(f'<pre class="rest">{escape(text[MAX_RENDERED:])}</pre>')
    return tuple(rendered)
