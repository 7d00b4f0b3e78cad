"""The pages themselves: HTML from the package, filled with a few plain words."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

from starlette.responses import HTMLResponse

HERE = Path(__file__).parent
ASSETS = HERE / "assets"


@dataclass(frozen=True, slots=True)
class PageContext:
    """What the pages show of the bot. It is asked anew for each page: the configuration changes
    while they are served."""

    name: str
    takes_images: bool = False


def page(name: str, /, *, status: int = 200, **words: str) -> HTMLResponse:
    """The template `pages/<name>.html` with its `$words`, all of them escaped."""
    template = Template((HERE / "pages" / f"{name}.html").read_text(encoding="utf-8"))
    html = template.substitute({key: escape(word) for key, word in words.items()})
    return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})
