"""Footnotes of one message. Their links are buttons: the page's address names the conversation."""

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.footnote import footnote_plugin


def _number(token: Token) -> int:
    return int(token.meta["id"]) + 1


def _reference(
    _renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: OptionsDict,
    _env: EnvType,
) -> str:
    number = _number(tokens[index])
    return (
        f'<sup><button type="button" class="note-ref" data-note="{number}">{number}</button></sup>'
    )


def _opening(
    _renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: OptionsDict,
    _env: EnvType,
) -> str:
    return f'<li data-note="{_number(tokens[index])}" tabindex="-1" dir="auto">'


def _list_opening(
    _renderer: RendererHTML,
    _tokens: Sequence[Token],
    _index: int,
    _options: OptionsDict,
    _env: EnvType,
) -> str:
    return '<section class="footnotes" aria-label="Footnotes"><ol>\n'


def _nothing(
    _renderer: RendererHTML,
    _tokens: Sequence[Token],
    _index: int,
    _options: OptionsDict,
    _env: EnvType,
) -> str:
    return ""


def footnotes(parser: MarkdownIt) -> None:
    """Parses `[^1]`, and renders it without ids, which would repeat in each message."""
    parser.use(footnote_plugin, inline=False, move_to_end=True)
    for name, rule in (
        ("footnote_ref", _reference),
        ("footnote_block_open", _list_opening),
        ("footnote_open", _opening),
        ("footnote_anchor", _nothing),
    ):
        parser.add_render_rule(name, rule)
