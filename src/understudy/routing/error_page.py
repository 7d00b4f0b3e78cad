"""Recognises an HTML error page that comes as the text of a reply."""

import re

from understudy.errors import BadReply, ErrorClass

PAGE_STARTS = ("<!doctype html", "<html")

_LONGEST = 4000
"""A page of which so many characters name no error is a page that was asked for."""
_NAMED = re.compile(r"</(?:title|h1)\s*>", re.IGNORECASE)
_HEADING = re.compile(r"<(title|h1)[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_UNSEEN = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_ERROR = re.compile(
    r"\b[45]\d\d\b|error|bad gateway|gateway time|forbidden|unavailable|not found|too many requests"
    r"|timed out|unauthori[sz]ed|access denied|just a moment|attention required|cloudflare|nginx",
    re.IGNORECASE,
)


class ErrorPageCheck:
    """Holds a text that begins as a page until its title or heading says what it is."""

    def __init__(self) -> None:
        self._text = ""

    def push(self, text: str) -> str:
        """Return the text to pass on, empty while it is not known. Raises `bad_body`."""
        self._text += text
        if len(self._text) < _LONGEST and _NAMED.search(self._text) is None:
            return ""
        headings = _HEADING.findall(self._text)
        self._refuse(" ".join(heading for _, heading in headings))
        return self._text

    def rest(self) -> str:
        """Return what is held at the end of the reply. Raises `bad_body`."""
        seen = _UNSEEN.sub(" ", self._text)
        self._refuse(seen if seen.strip() else "error")
        return self._text

    def _refuse(self, seen: str) -> None:
        if _ERROR.search(seen):
            raise BadReply(ErrorClass.BAD_BODY)
