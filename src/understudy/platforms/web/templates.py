"""HTML pages from the package, filled with escaped values."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
ASSETS = HERE / "assets"


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the pages show of the bot. It is read for each page, because the configuration can
    change while the site is open."""

    name: str
    max_images: int = 0
    """Images per message; 0 where vision is off."""
    max_files: int = 0
    """Text and PDF files per message; 0 where they are not read."""
    proposes: bool = False
    """Whether notes are proposed."""


def page(name: str, /, *, status: int = 200, **values: str) -> HTMLResponse:
    """The template `pages/<name>.html` with its `$names` replaced by escaped values, and `$head` by
    the beginning that all pages share."""
    escaped = {key: escape(value) for key, value in values.items()}
    html = Template(_read(name)).substitute(escaped, head=_read("head").rstrip())
    return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})


def _read(name: str) -> str:
    return (HERE / "pages" / f"{name}.html").read_text(encoding="utf-8")
