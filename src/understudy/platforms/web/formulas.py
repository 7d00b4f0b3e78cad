"""Formulas in TeX notation as MathML, which browsers draw without a library."""

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape, unescape
from xml.etree.ElementTree import Element, tostring

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

MAX_FORMULA = 1000
"""Characters; longer ones are shown as they were written."""

_TAGS = frozenset(
    {
        "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "mfrac", "msqrt", "mroot",
        "msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts",
        "mprescripts", "mtable", "mtr", "mtd", "mpadded", "mphantom", "mstyle", "merror",
        "menclose", "none",
    }
)  # fmt: skip
_ATTRIBUTES = frozenset(
    {
        "display", "displaystyle", "scriptlevel", "mathvariant", "stretchy", "fence", "separator",
        "accent", "accentunder", "symmetric", "largeop", "movablelimits", "form", "lspace",
        "rspace", "minsize", "maxsize", "linethickness", "columnalign", "columnspacing",
        "rowspacing", "columnlines", "rowlines", "width", "height", "depth", "notation",
    }
)  # fmt: skip
_MARKS = (("$$", "$$", True), ("\\[", "\\]", True), ("\\(", "\\)", False), ("$", "$", False))
_BLOCK_END = {"$$": "$$", "\\[": "\\]"}
_NESTING = re.compile(r"\\(?:begin|left|frac|sqrt|over)")
_MAX_NESTING = 200


def formulas(parser: MarkdownIt) -> None:
    """Parses `$…$`, `\\(…\\)`, `$$…$$` and `\\[…\\]`."""
    parser.inline.ruler.before("escape", "formula_inline", _inline)
    parser.block.ruler.before(
        "fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.add_render_rule("formula_inline", _render)
    parser.add_render_rule("formula_block", _render)


def _inline(state: StateInline, silent: bool) -> bool:  # noqa: FBT001 - the parser's signature
    source, start = state.src, state.pos
    for opening, closing, display in _MARKS:
        if not source.startswith(opening, start):
            continue
        begin = start + len(opening)
        end = source.find(closing, begin, begin + MAX_FORMULA)
        if end <= begin or not _is_formula(source, start, end, opening):
            return False
        if not silent:
            token = state.push("formula_inline", "math", 0)
            token.content = source[begin:end]
            token.meta = {"display": display}
        state.pos = end + len(closing)
        return True
    return False


def _is_formula(source: str, start: int, end: int, opening: str) -> bool:
    """A single dollar is most often money: no space inside, no digit outside."""
    if opening != "$":
        return True
    outside = source[start - 1 : start] + source[end + 1 : end + 2]
    inside = source[start + 1] + source[end - 1]
    return not (any(map(str.isdigit, outside)) or any(map(str.isspace, inside)))


def _block(state: StateBlock, begin: int, end: int, silent: bool) -> bool:  # noqa: FBT001
    """A formula on lines of its own."""
    start = state.bMarks[begin] + state.tShift[begin]
    closing = _BLOCK_END.get(state.src[start : start + 2])
    if closing is None or state.is_code_block(begin):
        return False
    stop = state.src.find(closing, start + 2, start + 2 + MAX_FORMULA)
    line = begin
    while line < end and state.eMarks[line] < stop + 2:
        line += 1
    if stop < 0 or line >= end or state.src[stop + 2 : state.eMarks[line]].strip():
        return False
    if not silent:
        token = state.push("formula_block", "math", 0)
        token.content = state.src[start + 2 : stop]
        token.meta = {"display": True}
        token.map = [begin, line + 1]
        state.line = line + 1
    return True


def _render(
    _renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    _options: OptionsDict,
    _env: EnvType,
) -> str:
    token = tokens[index]
    html = _mathml(token.content.strip(), display=bool(token.meta["display"]))
    return f"<p>{html}</p>\n" if token.type == "formula_block" else html


@lru_cache(maxsize=256)
def _mathml(tex: str, *, display: bool) -> str:
    root = _converted(tex, display)
    if root is None:
        return f"<code>{escape(tex)}</code>"
    _sanitize(root)
    return tostring(root, encoding="unicode")


def _converted(tex: str, display: bool) -> Element | None:  # noqa: FBT001
    # Imported here: most processes never meet a formula.
    from latex2mathml import exceptions
    from latex2mathml.converter import convert_to_element

    own_errors = tuple(
        error
        for error in vars(exceptions).values()
        if isinstance(error, type) and issubclass(error, Exception)
    )
    if tex.count("{") + len(_NESTING.findall(tex)) > _MAX_NESTING:
        return None
    try:
        return convert_to_element(tex, display="block" if display else "inline")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        # What its parser runs into with text that is no TeX.
        return None
    except own_errors:
        return None


def _sanitize(root: Element) -> None:
    """Keep MathML's own elements and attributes that neither link nor style."""
    for element in root.iter():
        if element.tag not in _TAGS:
            element.tag = "mtext"
        element.attrib = {k: v for k, v in element.attrib.items() if k in _ATTRIBUTES}
        # The converter's symbols are entities, which it expects to be unescaped at the end.
        element.text = unescape(element.text) if element.text else None
        element.tail = unescape(element.tail) if element.tail else None
